//! The path of a packet: ChannelData, Send indications, datagrams from peers (RFC 8656 §11, §12).
//!
//! Nothing here allocates, locks or logs.

use std::net::SocketAddr;

use super::allocation::Allocation;
use super::allocation_key::AllocationKey;
use super::five_tuple::{Family, FiveTuple};
use super::live_relays::{Destination, LiveRelays};
use super::outcome::{Prefix, Reason, Verdict};
use super::server::Server;
use super::stats::{Counter, Direction};
use crate::stun::{
    AttributeType, ChannelData, Class, DecodeError, Message, MessageBuilder, Method, TransactionId,
    padded,
};
use crate::time::{Instant, Now};

/// The longest payload of a UDP datagram over IPv4, in bytes; over IPv6 it is 20 more.
const MAX_DATAGRAM: usize = 65_507;

impl Server {
    pub(super) fn handle_channel_data<'p>(
        &mut self,
        now: Now,
        from: &FiveTuple,
        packet: &'p [u8],
        parse: impl FnOnce(&'p [u8]) -> Result<ChannelData<'p>, DecodeError>,
    ) -> Result<Verdict<'p>, Reason> {
        let key = self.allocations.key(from).ok_or(Reason::NoAllocation)?;
        let allocation = self.live(key, now)?;
        let data = parse(packet).map_err(|_| Reason::Malformed)?;
        let peer = allocation
            .channels
            .peer(data.number, now.instant)
            .ok_or(Reason::NoChannel)?;
        let destination = self.destination(allocation, peer, &self.shared.live, now.instant)?;
        self.admit(now, key, Direction::ToPeer, data.payload.len())?;
        let peer = match destination {
            Destination::Address(peer) => peer,
            Destination::Relay(to) => return Ok(self.relay_to_relay(key, &to, data.payload)),
        };
        Ok(self.relay_to_peer(key, peer, data.payload))
    }

    pub(super) fn handle_send<'p>(
        &mut self,
        now: Now,
        from: &FiveTuple,
        message: &Message<'p>,
    ) -> Result<Verdict<'p>, Reason> {
        let key = self.allocations.key(from).ok_or(Reason::NoAllocation)?;
        let allocation = self.live(key, now)?;
        let peer = message
            .attribute(AttributeType::XOR_PEER_ADDRESS)
            .ok_or(Reason::InvalidSend)?;
        // No datagram goes to port 0.
        let peer = message
            .xor_address(&peer)
            .ok()
            .filter(|peer| peer.port() != 0)
            .ok_or(Reason::InvalidSend)?;
        let data = message
            .attribute(AttributeType::DATA)
            .ok_or(Reason::InvalidSend)?;
        allocation
            .relay(Family::of(peer.ip()))
            .filter(|_| !allocation.is_tcp())
            .ok_or(Reason::InvalidSend)?;
        let destination = self.destination(allocation, peer, &self.shared.live, now.instant)?;
        let is_whole = message.has(AttributeType::DONT_FRAGMENT)
            && heeds_dont_fragment(from, destination.address());
        self.admit(now, key, Direction::ToPeer, data.value.len())?;
        let peer = match destination {
            Destination::Address(peer) => peer,
            // Between two of our relays no IP packet is fragmented.
            Destination::Relay(relay) => {
                return Ok(self.relay_to_relay(key, &relay, data.value));
            }
        };
        let verdict = self.relay_to_peer(key, peer, data.value);
        Ok(match verdict {
            Verdict::ToPeer {
                from,
                peer,
                payload,
            } if is_whole => Verdict::ToPeerUnfragmented {
                from,
                peer,
                payload,
            },
            verdict => verdict,
        })
    }

    /// Where a packet for `peer` goes, when a live permission and the gate let it (S3, S5); `live` are
    /// the relays of the allocation's kind.
    #[inline]
    pub(super) fn destination(
        &self,
        allocation: &Allocation,
        peer: SocketAddr,
        live: &LiveRelays,
        now: Instant,
    ) -> Result<Destination, Reason> {
        let permission = allocation
            .permissions
            .get(peer.ip(), now)
            .ok_or(Reason::NoPermission)?;
        let destination = self.policy.peers.destination(permission.scope, peer, live);
        destination.map_err(|_| Reason::ForbiddenPeer)
    }

    fn live(&self, key: AllocationKey, now: Now) -> Result<&Allocation, Reason> {
        let allocation = self
            .allocations
            .get(key)
            .filter(|allocation| allocation.is_live() && allocation.expires > now.instant);
        allocation.ok_or(Reason::NoAllocation)
    }

    pub(super) fn relay_to_peer<'p>(
        &mut self,
        from: AllocationKey,
        peer: SocketAddr,
        payload: &'p [u8],
    ) -> Verdict<'p> {
        self.count_relayed(Direction::ToPeer, payload);
        Verdict::ToPeer {
            from,
            peer,
            payload,
        }
    }

    /// `peer` is the address under which clients know who sent it.
    ///
    /// Inlined in both places, as is what it calls: the results are large, and copying them would cost a seventh of
    /// the way from a peer.
    #[inline(always)]
    pub(super) fn relay_to_client<'p>(
        &mut self,
        now: Now,
        at: AllocationKey,
        peer: SocketAddr,
        payload: &'p [u8],
    ) -> Result<Verdict<'p>, Reason> {
        let allocation = self.live(at, now)?;
        self.destination(allocation, peer, &self.shared.live, now.instant)?;
        let to = allocation.client;
        let prefix = match allocation.channels.number(peer, now.instant) {
            Some(number) => {
                let length = u16::try_from(payload.len()).map_err(|_| Reason::TooLarge)?;
                let padding = if to.transport.is_stream() {
                    padding(payload.len())
                } else {
                    0
                };
                Prefix::new(&ChannelData::header(number, length), padding)
            }
            None => self.data_indication(peer, payload.len())?,
        };
        let length = prefix.as_bytes().len() + payload.len() + prefix.padding();
        if !to.transport.is_stream() && length > MAX_DATAGRAM {
            return Err(Reason::TooLarge);
        }
        self.admit(now, at, Direction::ToClient, payload.len())?;
        self.count_relayed(Direction::ToClient, payload);
        Ok(Verdict::ToClient {
            to,
            prefix,
            payload,
        })
    }

    /// The address under which clients know the peer at `from`: behind a 1:1 NAT a relay of our own
    /// sends from its local address, but is known by its public one.
    pub(super) fn public_face(&self, from: SocketAddr) -> SocketAddr {
        if self.policy.relay.external.is_empty() {
            return from;
        }
        self.shared.live.public_of(from).unwrap_or(from)
    }

    /// The head of a Data indication with `length` bytes of data (RFC 8656 §11.3).
    #[inline(always)]
    fn data_indication(&mut self, peer: SocketAddr, length: usize) -> Result<Prefix, Reason> {
        let data = u16::try_from(length).map_err(|_| Reason::TooLarge)?;
        if padded(length) + Prefix::MAX > usize::from(u16::MAX) {
            return Err(Reason::TooLarge);
        }
        let transaction = TransactionId(self.random.bytes());
        MessageBuilder::new(&mut self.head, Class::Indication, Method::DATA, transaction)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .open_attribute(AttributeType::DATA, data);
        Ok(Prefix::new(&self.head, padding(length)))
    }

    pub(super) fn count_relayed(&mut self, direction: Direction, payload: &[u8]) {
        self.stats.increment(Counter::RelayedPackets(direction));
        self.stats
            .add(Counter::RelayedBytes(direction), payload.len() as u64);
    }
}

/// Whether DONT-FRAGMENT means anything between the client of `five_tuple` and `peer`: from UDP to UDP it
/// MUST be ignored as soon as one side is IPv6 (RFC 8656 §13).
fn heeds_dont_fragment(five_tuple: &FiveTuple, peer: SocketAddr) -> bool {
    five_tuple.transport.is_stream() || (five_tuple.client.is_ipv4() && peer.is_ipv4())
}

/// How many zero bytes bring `length` to a multiple of four.
#[expect(clippy::cast_possible_truncation, reason = "at most three")]
fn padding(length: usize) -> u8 {
    (padded(length) - length) as u8
}
