//! When to look at which allocation: a heap, O(log n), never a sweep.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::allocation_key::AllocationKey;
use crate::time::Instant;

/// How many stale entries are no reason to look for them.
const SLACK: usize = 64;

/// Allocations by the time at which they want to be looked at. An allocation that changed its mind
/// leaves its old entry behind: whoever takes one checks that it still stands.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(Instant, AllocationKey)>>);

impl Deadlines {
    pub(super) fn push(&mut self, at: Instant, key: AllocationKey) {
        self.0.push(Reverse((at, key)));
    }

    /// The earliest entry that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, AllocationKey)> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }

    /// Drops the entries that no longer stand when they are many beside the `live` allocations, so that
    /// clients who come and go leave nothing behind (requirement S15).
    pub(super) fn prune(&mut self, live: usize, stands: impl Fn(Instant, AllocationKey) -> bool) {
        if self.0.len() > 2 * live + SLACK {
            self.0.retain(|Reverse((at, key))| stands(*at, *key));
        }
    }

    /// When the earliest entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}
