//! The short way between two allocations of this server: both users are relayed, and the packet need not
//! leave the process.
//!
//! It is one packet to a peer at the allocation that it comes from and one packet of a peer at the
//! allocation that it is for, judged, metered and counted by both as if it had crossed the wire.

use std::net::SocketAddr;

use super::allocation_key::AllocationKey;
use super::five_tuple::Family;
use super::hop::Hop;
use super::live_relays::LiveRelay;
use super::outcome::{Reason, Verdict};
use super::place::Place;
use super::server::Server;
use super::stats::{Counter, Direction, HopWay, Source};
use crate::time::Now;

/// How many allocations are remembered that moved to another shard.
const MOVED: usize = 256;

impl Server {
    /// Relays to another allocation: the short way, unless that allocation is between two shards, where what
    /// is for it waits in its socket, or no datagram holds the payload, which the socket refuses.
    #[inline(never)]
    pub(super) fn relay_to_relay<'p>(
        &mut self,
        from: AllocationKey,
        to: &LiveRelay,
        payload: &'p [u8],
    ) -> Verdict<'p> {
        let hop = self.hop(from, to).filter(|hop| hop.carries(payload));
        let Some(hop) = hop else {
            return self.relay_to_peer(from, to.local, payload);
        };
        self.count_relayed(Direction::ToPeer, payload);
        Verdict::ToRelay { hop, payload }
    }

    fn hop(&self, from: AllocationKey, to: &LiveRelay) -> Option<Hop> {
        let allocation = self.allocations.get(from)?;
        let relay = allocation.relay(Family::of(to.local.ip()))?;
        Some(Hop {
            from: Place {
                shard: self.shard,
                key: from,
            },
            to: to.place?,
            source: relay.public,
            peer: to.local,
        })
    }

    /// Handles a packet that took the short way to an allocation of this shard. None when the allocation
    /// has moved to another shard since the packet set out: it goes back to its sender's shard, which sends
    /// it from the relay socket to where the allocation is now. Nothing is counted then.
    pub fn handle_relayed<'p>(
        &mut self,
        now: Now,
        hop: &Hop,
        payload: &'p [u8],
    ) -> Option<Verdict<'p>> {
        let is_here = self.is_relayed_by(hop.to.key, hop.peer);
        if !is_here && self.moved_away.contains(&hop.to.key) {
            return None;
        }
        self.count_received(Source::Peer, payload);
        self.stats.increment(Counter::RelayHops(self.way_of(hop)));
        let verdict = match is_here {
            true => self.relay_to_client(now, hop.to.key, hop.source, payload),
            false => Err(Reason::NoAllocation),
        };
        Some(self.settle(verdict))
    }

    /// Whether the relay socket of `key` is bound to `local`: nobody is given what was for another.
    fn is_relayed_by(&self, key: AllocationKey, local: SocketAddr) -> bool {
        let allocation = self.allocations.get(key);
        let relay = allocation.and_then(|allocation| allocation.relay(Family::of(local.ip())));
        relay.is_some_and(|relay| relay.bind_address() == local)
    }

    fn way_of(&self, hop: &Hop) -> HopWay {
        match hop.from.shard == self.shard {
            true => HopWay::Shard,
            false => HopWay::OtherShard,
        }
    }

    /// Remembers an allocation that went to another shard.
    pub(super) fn note_moved_away(&mut self, key: AllocationKey) {
        if self.moved_away.len() == MOVED {
            self.moved_away.pop_front();
        }
        self.moved_away.push_back(key);
    }
}
