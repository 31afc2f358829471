//! The rings by which packets go from the allocations of one shard to those of another.
//!
//! Each ordered pair of shards that exchanges packets has one, with one writer and one reader, who wait for
//! nobody. It is made for the first packet and handed over by mail.
//!
//! The more shards there are, the smaller is each ring. Those that one shard writes to have 6 MB together at
//! most with up to 32 shards, and 180 kB each with more: 730 MB when 64 shards all exchange packets.

use std::fmt;
use std::ops::RangeInclusive;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::net::{Buffers, Span};
use crate::turn::Hop;

/// Bytes of payload that wait in all rings that one shard writes to, at most.
const ALL: usize = 4 << 20;
/// Bytes of payload that wait in one ring at most: two of the largest datagrams with many shards, and not
/// more than what arrives in a few milliseconds with few.
const BYTES: RangeInclusive<usize> = 128 * 1024..=512 * 1024;
/// Bytes of payload for which there is one packet.
const PER_PACKET: usize = 256;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// To the allocation that it is for.
    There,
    /// To the shard that it came from: the allocation has moved away.
    Back,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) hop: Hop,
    pub(super) leg: Leg,
    length: u16,
}

/// The ring took nothing: its reader does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

struct Writer {
    heads: Producer<Head>,
    bytes: Producer<u8>,
    /// Something was written that the reader may not know of.
    is_fresh: bool,
}

/// The reading end of one ring.
pub(super) struct Reader {
    heads: Consumer<Head>,
    bytes: Consumer<u8>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} packets)", self.heads.slots())
    }
}

/// Bytes of payload that wait in one ring at most, when there are so many `shards`.
fn room(shards: usize) -> usize {
    let share = ALL / shards.max(1);
    share.clamp(*BYTES.start(), *BYTES.end())
}

fn open(room: usize) -> (Writer, Reader) {
    let (heads, heads_out) = RingBuffer::new(room / PER_PACKET);
    let (bytes, bytes_out) = RingBuffer::new(room);
    let writer = Writer {
        heads,
        bytes,
        is_fresh: false,
    };
    let reader = Reader {
        heads: heads_out,
        bytes: bytes_out,
    };
    (writer, reader)
}

impl Writer {
    /// The payload is there before its head is.
    fn push(&mut self, hop: Hop, leg: Leg, payload: &[u8]) -> Result<(), Full> {
        if self.heads.is_full() {
            return Err(Full);
        }
        // No datagram is longer.
        let length = u16::try_from(payload.len()).map_err(|_| Full)?;
        self.bytes.push_entire_slice(payload).map_err(|_| Full)?;
        let head = Head { hop, leg, length };
        self.heads.push(head).map_err(|_| Full)
    }
}

impl Reader {
    /// The next packet, its payload copied behind head room; none when there is no packet or no room.
    fn pop(&mut self, buffers: &mut Buffers) -> Option<(Head, Span)> {
        let head = *self.heads.peek().ok()?;
        let (span, room) = buffers.room(head.length.into())?;
        self.bytes.pop_entire_slice(room).ok()?;
        self.heads.pop().ok()?;
        Some((head, span))
    }
}

/// The ends that one shard has.
pub(super) struct Rings {
    /// Bytes of payload that wait in one ring at most.
    room: usize,
    /// By the number of the shard that reads.
    writers: Vec<Option<Writer>>,
    /// In the order in which they came.
    readers: Vec<Reader>,
    /// Shards that have something fresh to read.
    fresh: Vec<u16>,
}

impl Rings {
    /// None yet, in one of so many `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            room: room(shards),
            writers: Vec::new(),
            readers: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// Gives a packet to the shard `to`; the reading end of a ring that is made for it goes to `hand_over`.
    pub(super) fn push(
        &mut self,
        to: u16,
        (hop, leg): (Hop, Leg),
        payload: &[u8],
        hand_over: impl FnOnce(Reader),
    ) -> Result<(), Full> {
        let place = usize::from(to);
        if self.writers.len() <= place {
            self.writers.resize_with(place + 1, || None);
        }
        let writer = self.writers[place].get_or_insert_with(|| {
            let (writer, reader) = open(self.room);
            hand_over(reader);
            writer
        });
        writer.push(hop, leg, payload)?;
        if !std::mem::replace(&mut writer.is_fresh, true) {
            self.fresh.push(to);
        }
        Ok(())
    }

    /// A shard to which something was given since it was named last.
    pub(super) fn take_fresh(&mut self) -> Option<u16> {
        let shard = self.fresh.pop()?;
        if let Some(Some(writer)) = self.writers.get_mut(usize::from(shard)) {
            writer.is_fresh = false;
        }
        Some(shard)
    }

    /// Reads from `reader` too from now on.
    pub(super) fn add(&mut self, reader: Reader) {
        self.readers.push(reader);
    }

    /// How many rings there are to read.
    pub(super) const fn readers(&self) -> usize {
        self.readers.len()
    }

    /// How many packets wait in one of them.
    pub(super) fn waiting(&self, reader: usize) -> usize {
        let reader = self.readers.get(reader);
        reader.map_or(0, |reader| reader.heads.slots())
    }

    /// The next packet of one of them.
    pub(super) fn pop(&mut self, reader: usize, buffers: &mut Buffers) -> Option<(Head, Span)> {
        self.readers.get_mut(reader)?.pop(buffers)
    }

    /// How many of them have packets.
    pub(super) fn busy(&self) -> usize {
        let busy = |reader: &&Reader| !reader.heads.is_empty();
        self.readers.iter().filter(busy).count()
    }

    /// Whether there is anything to read.
    pub(super) fn has_waiting(&self) -> bool {
        self.readers.iter().any(|reader| !reader.heads.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::turn::{AllocationKey, Place};

    fn hop(number: u64) -> Hop {
        let place = Place {
            shard: 0,
            key: AllocationKey::from_token(number),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        Hop {
            from: place,
            to: place,
            source: address,
            peer: address,
        }
    }

    fn payload(number: u64) -> Vec<u8> {
        let length = usize::try_from(number * 37 % 1500).expect("a small number");
        vec![number.to_be_bytes()[7]; length]
    }

    fn pair() -> (Rings, Rings) {
        pair_of(2)
    }

    /// Two of so many `shards`.
    fn pair_of(shards: usize) -> (Rings, Rings) {
        let (mut near, mut far) = (Rings::new(shards), Rings::new(shards));
        let opened = near.push(1, (hop(0), Leg::There), b"", |reader| far.add(reader));
        assert_eq!(opened, Ok(()));
        let (head, span) = far.pop(0, &mut Buffers::default()).expect("a packet");
        assert!(head.leg == Leg::There && span.is_empty());
        (near, far)
    }

    fn push(rings: &mut Rings, number: u64, payload: &[u8]) -> Result<(), Full> {
        let again = |_| panic!("there is a ring already");
        rings.push(1, (hop(number), Leg::Back), payload, again)
    }

    #[test]
    fn packets_come_out_as_they_went_in() {
        let (mut near, mut far) = pair();
        let mut buffers = Buffers::default();
        let (mut pushed, mut popped) = (0, 0);
        while popped < 5000 {
            for _ in 0..popped % 7 + 1 {
                push(&mut near, pushed, &payload(pushed)).expect("room");
                pushed += 1;
            }
            assert_eq!(far.waiting(0) as u64, pushed - popped);
            while let Some((head, span)) = far.pop(0, &mut buffers) {
                assert_eq!((head.hop, head.leg), (hop(popped), Leg::Back));
                assert_eq!(buffers.bytes(span), payload(popped));
                let enclosed = buffers.enclose(span, &[1; 48], 3).expect("room");
                assert_eq!(enclosed.len(), span.len() + 51);
                popped += 1;
                buffers.reset_copies();
            }
            assert!(!far.has_waiting());
        }
    }

    #[test]
    fn a_full_ring_takes_nothing_and_keeps_what_it_has() {
        let (most, least) = (*BYTES.end(), *BYTES.start());
        for (shards, size, room) in [
            (2, 0, most / PER_PACKET),
            (2, 1200, most / 1200),
            (64, 0, least / PER_PACKET),
            (64, 1200, least / 1200),
            (64, usize::from(u16::MAX), 2),
        ] {
            let (mut near, mut far) = pair_of(shards);
            let mut buffers = Buffers::default();
            let full = (0..).find(|number| push(&mut near, *number, &vec![1; size]).is_err());
            assert_eq!(full, Some(room as u64));
            far.pop(0, &mut buffers).expect("a packet");
            push(&mut near, 7, &vec![2; size]).expect("room for one");
            assert_eq!(push(&mut near, 8, &vec![3; size]), Err(Full));
            assert_eq!(far.waiting(0), room);
        }
    }

    #[test]
    fn the_more_shards_there_are_the_smaller_is_a_ring() {
        let whole = |shards| room(shards) + room(shards) / PER_PACKET * size_of::<Head>();
        for shards in 1..=32 {
            let all = whole(shards) * (shards - 1);
            assert!(all < 6_000_000, "{shards} shards: {all} bytes");
        }
        assert!(whole(1) < 720_000 && whole(33) < 180_000 && whole(4096) < 180_000);
    }

    #[test]
    fn rings_with_packets_are_counted() {
        let mut far = Rings::new(3);
        let mut near = [Rings::new(3), Rings::new(3)];
        for writer in &mut near {
            let opened = writer.push(2, (hop(0), Leg::There), b"", |reader| far.add(reader));
            assert_eq!(opened, Ok(()));
        }
        assert_eq!((far.readers(), far.busy()), (2, 2));
        far.pop(0, &mut Buffers::default()).expect("a packet");
        assert_eq!((far.readers(), far.busy()), (2, 1));
        assert!(far.has_waiting());
    }

    #[test]
    fn a_packet_waits_until_there_is_room_for_a_copy() {
        let (mut near, mut far) = pair();
        let mut buffers = Buffers::default();
        push(&mut near, 1, b"data").expect("room");
        while buffers.copy(&[&[0; 1000]]).is_some() {}
        while buffers.copy(&[b"x"]).is_some() {}
        assert!(far.pop(0, &mut buffers).is_none() && far.has_waiting());
        buffers.reset_copies();
        assert!(far.pop(0, &mut buffers).is_some());
    }

    #[test]
    fn a_shard_is_told_once_of_what_is_fresh() {
        let (mut near, _far) = pair();
        push(&mut near, 1, b"").expect("room");
        assert_eq!((near.take_fresh(), near.take_fresh()), (Some(1), None));
        push(&mut near, 2, b"").expect("room");
        assert_eq!((near.take_fresh(), near.take_fresh()), (Some(1), None));
    }
}
