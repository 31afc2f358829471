//! What a stream client has not read yet: media is bounded by its age, all of it by its bytes, and the
//! oldest media goes first (requirement S18).

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::time::Duration;

use crate::time::Instant;

/// What a queued message costs beside its bytes.
const OVERHEAD: usize = 64;
/// The most messages that one write takes.
const SLICES: usize = 32;

/// Nothing could be dropped to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
struct Entry {
    sequence: u64,
    queued: Instant,
    bytes: Box<[u8]>,
}

impl Entry {
    const fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// Messages that wait for room in a connection, relayed media and control answers apart, so that
/// dropping the oldest media is one step; the sequence puts them back in order.
#[derive(Debug)]
pub(super) struct Backlog {
    media: VecDeque<Entry>,
    control: VecDeque<Entry>,
    /// A message whose first bytes were written: its rest goes before all else.
    begun: Option<Box<[u8]>>,
    written: usize,
    /// Of all that waits.
    cost: usize,
    /// Of the media that may be dropped.
    media_cost: usize,
    limit: usize,
    media_age: Duration,
    next: u64,
}

impl Backlog {
    /// An empty backlog of at most `limit` bytes, in which media waits for less than `media_age`.
    pub(super) fn new(limit: usize, media_age: Duration) -> Self {
        Self {
            media: VecDeque::new(),
            control: VecDeque::new(),
            begun: None,
            written: 0,
            cost: 0,
            media_cost: 0,
            limit,
            media_age,
            next: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_none() && self.media.is_empty() && self.control.is_empty()
    }

    /// How many relayed messages wait, apart from one that was begun.
    pub(super) fn media(&self) -> usize {
        self.media.len()
    }

    /// Queues the rest of a message whose beginning was written. Only into an empty backlog.
    pub(super) fn push_rest(&mut self, rest: &[u8]) {
        debug_assert!(self.is_empty());
        self.cost += rest.len() + OVERHEAD;
        self.begun = Some(rest.into());
        self.written = 0;
    }

    /// Drops the media that has waited for too long, and returns how many messages that were.
    pub(super) fn drop_old(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        while let Some(oldest) = self.media.front() {
            if now < oldest.queued + self.media_age {
                break;
            }
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Queues relayed media and returns how many older ones were dropped for it.
    ///
    /// # Errors
    /// [`Full`]: all that waits is control answers.
    pub(super) fn push_media(&mut self, bytes: &[u8], now: Instant) -> Result<usize, Full> {
        let evicted = self.make_room(bytes.len() + OVERHEAD)?;
        let entry = self.entry(bytes, now);
        self.media_cost += entry.cost();
        self.media.push_back(entry);
        Ok(evicted)
    }

    /// Queues a control answer and returns how many relayed messages were dropped for it.
    ///
    /// # Errors
    /// [`Full`]: all that waits is control answers.
    pub(super) fn push_control(&mut self, bytes: &[u8]) -> Result<usize, Full> {
        let evicted = self.make_room(bytes.len() + OVERHEAD)?;
        // How old an answer is never matters.
        let entry = self.entry(bytes, Instant::ZERO);
        self.control.push_back(entry);
        Ok(evicted)
    }

    fn entry(&mut self, bytes: &[u8], queued: Instant) -> Entry {
        self.next += 1;
        self.cost += bytes.len() + OVERHEAD;
        Entry {
            sequence: self.next,
            queued,
            bytes: bytes.into(),
        }
    }

    fn make_room(&mut self, cost: usize) -> Result<usize, Full> {
        if self.cost - self.media_cost + cost > self.limit {
            return Err(Full);
        }
        let mut evicted = 0;
        while self.cost + cost > self.limit {
            self.drop_oldest().ok_or(Full)?;
            evicted += 1;
        }
        Ok(evicted)
    }

    fn drop_oldest(&mut self) -> Option<()> {
        let oldest = self.pop_media()?;
        self.cost -= oldest.cost();
        Some(())
    }

    fn pop_media(&mut self) -> Option<Entry> {
        let entry = self.media.pop_front()?;
        self.media_cost -= entry.cost();
        Some(entry)
    }

    /// Writes until nothing is left or `stream` takes no more.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn write_to(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.gather(&mut slices);
            match stream.write_vectored(&slices[..filled]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The messages in the order in which they go.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let begun = self.begun.iter().map(|bytes| &bytes[self.written..]);
        let mut media = self.media.iter().peekable();
        let mut control = self.control.iter().peekable();
        let queued = std::iter::from_fn(|| {
            let media_first = match (media.peek(), control.peek()) {
                (Some(media), Some(control)) => media.sequence < control.sequence,
                (media, _) => media.is_some(),
            };
            let next = if media_first {
                media.next()
            } else {
                control.next()
            };
            next.map(|entry| &entry.bytes[..])
        });
        let mut filled = 0;
        for (slice, bytes) in slices.iter_mut().zip(begun.chain(queued)) {
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let Some(begun) = self.begun.take().or_else(|| self.pop()) else {
                return;
            };
            let left = begun.len() - self.written;
            if written < left {
                self.written += written;
                self.begun = Some(begun);
                return;
            }
            written -= left;
            self.cost -= begun.len() + OVERHEAD;
            self.written = 0;
        }
    }

    fn pop(&mut self) -> Option<Box<[u8]>> {
        let sequence = |queue: &VecDeque<Entry>| queue.front().map_or(u64::MAX, |e| e.sequence);
        let entry = if sequence(&self.media) < sequence(&self.control) {
            self.pop_media()
        } else {
            self.control.pop_front()
        };
        entry.map(|entry| entry.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1);
    const AGE: Duration = Duration::from_millis(300);

    fn backlog(limit: usize) -> Backlog {
        Backlog::new(limit, AGE)
    }

    fn after(millis: u64) -> Instant {
        START + Duration::from_millis(millis)
    }

    /// A connection that takes `room` more bytes.
    struct Pipe {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn drain(backlog: &mut Backlog, step: usize) -> Vec<u8> {
        let mut pipe = Pipe {
            room: 0,
            taken: Vec::new(),
        };
        while !backlog.is_empty() {
            pipe.room = step;
            backlog.write_to(&mut pipe).expect("an open pipe");
        }
        assert_eq!((backlog.cost, backlog.media_cost), (0, 0));
        pipe.taken
    }

    #[test]
    fn messages_leave_in_the_order_in_which_they_came() {
        for step in 1..12 {
            let mut backlog = backlog(10_000);
            backlog.push_rest(b"rest");
            assert_eq!(backlog.push_media(b"-m1", START), Ok(0));
            assert_eq!(backlog.push_control(b"-c1"), Ok(0));
            assert_eq!(backlog.push_control(b"-c2"), Ok(0));
            assert_eq!(backlog.push_media(b"-m2", START), Ok(0));
            assert_eq!(drain(&mut backlog, step), b"rest-m1-c1-c2-m2");
        }
    }

    #[test]
    fn the_oldest_media_goes_and_control_stays() {
        let mut backlog = backlog(4 * (OVERHEAD + 2));
        for text in [b"m1", b"m2"] {
            assert_eq!(backlog.push_media(text, START), Ok(0));
        }
        assert_eq!(backlog.push_control(b"c1"), Ok(0));
        assert_eq!(backlog.push_media(b"m3", START), Ok(0));
        assert_eq!(backlog.push_media(b"m4", START), Ok(1));
        assert_eq!(backlog.push_control(b"c2"), Ok(1));
        assert_eq!(drain(&mut backlog, 3), b"c1m3m4c2");
    }

    #[test]
    fn a_backlog_of_control_answers_is_full() {
        let mut backlog = backlog(2 * (OVERHEAD + 2));
        assert_eq!(backlog.push_media(b"m1", START), Ok(0));
        assert_eq!(backlog.push_control(b"c1"), Ok(0));
        assert_eq!(backlog.push_control(b"c2"), Ok(1));
        assert_eq!(backlog.push_control(b"c3"), Err(Full));
        assert_eq!(backlog.push_media(b"m2", START), Err(Full));
        assert_eq!(drain(&mut backlog, 100), b"c1c2");
    }

    #[test]
    fn a_begun_message_is_finished_whatever_comes() {
        let mut backlog = backlog(3 * (OVERHEAD + 2));
        assert_eq!(backlog.push_media(b"m1", START), Ok(0));
        let mut pipe = Pipe {
            room: 1,
            taken: Vec::new(),
        };
        backlog.write_to(&mut pipe).expect("an open pipe");
        for i in 0..5 {
            assert_eq!(backlog.push_media(b"xx", START), Ok(usize::from(i >= 2)));
        }
        assert_eq!(pipe.taken, b"m");
        assert_eq!(drain(&mut backlog, 100), b"1xxxx");
    }

    #[test]
    fn a_message_that_never_fits_drops_nothing() {
        let mut backlog = backlog(2 * (OVERHEAD + 2));
        assert_eq!(backlog.push_media(b"m1", START), Ok(0));
        assert_eq!(backlog.push_media(&[0; 200], START), Err(Full));
        assert_eq!(drain(&mut backlog, 100), b"m1");
    }

    #[test]
    fn media_that_has_waited_for_too_long_goes_and_control_stays() {
        let mut backlog = backlog(10_000);
        assert_eq!(backlog.push_control(b"c1"), Ok(0));
        for (text, millis) in [(b"m1", 0), (b"m2", 10), (b"m3", 20)] {
            assert_eq!(backlog.push_media(text, after(millis)), Ok(0));
        }
        assert_eq!(backlog.drop_old(after(299)), 0);
        assert_eq!(backlog.drop_old(after(310)), 2);
        assert_eq!(backlog.media(), 1);
        assert_eq!(backlog.push_media(b"m4", after(310)), Ok(0));
        assert_eq!(drain(&mut backlog, 3), b"c1m3m4");
        assert_eq!(backlog.drop_old(after(10_000)), 0);
    }

    #[test]
    fn a_begun_message_is_finished_however_old_it_is() {
        let mut backlog = backlog(10_000);
        for text in [b"m1", b"m2"] {
            assert_eq!(backlog.push_media(text, START), Ok(0));
        }
        let mut pipe = Pipe {
            room: 1,
            taken: Vec::new(),
        };
        backlog.write_to(&mut pipe).expect("an open pipe");
        assert_eq!(backlog.drop_old(after(10_000)), 1);
        assert_eq!(drain(&mut backlog, 100), b"1");
    }
}
