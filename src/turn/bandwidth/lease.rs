//! A shard's part of a bucket that all shards draw from.

use std::time::Duration;

use super::bucket::{SMALL, SharedBucket, depth};
use crate::time::Instant;

/// How much is drawn at a time, as time at the full rate.
const QUANTUM: u64 = 2;
/// How long a shard does not ask again when there was too little.
const PAUSE: Duration = Duration::from_millis(1);

/// Bytes that were drawn and not used yet.
#[derive(Debug, Default)]
pub(super) struct Lease {
    credit: u64,
    /// When to ask again, for large packets and for small ones.
    ask: [Instant; 2],
}

impl Lease {
    /// Takes `bytes` from the lease, or from `bucket` at `rate` bytes per second; false when there is
    /// too little.
    pub(super) fn take(
        &mut self,
        bucket: &SharedBucket,
        bytes: u64,
        rate: u64,
        now: Instant,
    ) -> bool {
        if self.credit >= bytes {
            self.credit -= bytes;
            return true;
        }
        let ask = &mut self.ask[usize::from(bytes <= SMALL)];
        if now < *ask {
            return false;
        }
        let missing = bytes - self.credit;
        let quantum = missing.max(rate / 1000 * QUANTUM);
        for drawn in [quantum, missing] {
            if bucket.take(drawn, rate, now, depth(bytes)) {
                self.credit = drawn - missing;
                return true;
            }
        }
        *ask = now + PAUSE;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shards_together_get_the_rate() {
        const RATE: u64 = 1_000_000;
        let bucket = SharedBucket::default();
        let mut leases = [Lease::default(), Lease::default()];
        let mut passed = [0; 2];
        for milli in 0..10_000 {
            let now = Instant::ZERO + Duration::from_millis(milli);
            for (lease, passed) in leases.iter_mut().zip(&mut passed) {
                let offered = (0..3).filter(|_| lease.take(&bucket, 1000, RATE, now));
                *passed += offered.count() * 1000;
            }
        }
        let both = passed[0] + passed[1];
        assert!((10_000_000..=10_400_000).contains(&both), "{passed:?}");
    }
}
