//! Where packets lie from the moment they arrive until they are sent: never copied, nothing allocated.

use std::ops::Range;

/// Bytes before each packet: room for what is sent in front of its payload.
const HEAD: usize = 64;
/// The largest datagram, and the most that one read of a stream takes.
const PACKET: usize = 65_536;
/// Bytes after each packet: room for the padding of a frame.
const TAIL: usize = 64;
const SLOT: usize = HEAD + PACKET + TAIL;
/// How many packets fit.
pub const SLOTS: usize = 64;
/// Bytes for messages that did not arrive in a slot of their own: answers, reassembled frames.
const SCRATCH: usize = 384 * 1024;

/// A place in the [`Buffers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    #[expect(clippy::cast_possible_truncation, reason = "the memory is a few MiB")]
    const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Its length in bytes.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has no bytes.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The packet memory of one shard: [`SLOTS`] slots with head room, taken in order and all given back at
/// once, and a stretch for copies. Its size is address space; only pages that packets touched are real.
pub struct Buffers {
    memory: Box<[u8]>,
    taken: usize,
    copied: usize,
    /// What may be written on around the packet in hand.
    margin: Span,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            memory: vec![0; SLOTS * SLOT + SCRATCH].into(),
            taken: 0,
            copied: 0,
            margin: Span::default(),
        }
    }
}

impl Buffers {
    /// How many slots are free.
    pub const fn free(&self) -> usize {
        SLOTS - self.taken
    }

    /// The packet room of every free slot, in the order in which [`take`](Self::take) takes them.
    pub fn free_packets(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.margin = Span::default();
        let (slots, _) = self.memory.split_at_mut(SLOTS * SLOT);
        slots
            .chunks_exact_mut(SLOT)
            .skip(self.taken)
            .map(|slot| &mut slot[HEAD..HEAD + PACKET])
    }

    /// The packet of `length` bytes in the free slot `ahead` places behind the next one.
    pub fn packet(&self, ahead: usize, length: usize) -> &[u8] {
        let start = (self.taken + ahead) * SLOT + HEAD;
        &self.memory[start..start + length.min(PACKET)]
    }

    /// Takes in hand the packet at `part` of the `length` bytes that arrived in the free slot `ahead` places
    /// behind the next one: until the next packet, [`enclose`](Self::enclose) may write on what is around
    /// it and no other packet's.
    pub fn hold(&mut self, ahead: usize, part: Range<usize>, length: usize) -> Span {
        let base = (self.taken + ahead) * SLOT + HEAD;
        let (start, end) = (base + part.start, base + part.end.min(PACKET));
        let before = if part.start == 0 { HEAD } else { 0 };
        let behind = if part.end >= length { TAIL } else { 0 };
        self.margin = Span::new(start - before, end + behind);
        Span::new(start, end)
    }

    /// Keeps the packets of the next `count` slots until [`reset`](Self::reset).
    pub fn take(&mut self, count: usize) {
        self.taken = SLOTS.min(self.taken + count);
    }

    /// Gives back all slots and all copies.
    pub fn reset(&mut self) {
        self.taken = 0;
        self.copied = 0;
    }

    /// Gives back all copies.
    pub fn reset_copies(&mut self) {
        self.copied = 0;
    }

    /// How many bytes may still be copied.
    pub const fn copy_room(&self) -> usize {
        SCRATCH - self.copied
    }

    /// Where `bytes` lies, when it is a part of this memory.
    pub fn locate(&self, bytes: &[u8]) -> Option<Span> {
        let start = bytes
            .as_ptr()
            .addr()
            .checked_sub(self.memory.as_ptr().addr())?;
        let end = start.checked_add(bytes.len())?;
        (end <= self.memory.len()).then(|| Span::new(start, end))
    }

    /// Copies `parts` one behind the other; none when [`copy_room`](Self::copy_room) is less.
    pub fn copy(&mut self, parts: &[&[u8]]) -> Option<Span> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > self.copy_room() {
            return None;
        }
        let start = SLOTS * SLOT + self.copied;
        let mut at = start;
        for part in parts {
            self.memory[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.copied += length;
        Some(Span::new(start, at))
    }

    /// Copies `payload` and takes the copy in hand, with four bytes before it that a head may take.
    pub fn keep(&mut self, payload: &[u8]) -> Option<Span> {
        let span = self.copy(&[&[0; 4], payload])?;
        self.margin = span;
        Some(Span::new(span.start as usize + 4, span.end as usize))
    }

    /// Takes a copy of `length` bytes in hand, yet to be made, with room before it and behind; none when
    /// [`copy_room`](Self::copy_room) is not 128 bytes more.
    pub fn room(&mut self, length: usize) -> Option<(Span, &mut [u8])> {
        let needed = HEAD + length + TAIL;
        if needed > self.copy_room() {
            return None;
        }
        let begin = SLOTS * SLOT + self.copied;
        self.copied += needed;
        self.margin = Span::new(begin, begin + needed);
        let (start, end) = (begin + HEAD, begin + HEAD + length);
        Some((Span::new(start, end), &mut self.memory[start..end]))
    }

    /// Takes the packet at `span` in hand, around which are others.
    pub fn claim(&mut self, span: Span) {
        self.margin = span;
    }

    /// Writes `prefix` before the part of the packet in hand at `span` and `padding` zero bytes behind it;
    /// none when something else is there.
    pub fn enclose(&mut self, span: Span, prefix: &[u8], padding: usize) -> Option<Span> {
        let start = (span.start as usize).checked_sub(prefix.len())?;
        let end = span.end as usize + padding;
        if start < self.margin.start as usize || end > self.margin.end as usize {
            return None;
        }
        self.memory[start..span.start as usize].copy_from_slice(prefix);
        self.memory[span.end as usize..end].fill(0);
        Some(Span::new(start, end))
    }

    /// Copies `prefix`, the bytes at `span` and `padding` zero bytes one behind the other; none when
    /// [`copy_room`](Self::copy_room) is less.
    pub fn gather(&mut self, span: Span, prefix: &[u8], padding: usize) -> Option<Span> {
        let length = prefix.len() + span.len() + padding;
        if length > self.copy_room() {
            return None;
        }
        let start = SLOTS * SLOT + self.copied;
        let (body, end) = (start + prefix.len(), start + length);
        self.memory[start..body].copy_from_slice(prefix);
        self.memory
            .copy_within(span.start as usize..span.end as usize, body);
        self.memory[end - padding..end].fill(0);
        self.copied += length;
        Some(Span::new(start, end))
    }

    /// The bytes at `span`.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.memory[span.start as usize..span.end as usize]
    }
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffers({} of {SLOTS} slots taken)", self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(buffers: &mut Buffers, bytes: &[u8]) {
        let room = buffers.free_packets().next().expect("a free slot");
        room[..bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn a_packet_is_enclosed_where_it_lies() {
        let mut buffers = Buffers::default();
        buffers.take(3);
        arrive(&mut buffers, b"media!!");
        let span = buffers.hold(0, 0..5, 5);
        let whole = buffers.enclose(span, b"head", 3).expect("room");
        assert_eq!(buffers.bytes(whole), b"headmedia\0\0\0");
        assert_eq!((whole.len(), whole.is_empty()), (12, false));
    }

    #[test]
    fn the_last_slot_has_room_behind_it() {
        let mut buffers = Buffers::default();
        buffers.take(SLOTS - 1);
        assert_eq!(buffers.free(), 1);
        let span = buffers.hold(0, 0..65_535, 65_535);
        let whole = buffers.enclose(span, &[1; 48], 3).map(Span::len);
        assert_eq!(whole, Some(65_586));
        buffers.take(1);
        assert_eq!((buffers.free(), buffers.free_packets().count()), (0, 0));
    }

    #[test]
    fn packets_of_a_train_do_not_write_on_each_other() {
        let mut buffers = Buffers::default();
        arrive(&mut buffers, b"1abc2def3g");
        let first = buffers.hold(0, 0..4, 10);
        assert!(buffers.enclose(first, b"long head", 0).is_some());
        assert_eq!(buffers.enclose(first, b"", 1), None);
        let middle = buffers.hold(0, 4..8, 10);
        let payload = Span::new(middle.start as usize + 1, middle.end as usize);
        assert_eq!(buffers.enclose(middle, b"h", 0), None);
        assert_eq!(buffers.enclose(payload, b"hh", 0), None);
        let own = buffers.enclose(payload, b"h", 0).expect("its own byte");
        assert_eq!(buffers.bytes(own), b"hdef");
        let last = buffers.hold(0, 8..10, 10);
        assert!(buffers.enclose(last, b"", 3).is_some());
        assert_eq!(buffers.bytes(first), b"1abc");
        assert_eq!(buffers.enclose(first, b"h", 0), None);
    }

    #[test]
    fn nothing_is_enclosed_that_is_not_in_hand() {
        let mut buffers = Buffers::default();
        let copy = buffers.copy(&[b"abc"]).expect("room");
        assert_eq!(buffers.enclose(copy, b"h", 0), None);
        let held = buffers.hold(0, 0..3, 3);
        arrive(&mut buffers, b"another");
        assert_eq!(buffers.enclose(held, b"h", 0), None);
    }

    #[test]
    fn a_packet_is_gathered_with_what_belongs_to_it() {
        let mut buffers = Buffers::default();
        arrive(&mut buffers, b"1abc2def");
        let span = buffers.hold(0, 4..8, 8);
        let whole = buffers.gather(span, b"head", 2).expect("room");
        assert_eq!(buffers.bytes(whole), b"head2def\0\0");
        let rest = buffers.copy_room();
        assert!(buffers.gather(span, &vec![0; rest - 4], 1).is_none());
        assert!(buffers.gather(span, &vec![0; rest - 5], 1).is_some());
    }

    #[test]
    fn copies_end_where_the_room_ends() {
        let mut buffers = Buffers::default();
        let span = buffers.copy(&[b"ab", b"", b"c"]).expect("room");
        assert_eq!(buffers.bytes(span), b"abc");
        let rest = vec![7; buffers.copy_room()];
        assert!(buffers.copy(&[&rest, b"x"]).is_none());
        assert!(buffers.copy(&[&rest]).is_some());
        assert!(buffers.copy(&[b"x"]).is_none());
        buffers.reset_copies();
        assert_eq!(buffers.copy_room(), SCRATCH);
    }

    #[test]
    fn bytes_of_elsewhere_are_not_located() {
        let buffers = Buffers::default();
        assert_eq!(buffers.locate(&[0; 4]), None);
    }
}
