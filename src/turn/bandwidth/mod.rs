//! How many bits a second are relayed at most: of an allocation, of a user and of the whole server.
//!
//! Each way is limited for itself. Bursts of half a second pass, and the last eighth of a second of each
//! limit is kept for small packets, so that voice survives when video is too much. When the whole server's
//! limit is reached, users get equal shares, and what one does not use is lent to the others.
//!
//! A shard decides by integers of its own. What concerns all shards, a user's limit and the whole server's,
//! it draws in leases of two milliseconds' worth.

mod admit;
mod bucket;
mod fair_share;
mod lease;
mod metering;
mod stream;

use std::num::NonZeroU64;

pub(super) use bucket::Bucket;
pub(super) use metering::{Metering, SharedMeters, UserPlace};
pub(super) use stream::{BoundMeter, StreamMeter};

use super::stats::Direction;
use crate::time::Instant;

/// The operator's limits on relayed application data, in bits per second each way; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Of one allocation.
    pub per_allocation: Option<NonZeroU64>,
    /// Of all allocations of one user together.
    pub per_user: Option<NonZeroU64>,
    /// Of the whole server.
    pub total: Option<NonZeroU64>,
}

impl Bandwidth {
    const fn is_unlimited(&self) -> bool {
        self.per_allocation.is_none() && self.per_user.is_none() && self.total.is_none()
    }
}

/// What an allocation is measured by.
#[derive(Debug, Default)]
pub(super) struct AllocationMeter {
    /// By direction.
    buckets: [Bucket; 2],
    /// Where its user is measured; none before its first measured packet.
    user: Option<UserPlace>,
}

/// A packet to be measured.
#[derive(Clone, Copy, Debug)]
struct Packet {
    direction: Direction,
    bytes: u64,
    at: Instant,
}

/// Bytes per second of a limit in bits per second; at least one.
const fn bytes_per_second(limit: NonZeroU64) -> u64 {
    limit.get().div_ceil(8)
}
