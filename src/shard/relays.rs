//! The relay sockets of the shard's allocations.

use std::io;
use std::iter;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::net::{ReceiveBatch, Received, take_in_trains, takes_in_trains};
use crate::turn::{AllocationKey, Family};

/// Wakes during which a socket that had few datagrams is not asked for more than one.
const REST: u8 = 7;

/// So many datagrams of one length from one peer at one wake are a burst. Fewer in all were not worth asking
/// for more than the first.
const BURST: usize = 4;
/// How much a burst speaks for trains, and how much makes them worth asking for. A wake without a burst speaks
/// against them by one: a shard that is behind finds some datagrams of each flow, but rarely as many.
const SIGN: u8 = 4;
const ENOUGH: u8 = 12;

/// One relay socket.
#[derive(Debug)]
pub(super) struct Relay {
    key: AllocationKey,
    pub(super) socket: UdpSocket,
    pace: Pace,
    intake: Intake,
}

/// How a relay socket is read. The plain way costs less for a datagram alone; a socket that takes in trains
/// must never again be read that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    /// Somebody else may have had the socket before: what it does is to be found out.
    Unknown,
    Single,
    Trains,
}

/// Datagrams of one length from one peer, one behind the other at one wake.
#[derive(Debug, Default)]
pub(super) struct Run {
    of: Option<(SocketAddr, usize)>,
    count: usize,
}

impl Run {
    /// Counts what came; true when it makes the run a burst.
    pub(super) fn grows_with(&mut self, received: &Received) -> bool {
        let of = Some((received.from, received.length));
        self.count = if self.of == of { self.count + 1 } else { 1 };
        self.of = of;
        self.count == BURST
    }
}

/// Whether a second datagram is worth a system call. A wake says that there is one; asking for more
/// pays only while the socket is busy.
#[derive(Debug, Default)]
struct Pace {
    last_pass: u32,
    rest: u8,
    bursts: u8,
}

impl Relay {
    /// Receives a datagram, or a train of them, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub(super) fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        room: &mut [u8],
    ) -> io::Result<Received> {
        if self.intake == Intake::Unknown {
            self.intake = if takes_in_trains(&self.socket) {
                Intake::Trains
            } else {
                Intake::Single
            };
        }
        if self.intake == Intake::Single {
            let (length, from) = self.socket.recv_from(room)?;
            return Ok(Received::single(length, from));
        }
        batch.receive(self.socket.as_fd(), iter::once(room), true)?;
        batch.get(0).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Tells whether to go on after the first datagram of this wake.
    pub(super) fn is_busy(&mut self, pass: u32) -> bool {
        let woken_again = pass.wrapping_sub(self.pace.last_pass) == 1;
        self.pace.last_pass = pass;
        self.pace.rest = self.pace.rest.saturating_sub(1);
        woken_again && self.pace.rest == 0
    }

    /// A burst came: several of them, and they are asked for in one piece from now on.
    pub(super) fn note_burst(&mut self) {
        self.pace.bursts = self.pace.bursts.saturating_add(SIGN);
        let is_worth_it = self.intake == Intake::Single && self.pace.bursts >= ENOUGH;
        if is_worth_it && take_in_trains(&self.socket).is_ok() {
            self.intake = Intake::Trains;
        }
    }

    /// No more than `messages` were there: datagrams, or trains of them.
    pub(super) fn note_emptied(&mut self, messages: usize) {
        if messages < BURST {
            self.pace.rest = REST;
            self.pace.bursts = self.pace.bursts.saturating_sub(1);
        }
    }
}

/// Relay sockets by allocation key: an index and a comparison, no hash. A key whose allocation has
/// gone finds nothing.
#[derive(Debug, Default)]
pub(super) struct Relays {
    families: [Vec<Option<Relay>>; 2],
}

/// The place of a key in the tables.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is the index"
)]
const fn index(key: AllocationKey) -> usize {
    key.to_token() as u32 as usize
}

impl Relays {
    /// Whether a token can name the key's sockets.
    pub(super) const fn can_hold(key: AllocationKey) -> bool {
        index(key) < 1 << 31
    }

    /// Keeps `socket`; one that the key had before is closed.
    pub(super) fn insert(&mut self, key: AllocationKey, family: Family, socket: UdpSocket) {
        let sockets = &mut self.families[family as usize];
        let index = index(key);
        if sockets.len() <= index {
            sockets.resize_with(index + 1, || None);
        }
        sockets[index] = Some(Relay {
            key,
            socket,
            pace: Pace::default(),
            intake: Intake::Unknown,
        });
    }

    /// The socket, if it is open.
    pub(super) fn get(&mut self, key: AllocationKey, family: Family) -> Option<&mut Relay> {
        let slot = self.families[family as usize].get_mut(index(key))?;
        slot.as_mut().filter(|relay| relay.key == key)
    }

    /// Takes the socket out, if it is open.
    pub(super) fn take(&mut self, key: AllocationKey, family: Family) -> Option<UdpSocket> {
        self.get(key, family)?;
        let slot = self.families[family as usize].get_mut(index(key))?;
        slot.take().map(|relay| relay.socket)
    }

    /// Closes the socket, if it is open.
    pub(super) fn remove(&mut self, key: AllocationKey, family: Family) {
        if self.get(key, family).is_some() {
            self.families[family as usize][index(key)] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::send_segments;

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_stale_key_finds_and_closes_nothing() {
        let old = AllocationKey::from_token(3);
        let new = AllocationKey::from_token(1 << 32 | 3);
        let mut relays = Relays::default();
        relays.insert(old, Family::V4, socket());
        assert!(relays.get(old, Family::V4).is_some());
        assert!(relays.get(old, Family::V6).is_none());
        relays.insert(new, Family::V4, socket());
        assert!(relays.get(old, Family::V4).is_none());
        relays.remove(old, Family::V4);
        assert!(relays.get(new, Family::V4).is_some());
        relays.remove(new, Family::V4);
        assert!(relays.get(new, Family::V4).is_none());
    }

    #[test]
    fn only_a_busy_socket_is_asked_for_more() {
        let key = AllocationKey::from_token(0);
        let mut relays = Relays::default();
        relays.insert(key, Family::V4, socket());
        let relay = relays.get(key, Family::V4).expect("open");
        assert!(!relay.is_busy(10));
        assert!(relay.is_busy(11));
        relay.note_emptied(1);
        let asked = (12..=20).filter(|pass| relay.is_busy(*pass)).count();
        assert_eq!(asked, 3);
        assert!(!relay.is_busy(30));
    }
    /// A burst of `count` datagrams arrives, and is read in one wake.
    fn burst(relay: &mut Relay, from: &UdpSocket, count: usize) -> Vec<usize> {
        let (mut batch, mut room) = (ReceiveBatch::default(), vec![0; 65_536]);
        let to = relay.socket.local_addr().unwrap();
        send_segments(from, Some(to), &vec![7; 10 * count], 10).unwrap();
        relay.socket.peek(&mut [0]).unwrap();
        relay.socket.set_nonblocking(true).unwrap();
        let mut run = Run::default();
        let mut counts = Vec::new();
        while let Ok(received) = relay.receive(&mut batch, &mut room) {
            assert_eq!(received.from, from.local_addr().unwrap());
            if run.grows_with(&received) {
                relay.note_burst();
            }
            counts.push(received.datagrams().count());
        }
        relay.note_emptied(counts.len());
        relay.socket.set_nonblocking(false).unwrap();
        counts
    }

    #[test]
    fn bursts_are_asked_for_in_one_piece_when_there_are_several() {
        let key = AllocationKey::from_token(0);
        let (mut relays, peer) = (Relays::default(), socket());
        relays.insert(key, Family::V4, socket());
        let relay = relays.get(key, Family::V4).expect("open");
        for _ in 0..9 {
            assert_eq!(burst(relay, &peer, 4), [1; 4]);
            for _ in 0..4 {
                assert_eq!(burst(relay, &peer, 3), [1; 3]);
            }
        }
        for _ in 0..3 {
            assert_eq!(burst(relay, &peer, 6), [1; 6]);
        }
        assert_eq!(burst(relay, &peer, 6), [6]);
        assert_eq!(burst(relay, &peer, 1), [1]);
    }

    #[test]
    fn a_socket_that_takes_in_trains_does_so_whoever_has_it() {
        let key = AllocationKey::from_token(0);
        let (mut relays, peer) = (Relays::default(), socket());
        let before = socket();
        take_in_trains(&before).unwrap();
        relays.insert(key, Family::V4, before);
        let relay = relays.get(key, Family::V4).expect("open");
        assert_eq!(burst(relay, &peer, 5), [5]);
    }
}
