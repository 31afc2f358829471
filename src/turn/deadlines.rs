//! When to look at which allocation: a heap, O(log n), never a sweep.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::allocation::AllocationKey;
use crate::time::Instant;

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

    /// When the earliest entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}
