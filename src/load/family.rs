//! Of which family a relayed transport address is asked for.

use std::net::IpAddr;

/// What a relayed transport address is to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4, which is what servers give unasked.
    V4,
    /// IPv6 (REQUESTED-ADDRESS-FAMILY, RFC 8656 §18.10).
    V6,
}

impl Family {
    /// That of `ip`.
    pub(super) const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}
