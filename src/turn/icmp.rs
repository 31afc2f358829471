//! ICMP errors, as the ICMP attribute carries them (RFC 8656 §18.13).

use std::net::IpAddr;

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The type; its meaning depends on the family.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The MTU of the next hop in bytes, where the error is that a datagram was too large for it.
    pub mtu: u32,
}

impl Icmp {
    /// Whether errors of this type about a datagram to `peer` are relayed.
    pub(super) fn is_relayed(self, peer: IpAddr) -> bool {
        match peer {
            IpAddr::V4(_) => matches!(self.kind, 3 | 11),
            IpAddr::V6(_) => matches!(self.kind, 1..=3),
        }
    }

    /// The value of the ICMP attribute.
    pub(super) fn value(self, peer: IpAddr) -> [u8; 8] {
        let is_too_large = match peer {
            IpAddr::V4(_) => (self.kind, self.code) == (3, 4),
            IpAddr::V6(_) => self.kind == 2,
        };
        let data = if is_too_large { self.mtu } else { 0 };
        let [a, b, c, d] = data.to_be_bytes();
        [0, 0, self.kind, self.code, a, b, c, d]
    }
}
