//! TCP allocations: how their peer data connections begin and end (RFC 6062 §5).

use std::net::SocketAddr;
use std::sync::Arc;

use super::allocation::Allocation;
use super::allocation_key::AllocationKey;
use super::exchange::Action;
use super::five_tuple::Family;
use super::live_relays::{Destination, LiveRelays};
use super::peer_connection::{BIND_TIMEOUT, PeerConnection, PeerConnections, Stage};
use super::peer_connection_id::PeerConnectionId;
use super::reply::{Refusal, Reply, Signature, Success};
use super::server::{Server, Shared};
use super::stats::{Counter, PeerEnd, PeerOrigin};
use crate::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use crate::time::{Instant, Now};

impl Shared {
    /// The live relayed addresses of one kind: a port that is UDP's relay is no TCP relay.
    pub(super) const fn live_relays(&self, is_tcp: bool) -> &LiveRelays {
        if is_tcp { &self.live_tcp } else { &self.live }
    }
}

impl Server {
    /// Handles a connection that `from` has opened to the TCP relay of the allocation: the id under which
    /// it waits for its client, or none when it is to be closed at once (RFC 6062 §5.3).
    pub fn handle_peer_connection(
        &mut self,
        now: Now,
        at: AllocationKey,
        from: SocketAddr,
    ) -> Option<PeerConnectionId> {
        let opened = Counter::PeerConnectionsOpened(PeerOrigin::Accept);
        self.stats.increment(opened);
        let peer = self.shared.live_tcp.public_of(from).unwrap_or(from);
        let is_welcome = self.is_welcome(now.instant, at, peer) && self.has_connection_room(at);
        if !is_welcome {
            tracing::trace!(%peer, "peer data connection refused");
            self.count_peer_end(PeerEnd::Refused);
            return None;
        }
        let allocation = self.allocations.get(at)?;
        let (owner, control) = (&allocation.owner, allocation.client.client);
        let meter = Arc::clone(&allocation.peers.as_ref()?.meter);
        let (random, peers) = (&mut self.random, &self.shared.peers);
        let id = peers.enter(owner, control, meter, random);
        let deadline = now.instant + BIND_TIMEOUT;
        self.shared.peers.offer(id, deadline);
        self.add_peer_connection(
            at,
            PeerConnection {
                id,
                peer,
                stage: Stage::Waiting,
                deadline,
            },
        );
        self.tell_of_attempt(at, peer, id);
        Some(id)
    }

    /// Whether a live permission and the gate let `peer` in (S3, S5).
    fn is_welcome(&self, now: Instant, at: AllocationKey, peer: SocketAddr) -> bool {
        let Some(allocation) = self.allocations.get(at) else {
            return false;
        };
        let is_live = allocation.is_live() && allocation.expires > now;
        let destination = self.destination(allocation, peer, &self.shared.live_tcp, now);
        is_live && destination.is_ok()
    }

    /// ConnectionAttempt, on the control connection.
    fn tell_of_attempt(&mut self, at: AllocationKey, peer: SocketAddr, id: PeerConnectionId) {
        let Some(allocation) = self.allocations.get(at) else {
            return;
        };
        let transaction = TransactionId(self.random.bytes());
        let method = Method::CONNECTION_ATTEMPT;
        MessageBuilder::new(&mut self.response, Class::Indication, method, transaction)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .u32(AttributeType::CONNECTION_ID, id.to_bits());
        self.respond_to = Some(allocation.client);
    }

    /// Where a connection to `peer` goes, when the gate lets it (S3).
    pub(super) fn tcp_destination(
        &mut self,
        now: Instant,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Refusal> {
        let (peers, live) = (&self.policy.peers, &self.shared.live_tcp);
        let scope = peers.permit(peer.ip(), live);
        let destination = scope.and_then(|scope| peers.destination(scope, peer, live));
        let destination = destination.map(Destination::address);
        destination.map_err(|why| self.refuse_peer(now, peer, why))
    }

    /// The peer data connections of a TCP allocation that have not ended.
    pub(super) fn peer_connections(&mut self, key: AllocationKey) -> Option<&PeerConnections> {
        let peers = self.allocations.get_mut(key)?.peers.as_mut()?;
        peers.forget_ended(&self.shared.peers);
        Some(peers)
    }

    pub(super) fn has_connection_room(&mut self, key: AllocationKey) -> bool {
        let limit = usize::from(self.policy.limits.peer_connections_per_allocation);
        let connections = self.peer_connections(key);
        connections.is_some_and(|connections| connections.len() < limit)
    }

    pub(super) fn add_peer_connection(&mut self, key: AllocationKey, connection: PeerConnection) {
        let deadline = connection.deadline;
        if let Some(peers) = self.peers_mut(key) {
            peers.push(connection);
        }
        self.schedule(key, deadline);
    }

    fn peers_mut(&mut self, key: AllocationKey) -> Option<&mut PeerConnections> {
        self.allocations.get_mut(key)?.peers.as_deref_mut()
    }

    /// The peer has answered: the client learns how to bind the connection.
    pub(super) fn peer_connected(&mut self, now: Now, key: AllocationKey, id: PeerConnectionId) {
        let deadline = now.instant + BIND_TIMEOUT;
        let Some(connection) = self.peers_mut(key).and_then(|peers| peers.get_mut(id)) else {
            return;
        };
        if !matches!(connection.stage, Stage::Connecting(_)) {
            return;
        }
        connection.deadline = deadline;
        let Stage::Connecting(parked) = std::mem::replace(&mut connection.stage, Stage::Waiting)
        else {
            return;
        };
        let opened = Counter::PeerConnectionsOpened(PeerOrigin::Connect);
        self.stats.increment(opened);
        self.shared.peers.offer(id, deadline);
        self.schedule(key, deadline);
        let (reply, signature) = *parked;
        self.succeed(&reply, Success::Connected { connection: id }, &signature);
    }

    /// The peer cannot be reached.
    pub(super) fn peer_failed(&mut self, now: Now, key: AllocationKey, id: PeerConnectionId) {
        let failed = self.peers_mut(key).and_then(|peers| peers.remove(id));
        let Some(Stage::Connecting(parked)) = failed.map(|connection| connection.stage) else {
            return;
        };
        self.shared.peers.withdraw(id);
        self.refuse_connect(now, &parked);
    }

    /// Answers the Connect request that waits for `connection`, if one does: it fails.
    pub(super) fn tell_of_end(&mut self, now: Now, connection: &PeerConnection) {
        if let Stage::Connecting(parked) = &connection.stage {
            self.refuse_connect(now, parked);
            self.answer_later();
        }
    }

    fn refuse_connect(&mut self, now: Now, (reply, signature): &(Reply, Signature)) {
        let refusal = Refusal::ConnectionFailed;
        self.refuse(now, reply, &refusal, Some(signature));
    }

    /// A connection that was bound at this shard has ended there.
    pub(super) fn peer_closed(&mut self, id: PeerConnectionId, end: PeerEnd) {
        self.shared.peers.ended(id, self.shard);
        self.detach_stream(id);
        self.count_peer_end(end);
    }

    /// Ends what has waited for too long: a peer's answer, a client's ConnectionBind.
    pub(super) fn expire_peers(&mut self, now: Now, key: AllocationKey) {
        let Some(peers) = self.peers_mut(key) else {
            return;
        };
        for mut connection in peers.take(|connection| connection.deadline <= now.instant) {
            let id = connection.id;
            if !self.shared.peers.expire(id) {
                // Bound, and perhaps ended since; the place is kept until somebody looks.
                connection.stage = Stage::Bound;
                connection.deadline = Instant::FAR_FUTURE;
                self.add_peer_connection(key, connection);
                continue;
            }
            self.close_peer(id, self.shard);
            match connection.stage {
                Stage::Connecting(_) => self.tell_of_end(now, &connection),
                Stage::Waiting | Stage::Bound => self.count_peer_end(PeerEnd::Unbound),
            }
        }
    }

    /// The allocation ends, or its relayed address of `family` does, and all connections with it.
    pub(super) fn end_peers(&mut self, connections: Vec<PeerConnection>) {
        for connection in connections {
            let Some(bound_at) = self.shared.peers.withdraw(connection.id) else {
                continue;
            };
            self.close_peer(connection.id, bound_at.unwrap_or(self.shard));
            let waited = bound_at.is_none() && matches!(connection.stage, Stage::Waiting);
            if waited {
                self.count_peer_end(PeerEnd::AllocationGone);
            }
        }
    }

    fn close_peer(&mut self, connection: PeerConnectionId, shard: u16) {
        let action = Action::ClosePeer { connection, shard };
        self.actions.push_back(action);
    }

    fn count_peer_end(&mut self, end: PeerEnd) {
        self.stats.increment(Counter::PeerConnectionsEnded(end));
    }

    /// Puts the response that was written behind those that wait: one pass may end many requests.
    fn answer_later(&mut self) {
        if let Some(to) = self.respond_to.take() {
            self.late.push_back((to, self.response.clone()));
        }
    }
}

/// The peer data connections of an allocation, of one `family` or all; taken out.
pub(super) fn take_peers(
    allocation: &mut Allocation,
    family: Option<Family>,
) -> Vec<PeerConnection> {
    let is_meant =
        |connection: &PeerConnection| family.is_none_or(|family| connection.family() == family);
    let peers = allocation.peers.as_mut();
    peers.map(|peers| peers.take(is_meant)).unwrap_or_default()
}
