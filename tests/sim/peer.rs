//! Peers: plain UDP sockets that send everything back, and others that nobody invited.

use std::net::SocketAddr;
use std::ops::Range;

use turnstone::time::Instant;

use crate::rng::Rng;

/// All peers of a deployment.
#[derive(Debug)]
pub(crate) struct Peers {
    echoing: Vec<SocketAddr>,
    /// Percent of the answers that come from another port.
    odd_ports: u64,
    /// Milliseconds between uninvited datagrams.
    garbage_every: Option<Range<u64>>,
    next_garbage: Instant,
    rng: Rng,
}

/// A datagram of a peer to a relay.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) peer: SocketAddr,
    pub(crate) relay: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

impl Peers {
    pub(crate) fn new(
        echoing: Vec<SocketAddr>,
        odd_ports: u64,
        garbage_every: Option<Range<u64>>,
        rng: Rng,
    ) -> Self {
        Self {
            echoing,
            odd_ports,
            garbage_every,
            next_garbage: Instant::ZERO,
            rng,
        }
    }

    /// What `peer` answers to a datagram of `relay`. A permission is for all of its ports.
    pub(crate) fn answer(
        &mut self,
        peer: SocketAddr,
        relay: SocketAddr,
        payload: Vec<u8>,
    ) -> Option<Datagram> {
        let mut from = *self.echoing.iter().find(|known| **known == peer)?;
        if self.rng.chance(self.odd_ports) {
            from.set_port(from.port() + 1);
        }
        Some(Datagram {
            peer: from,
            relay,
            payload,
        })
    }

    /// When uninvited datagrams come next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.garbage_every.as_ref().map(|_| self.next_garbage)
    }

    /// No more uninvited datagrams.
    pub(crate) fn stop(&mut self) {
        self.garbage_every = None;
    }

    /// An uninvited datagram to one of `relays`: from a stranger, or from a forged address.
    pub(crate) fn intrude(&mut self, now: Instant, relays: &[SocketAddr]) -> Option<Datagram> {
        let every = self.garbage_every.clone()?;
        self.next_garbage = now + self.rng.millis(every);
        if relays.is_empty() {
            return None;
        }
        let relay = self.rng.pick(relays);
        let port = 1024 + u16::try_from(self.rng.below(60_000)).expect("a port");
        let strangers: [[u8; 4]; 4] =
            [[6, 6, 6, 6], [127, 0, 0, 1], [192, 0, 2, 10], [10, 1, 1, 1]];
        let stranger = match relay {
            SocketAddr::V4(_) => SocketAddr::from((self.rng.pick(&strangers), port)),
            SocketAddr::V6(_) => SocketAddr::from(([0x2606, 6, 0, 0, 0, 0, 0, 6], port)),
        };
        let length = self.rng.below(100);
        Some(Datagram {
            peer: stranger,
            relay,
            payload: self.rng.bytes(length),
        })
    }
}
