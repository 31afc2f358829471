//! The relay sockets of the shard's allocations.

use std::io;
use std::iter;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::net::{ReceiveBatch, Received, send_unfragmented, take_in_trains, takes_in_trains};
use crate::turn::{AllocationKey, Family};

/// Wakes during which a socket that had one datagram only is not asked for a second one.
const REST: u8 = 7;
/// Messages that one pass receives from one socket that takes in trains.
const MOST: usize = 16;
/// Datagrams that one pass is to receive from one: that many if its trains are as long as those before.
const MOST_DATAGRAMS: usize = 128;

/// One relay socket.
#[derive(Debug)]
pub(super) struct Relay {
    key: AllocationKey,
    /// Private: it must not be read but in the way that `intake` says.
    socket: UdpSocket,
    pace: Pace,
    intake: Intake,
}

/// How a relay socket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    /// Somebody else may have had the socket before: what it does is to be found out.
    Unknown,
    /// The plain way, which costs less for a datagram alone.
    Singles,
    /// For bursts, with so many messages expected: a socket that takes in trains must never again be
    /// read the plain way.
    Trains(usize),
}

/// Whether a second datagram is worth a system call. A wake says that there is one; asking for more
/// pays only while the socket is busy.
#[derive(Debug, Default)]
struct Pace {
    last_pass: u32,
    rest: u8,
}

impl Relay {
    /// Receives one datagram, or a train of them, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub(super) fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        room: &mut [u8],
    ) -> io::Result<Received> {
        if self.takes_in_trains() {
            batch.receive(self.socket.as_fd(), iter::once(room), true)?;
            return batch.get(0).ok_or(io::ErrorKind::InvalidData.into());
        }
        let (length, from) = self.socket.recv_from(room)?;
        Ok(Received::single(length, from))
    }

    /// Receives one datagram, or a train of them; none when none waits. An error that is pending on the socket,
    /// as ICMP leaves them, says nothing of what waits behind it.
    ///
    /// # Errors
    /// Whatever error was pending; it is cleared.
    pub(super) fn receive_waiting(
        &mut self,
        batch: &mut ReceiveBatch,
        room: &mut [u8],
    ) -> io::Result<Option<Received>> {
        match self.receive(batch, room) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one datagram with the DF bit set; see [`send_unfragmented`].
    ///
    /// # Errors
    /// It does not fit the MTU; whatever else the kernel says.
    pub(super) fn send_unfragmented(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        send_unfragmented(&self.socket, to, bytes)
    }

    /// Whether bursts come in one piece, so that [`receive_trains`](Self::receive_trains) pays.
    pub(super) fn takes_in_trains(&mut self) -> bool {
        if self.intake == Intake::Unknown {
            self.intake = if takes_in_trains(&self.socket) {
                Intake::Trains(1)
            } else {
                Intake::Singles
            };
        }
        matches!(self.intake, Intake::Trains(_))
    }

    /// Has bursts come in one piece from now on, where the kernel can do that.
    pub(super) fn take_in_trains(&mut self) {
        if self.intake == Intake::Singles && take_in_trains(&self.socket).is_ok() {
            self.intake = Intake::Trains(1);
        }
    }

    /// How many messages, datagrams or trains, are to be expected after what came at earlier wakes.
    pub(super) fn expected(&mut self, pass: u32) -> usize {
        match (self.was_served_before(pass), self.intake) {
            (true, Intake::Trains(expected)) => expected,
            _ => 1,
        }
    }

    /// Receives `wanted` messages at most into `packets` without waiting, and returns how many came.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub(super) fn receive_trains<'a>(
        &mut self,
        batch: &mut ReceiveBatch,
        packets: impl Iterator<Item = &'a mut [u8]>,
        wanted: usize,
    ) -> io::Result<usize> {
        let count = batch.receive(self.socket.as_fd(), packets.take(wanted), true)?;
        let next = if count < wanted { count } else { wanted * 2 };
        self.intake = Intake::Trains(next.clamp(1, MOST));
        Ok(count)
    }

    /// Notes how many `datagrams` the `messages` were that came with the last call: the longer trains are, the
    /// fewer are expected.
    pub(super) fn note_length(&mut self, messages: usize, datagrams: usize) {
        if datagrams * MOST <= messages * MOST_DATAGRAMS {
            return;
        }
        if let Intake::Trains(expected) = &mut self.intake {
            let most = MOST_DATAGRAMS * messages / datagrams;
            *expected = most.clamp(1, *expected);
        }
    }

    /// Tells whether to go on after the first datagram of this wake.
    pub(super) fn is_busy(&mut self, pass: u32) -> bool {
        let woken_again = self.was_served_before(pass);
        self.pace.rest = self.pace.rest.saturating_sub(1);
        woken_again && self.pace.rest == 0
    }

    /// Tells whether the pass before this one served it too.
    fn was_served_before(&mut self, pass: u32) -> bool {
        let last = std::mem::replace(&mut self.pace.last_pass, pass);
        pass.wrapping_sub(last) == 1
    }

    /// There was no second datagram.
    pub(super) fn had_only_one(&mut self) {
        self.pace.rest = REST;
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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

    /// The socket to look at, if it is open.
    pub(super) fn peek(&self, key: AllocationKey, family: Family) -> Option<&Relay> {
        let slot = self.families[family as usize].get(index(key))?;
        slot.as_ref().filter(|relay| relay.key == key)
    }

    /// Somebody else may have the sockets, and may have them take in trains at any time: from now on all are
    /// read in the way that is right for datagrams and for trains.
    pub(super) fn suspect(&mut self) {
        for relay in self.families.iter_mut().flatten().flatten() {
            if !matches!(relay.intake, Intake::Trains(_)) {
                relay.intake = Intake::Trains(1);
            }
        }
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
    use crate::net::{Epoll, Events, Interest, open_relay, send_segments};

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    /// Kernel memory of what waits in a socket of [`socket`], in bytes.
    fn waiting(port: u16) -> u64 {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let name = format!("0100007F:{port:04X}");
        let mut rows = table.lines().map(|row| row.split_whitespace());
        let mut row = rows.find(|row| row.clone().nth(1) == Some(&name)).unwrap();
        let (_, received) = row.nth(4).unwrap().split_once(':').unwrap();
        u64::from_str_radix(received, 16).unwrap()
    }

    /// Sends, and waits until it has arrived: loopback may take its time.
    fn bring(to: SocketAddr, send: impl FnOnce() -> io::Result<usize>) {
        let before = waiting(to.port());
        send().unwrap();
        for _ in 0..6000 {
            if waiting(to.port()) > before {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("nothing arrives in a minute");
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
        relay.had_only_one();
        let asked = (12..=20).filter(|pass| relay.is_busy(*pass)).count();
        assert_eq!(asked, 3);
        assert!(!relay.is_busy(30));
    }

    #[test]
    fn sockets_that_somebody_else_may_have_are_read_as_trains_and_as_datagrams() {
        let key = AllocationKey::from_token(0);
        let (mut relays, peer) = (Relays::default(), socket());
        let ours = socket();
        let (theirs, to) = (ours.try_clone().unwrap(), ours.local_addr().unwrap());
        relays.insert(key, Family::V4, ours);
        assert!(!relays.get(key, Family::V4).expect("open").takes_in_trains());
        relays.suspect();
        let relay = relays.get(key, Family::V4).expect("open");
        assert!(relay.takes_in_trains());
        let (mut batch, mut room) = (ReceiveBatch::default(), [0; 256]);
        bring(to, || peer.send_to(&[1; 20], to));
        let single = relay.receive(&mut batch, &mut room).expect("a datagram");
        assert_eq!((single.datagrams().count(), single.length), (1, 20));
        // Somebody else does this only now.
        take_in_trains(&theirs).expect("UDP_GRO");
        bring(to, || {
            send_segments(&peer, Some(to), &[1; 60], 20).map(|()| 60)
        });
        let train = relay.receive(&mut batch, &mut room).expect("a train");
        assert_eq!(train.datagrams().count(), 3);
    }

    #[test]
    fn a_socket_that_takes_in_trains_does_so_whoever_has_it() {
        let key = AllocationKey::from_token(0);
        let mut relays = Relays::default();
        relays.insert(key, Family::V4, socket());
        let relay = relays.get(key, Family::V4).expect("open");
        assert!(!relay.takes_in_trains());
        relay.take_in_trains();
        assert!(relay.takes_in_trains());
        let held = relays.take(key, Family::V4).expect("open");
        relays.insert(key, Family::V4, held);
        let relay = relays.get(key, Family::V4).expect("open");
        assert!(relay.takes_in_trains());
    }

    #[test]
    fn an_error_hides_nothing_that_waits_behind_it() {
        let key = AllocationKey::from_token(0);
        let (mut relays, peer) = (Relays::default(), socket());
        let ours = open_relay("127.0.0.1:0".parse().unwrap(), 65_536).unwrap();
        let to = ours.local_addr().unwrap();
        relays.insert(key, Family::V4, ours);
        let relay = relays.get(key, Family::V4).expect("open");
        // Nobody listens there, and no test draws that port.
        let closed = SocketAddr::new(to.ip(), 1);
        relay
            .send_unfragmented(closed, b"answered by ICMP")
            .unwrap();
        let (poller, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
        poller.add(&relay.socket, 0, Interest::Nothing).unwrap();
        let patience = std::time::Duration::from_secs(60);
        poller.wait(&mut events, Some(patience)).unwrap();
        assert!(!events.is_empty(), "no error");
        for text in [b"1", b"2"] {
            bring(to, || peer.send_to(text, to));
        }
        let (mut batch, mut room) = (ReceiveBatch::default(), [0; 64]);
        assert!(relay.receive_waiting(&mut batch, &mut room).is_err());
        for text in [b"1", b"2"] {
            let received = relay.receive_waiting(&mut batch, &mut room).unwrap();
            assert_eq!(
                received,
                Some(Received::single(1, peer.local_addr().unwrap()))
            );
            assert_eq!(room[..1], *text);
        }
        let last = relay.receive_waiting(&mut batch, &mut room);
        assert!(matches!(last, Ok(None)));
    }

    #[test]
    fn the_longer_trains_are_the_fewer_are_expected() {
        let key = AllocationKey::from_token(0);
        let mut relays = Relays::default();
        relays.insert(key, Family::V4, socket());
        let relay = relays.get(key, Family::V4).expect("open");
        for (messages, datagrams, expected) in [
            (16, 16, 16),
            (16, 128, 16),
            (16, 160, 12),
            (16, 1024, 2),
            (1, 64, 2),
            (1, 1, 16),
        ] {
            relay.intake = Intake::Trains(MOST);
            relay.note_length(messages, datagrams);
            assert_eq!(relay.intake, Intake::Trains(expected));
        }
        relay.intake = Intake::Trains(1);
        relay.note_length(1, 64);
        assert_eq!(relay.intake, Intake::Trains(1));
    }

    #[test]
    fn as_many_messages_are_asked_for_as_are_to_be_expected() {
        let key = AllocationKey::from_token(0);
        let (mut relays, peer) = (Relays::default(), socket());
        relays.insert(key, Family::V4, socket());
        let relay = relays.get(key, Family::V4).expect("open");
        assert!(!relay.takes_in_trains());
        relay.take_in_trains();
        let to = relay.socket.local_addr().unwrap();
        let mut memory = vec![0; 32 * 64];
        let mut batch = ReceiveBatch::default();
        let mut receive = |pass| {
            let (wanted, packets) = (relay.expected(pass), memory.chunks_mut(64));
            relay.receive_trains(&mut batch, packets, wanted).ok()
        };
        for length in 1..=20 {
            bring(to, || peer.send_to(&[1; 20][..length], to));
        }
        let counts = [10, 11, 12, 20, 21, 22].map(&mut receive);
        assert_eq!(counts, [1, 2, 4, 1, 2, 4].map(Some));
        assert_eq!([23, 24].map(&mut receive), [Some(6), None]);
        let burst = &[1; 60];
        bring(to, || {
            send_segments(&peer, Some(to), burst, 20).map(|()| 60)
        });
        assert_eq!([25, 26].map(&mut receive), [Some(1), None]);
    }
}
