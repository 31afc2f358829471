//! ICMP errors that a relayed datagram met, told to its client (RFC 8656 §11.5, §18.13).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::allocation::{Allocation, AllocationKey};
use super::server::Server;
use super::stats::Counter;
use crate::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use crate::time::{Instant, Now};

/// One allocation is told of ten errors in a second; a peer that answers every packet with one does not
/// double the traffic.
const COST: Duration = Duration::from_millis(100);
const BURST: Duration = Duration::from_secs(1);

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
    fn is_relayed(self, peer: IpAddr) -> bool {
        match peer {
            IpAddr::V4(_) => matches!(self.kind, 3 | 11),
            IpAddr::V6(_) => matches!(self.kind, 1..=3),
        }
    }

    /// The value of the ICMP attribute.
    fn value(self, peer: IpAddr) -> [u8; 8] {
        let is_too_large = match peer {
            IpAddr::V4(_) => (self.kind, self.code) == (3, 4),
            IpAddr::V6(_) => self.kind == 2,
        };
        let data = if is_too_large { self.mtu } else { 0 };
        let [a, b, c, d] = data.to_be_bytes();
        [0, 0, self.kind, self.code, a, b, c, d]
    }
}

impl Server {
    /// Tells the client that a datagram of its allocation to `peer` met `error`, when it has a permission
    /// for that peer.
    pub(super) fn icmp(&mut self, now: Now, key: AllocationKey, peer: SocketAddr, error: Icmp) {
        let peer = self.public_face(peer);
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let is_permitted = allocation.permissions.get(peer.ip(), now.instant).is_some();
        let is_live = allocation.is_live() && allocation.expires > now.instant;
        if !(is_live && is_permitted && error.is_relayed(peer.ip())) {
            return;
        }
        if !has_allowance(allocation, now.instant) {
            return;
        }
        let client = allocation.client;
        let transaction = TransactionId(self.random.bytes());
        let mut builder = MessageBuilder::new(
            &mut self.response,
            Class::Indication,
            Method::DATA,
            transaction,
        );
        builder
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::ICMP, &error.value(peer.ip()));
        self.respond_to = Some(client);
        self.stats.increment(Counter::IcmpReports);
    }
}

/// A leaky bucket; see [`COST`].
fn has_allowance(allocation: &mut Allocation, now: Instant) -> bool {
    let next = allocation.icmp_recovered.max(now) + COST;
    let allows = next.since(now) <= BURST;
    if allows {
        allocation.icmp_recovered = next;
    }
    allows
}
