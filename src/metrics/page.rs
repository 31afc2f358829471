//! One shard's counters, where other threads can read them.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;
use std::time::Duration;

use crate::turn::{Counter, SLOTS, Stats, Transport};

/// A copy of one shard's [`Stats`]. One thread publishes, any number read, nobody waits.
///
/// A reader sees the counters of one moment, never half of one publication and half of the next, so
/// that received = relayed + answered + parked + dropped also holds in what is read.
#[derive(Debug)]
#[repr(align(128))]
pub struct Page {
    /// Odd while a publication is going on.
    sequence: AtomicU64,
    slots: [AtomicU64; SLOTS],
}

impl Default for Page {
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            slots: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Page {
    /// How often a reader tries again while the page changes under it. A publication takes about a
    /// microsecond and comes every 100 ms at most.
    const ATTEMPTS: usize = 1000;
    /// How long a reader rests between two attempts: the shard may need the core to go on.
    const REST: Duration = Duration::from_micros(100);

    /// Replaces the page by `stats`. Only the page's shard calls this.
    pub fn publish(&self, stats: &Stats) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (slot, value) in self.slots.iter().zip(stats.slots()) {
            slot.store(*value, Ordering::Relaxed);
        }
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// The counters of the latest publication, in slot order.
    pub fn snapshot(&self) -> [u64; SLOTS] {
        for _ in 0..Self::ATTEMPTS {
            if let Some(values) = self.of_one_moment() {
                return values;
            }
            thread::sleep(Self::REST);
        }
        // The shard was stopped in the middle of a publication: what is there must do.
        self.read()
    }

    /// How many allocations live, counted in each family that they have.
    pub fn allocations(&self) -> u64 {
        let slots = self.snapshot();
        let counters = Counter::allocations();
        counters.map(|counter| slots[counter.slot()]).sum()
    }

    /// How many clients are connected by a stream or a DTLS session, or have an allocation; who has both
    /// counts twice.
    pub fn clients(&self) -> u64 {
        let slots = self.snapshot();
        let connections = [Transport::Tcp, Transport::Tls].map(Counter::Connections);
        let sessions = [Counter::DtlsSessions, Counter::DtlsHandshaking];
        let counters = connections.into_iter().chain(sessions);
        let connected: u64 = counters.map(|counter| slots[counter.slot()]).sum();
        connected + self.allocations()
    }

    /// How many allocations were ever made, or came from another five-tuple or shard.
    pub fn arrivals(&self) -> u64 {
        let slots = self.snapshot();
        let counters = Counter::allocations_created().chain([Counter::AllocationsMoved]);
        counters.map(|counter| slots[counter.slot()]).sum()
    }

    /// How many connections go on to an upstream, or over TLS to the process before this one.
    pub fn passing(&self) -> u64 {
        self.snapshot()[Counter::Passing.slot()]
    }

    /// The counters, unless a publication went on meanwhile.
    fn of_one_moment(&self) -> Option<[u64; SLOTS]> {
        let before = self.sequence.load(Ordering::Acquire);
        let values = self.read();
        fence(Ordering::Acquire);
        let undisturbed = self.sequence.load(Ordering::Relaxed) == before;
        (before.is_multiple_of(2) && undisturbed).then_some(values)
    }

    fn read(&self) -> [u64; SLOTS] {
        array::from_fn(|slot| self.slots[slot].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Eviction, Family, Source};

    #[test]
    fn a_snapshot_is_what_was_published() {
        let page = Page::default();
        let mut stats = Stats::default();
        stats.add(Counter::Answered, 3);
        stats.add(Counter::BacklogEvicted(Eviction::Size), 4);
        page.publish(&stats);
        assert_eq!(page.snapshot(), *stats.slots());
    }

    #[test]
    fn allocations_that_were_made_and_that_have_moved_arrive() {
        let page = Page::default();
        let mut stats = Stats::default();
        let made = |transport, family| Counter::AllocationsCreated(transport, family);
        stats.add(made(Transport::Udp, Family::V4), 3);
        stats.add(made(Transport::Tls, Family::V6), 4);
        stats.add(Counter::AllocationsMoved, 5);
        page.publish(&stats);
        assert_eq!(page.arrivals(), 12);
    }

    #[test]
    fn a_snapshot_is_of_one_moment() {
        let page = Page::default();
        thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut stats = Stats::default();
                for _ in 0..200_000 {
                    stats.increment(Counter::ReceivedPackets(Source::ClientUdp));
                    stats.increment(Counter::Answered);
                    page.publish(&stats);
                }
            });
            while !publisher.is_finished() {
                // One who publishes without a pause may let no reader in, so not every look succeeds.
                let Some(seen) = page.of_one_moment() else {
                    continue;
                };
                let received = seen[Counter::ReceivedPackets(Source::ClientUdp).slot()];
                assert_eq!(received, seen[Counter::Answered.slot()]);
            }
        });
        assert_eq!(page.snapshot()[Counter::Answered.slot()], 200_000);
    }
}
