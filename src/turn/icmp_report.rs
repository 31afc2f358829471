//! ICMP errors that a relayed datagram met, told to its client (RFC 8656 §11.5).

use std::net::SocketAddr;
use std::time::Duration;

use super::allocation::Allocation;
use super::allocation_key::AllocationKey;
use super::icmp::Icmp;
use super::server::Server;
use super::stats::Counter;
use crate::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use crate::time::{Instant, Now};

/// One allocation is told of ten errors in a second; a peer that answers every packet with one does not
/// double the traffic.
const COST: Duration = Duration::from_millis(100);
const BURST: Duration = Duration::from_secs(1);

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
