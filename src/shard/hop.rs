//! Packets from one allocation to another, which pass no socket in between.
//!
//! A hop ends at a client or in a counter: nothing here relays to a peer but what came back.

use std::time::Duration;

use super::event_loop::Shard;
use super::mailbox::Message;
use super::rings::{Full, Leg};
use crate::net::Span;
use crate::turn::{Counter, Direction, Hop, Reason, Source, Verdict};

/// Packets of all rings together that have their turn before sockets have theirs.
const PACKETS: usize = 256;
/// Packets of one ring among many that have some, at least.
const SHARE: usize = 8;

impl Shard {
    /// Brings a payload that one of our clients sent to another allocation.
    pub(super) fn follow_hop(&mut self, hop: &Hop, payload: Span) {
        if usize::from(hop.to.shard) == self.index {
            self.end_hop(hop, payload);
        } else if self.give_to(hop.to.shard, hop, Leg::There, payload) == Err(Full) {
            let stats = self.server.stats_mut();
            stats.relay_failed(Direction::ToPeer, payload.len(), Reason::ShardFull);
        }
    }

    /// Puts a payload into the ring of another shard.
    fn give_to(&mut self, shard: u16, hop: &Hop, leg: Leg, payload: Span) -> Result<(), Full> {
        let bytes = self.buffers.bytes(payload);
        let mail = &self.mail;
        let hand_over = |reader| mail.send(shard.into(), Message::Ring(reader));
        self.rings.push(shard, (*hop, leg), bytes, hand_over)
    }

    /// Takes in what other shards gave, some of each; tells whether there was anything.
    pub(super) fn receive_hops(&mut self) -> bool {
        match self.rings.busy() {
            0 => false,
            busy => self.take_in((PACKETS / busy).max(SHARE)),
        }
    }

    /// Takes in all that other shards have given up to now; tells whether there was anything.
    pub(super) fn receive_all_hops(&mut self) -> bool {
        self.take_in(usize::MAX)
    }

    fn take_in(&mut self, most: usize) -> bool {
        let mut any = false;
        for ring in 0..self.rings.readers() {
            for _ in 0..self.rings.waiting(ring).min(most) {
                self.receive_hop(ring);
                any = true;
            }
        }
        any
    }

    fn receive_hop(&mut self, ring: usize) {
        self.reserve();
        let Some((head, payload)) = self.rings.pop(ring, &mut self.buffers) else {
            return;
        };
        match head.leg {
            Leg::There => self.end_hop(&head.hop, payload),
            Leg::Back => self.queue_to_peer(head.hop.from.key, head.hop.peer, payload),
        }
    }

    /// Hands a payload to the client of an allocation of this shard; if that has moved away, the sender's
    /// shard sends it by its relay socket.
    fn end_hop(&mut self, hop: &Hop, payload: Span) {
        let bytes = self.buffers.bytes(payload);
        match self.server.handle_relayed(self.now, hop, bytes) {
            Some(Verdict::ToClient { to, prefix, .. }) => {
                self.queue_to_client(to, &prefix, payload);
            }
            Some(_) => {}
            None if usize::from(hop.from.shard) == self.index => {
                self.queue_to_peer(hop.from.key, hop.peer, payload);
            }
            None => self.give_back(hop, payload),
        }
    }

    fn give_back(&mut self, hop: &Hop, payload: Span) {
        if self.give_to(hop.from.shard, hop, Leg::Back, payload) == Err(Full) {
            let stats = self.server.stats_mut();
            stats.increment(Counter::ReceivedPackets(Source::Peer));
            let bytes = payload.len() as u64;
            stats.add(Counter::ReceivedBytes(Source::Peer), bytes);
            stats.increment(Counter::Dropped(Reason::ShardFull));
        }
    }

    /// Wakes the shards that something was given to, if they sleep.
    pub(super) fn ring_bells(&mut self) {
        while let Some(shard) = self.rings.take_fresh() {
            self.mail.ring_if_resting(shard.into());
        }
    }

    /// How long the poller may wait, with the bell told that it does.
    pub(super) fn lie_down(&self) -> Option<Duration> {
        if self.rings.readers() == 0 {
            return self.patience();
        }
        self.mailbox.bell.lie_down();
        if self.rings.has_waiting() {
            Some(Duration::ZERO)
        } else {
            self.patience()
        }
    }
}
