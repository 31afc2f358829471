//! Checks how long things live and how much of everything there may be.

use std::num::NonZeroU64;
use std::time::Duration;

use super::draft::{DraftBandwidth, DraftLifetimes, DraftLimits, Key, Located, or};
use super::report::Report;
use super::units::show_duration;
use crate::turn::{Bandwidth, Lifetimes, Limits};

/// The lifetimes that `draft` means.
pub(super) fn check_lifetimes(draft: &DraftLifetimes, report: &mut Report) -> Lifetimes {
    let default = Lifetimes::default();
    let lifetimes = Lifetimes {
        allocation: or(&draft.allocation, default.allocation),
        allocation_max: or(&draft.allocation_max, default.allocation_max),
        permission: or(&draft.permission, default.permission),
        channel: or(&draft.channel, default.channel),
        nonce: or(&draft.nonce, default.nonce),
    };
    check_allocation_max(&lifetimes, draft, report);
    warn_unlike_rfc(&draft.permission, default.permission, "RFC 8656 §9", report);
    warn_unlike_rfc(&draft.channel, default.channel, "RFC 8656 §12", report);
    lifetimes
}

fn check_allocation_max(lifetimes: &Lifetimes, draft: &DraftLifetimes, report: &mut Report) {
    if lifetimes.allocation_max >= lifetimes.allocation {
        return;
    }
    let Some(written) = draft.allocation_max.as_ref().or(draft.allocation.as_ref()) else {
        return;
    };
    let (allocation, max) = (
        show_duration(lifetimes.allocation),
        show_duration(lifetimes.allocation_max),
    );
    let what = format!(
        "allocation ({allocation}) is over allocation_max ({max}); set allocation_max to {allocation} or more"
    );
    report.error(&written.spot, what);
}

/// Clients refresh by the fixed times of the RFC.
fn warn_unlike_rfc(key: &Key<Duration>, fixed: Duration, section: &str, report: &mut Report) {
    if let Some(Located { value, spot }) = key.as_ref().filter(|key| key.value != fixed) {
        let (value, fixed) = (show_duration(*value), show_duration(fixed));
        report.warning(
            spot,
            format_args!("{value} is for tests; clients count on {fixed} ({section})"),
        );
    }
}

/// The limits that `draft` means.
pub(super) fn check_limits(draft: &DraftLimits, report: &mut Report) -> Limits {
    let default = Limits::default();
    warn_stun_only(draft.allocations.as_ref(), report);
    Limits {
        allocations: or(&draft.allocations, default.allocations),
        allocations_per_user: or(&draft.allocations_per_user, default.allocations_per_user),
        allocations_per_source: or(
            &draft.allocations_per_source,
            default.allocations_per_source,
        ),
        permissions_per_allocation: or(
            &draft.permissions_per_allocation,
            default.permissions_per_allocation,
        ),
        channels_per_allocation: or(
            &draft.channels_per_allocation,
            default.channels_per_allocation,
        ),
        peer_connections_per_allocation: or(
            &draft.peer_connections_per_allocation,
            default.peer_connections_per_allocation,
        ),
        reflection_bytes_per_second: or(
            &draft.reflection_bytes_per_second,
            default.reflection_bytes_per_second,
        ),
    }
}

/// The bandwidth that `draft` means.
pub(super) fn check_bandwidth(draft: &DraftBandwidth) -> Bandwidth {
    let limit = |key: &Key<u64>| key.as_ref().and_then(|key| NonZeroU64::new(key.value));
    Bandwidth {
        per_allocation: limit(&draft.per_allocation),
        per_user: limit(&draft.per_user),
        total: limit(&draft.total),
    }
}

fn warn_stun_only(allocations: Option<&Located<u32>>, report: &mut Report) {
    if let Some(Located { spot, .. }) = allocations.filter(|key| key.value == 0) {
        report.warning(
            spot,
            "0 is none, not unlimited: the server answers STUN and refuses every allocation",
        );
    }
}
