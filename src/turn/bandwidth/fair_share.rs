//! The equal share of every user while the whole server's limit is reached.
//!
//! Nobody counts the users: the share falls while what passes it is more than the limit, and rises while
//! it is less. It settles where the users that want more than the share have it, and the others what they
//! want.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Instant;

/// How often the share is reconsidered.
const INTERVAL: Duration = Duration::from_millis(100);
/// The least share, in bytes per second: a call's worth of voice.
const LEAST: u64 = 8_000;

/// The share of a user, each way for itself; all shards know the same one.
#[derive(Debug, Default)]
pub(super) struct FairShare {
    /// Bytes per second; zero before the first packet.
    rate: AtomicU64,
    /// Bytes that passed the shares since.
    passed: AtomicU64,
    /// When the share was last reconsidered, in nanoseconds.
    since: AtomicU64,
}

impl FairShare {
    /// Tells of bytes that passed the share of their user.
    pub(super) fn note(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The share in bytes per second when all users together have `total`, reconsidered when it is time.
    pub(super) fn rate(&self, total: u64, now: Instant) -> u64 {
        let since = self.since.load(Ordering::Relaxed);
        let elapsed = now.since(Instant::from_nanos(since));
        if elapsed >= INTERVAL && self.begin(since, now) {
            let passed = self.passed.swap(0, Ordering::Relaxed);
            let old = self.current(total);
            let new = reconsider(old, passed, elapsed, total);
            self.rate.store(new, Ordering::Relaxed);
        }
        self.current(total)
    }

    /// One shard begins the next interval.
    fn begin(&self, since: u64, now: Instant) -> bool {
        let order = Ordering::Relaxed;
        let next = now.as_nanos();
        self.since
            .compare_exchange(since, next, order, order)
            .is_ok()
    }

    /// At first a user may have all there is.
    fn current(&self, total: u64) -> u64 {
        match self.rate.load(Ordering::Relaxed) {
            0 => total,
            rate => rate.min(total),
        }
    }
}

/// The share after an interval in which `passed` bytes went. It aims a little below `total`, so that the
/// limit itself drops nobody's packets.
fn reconsider(old: u64, passed: u64, elapsed: Duration, total: u64) -> u64 {
    let seconds = elapsed.as_nanos().max(1);
    let rate = u128::from(passed) * 1_000_000_000 / seconds;
    let target = u128::from(total) * 31 / 32;
    let new = u128::from(old) * target / rate.max(target / 2).max(1);
    let least = LEAST.min(total);
    u64::try_from(new).unwrap_or(total).clamp(least, total)
}
