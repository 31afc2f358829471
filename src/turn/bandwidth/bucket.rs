//! A leaky bucket as the time at which it will have recovered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Instant;

/// The burst that passes at once, as time at the full rate.
pub(super) const DEPTH: Duration = Duration::from_millis(500);
/// What of it only small packets may use.
const RESERVE: Duration = Duration::from_millis(125);
/// The largest small packet in bytes: a frame of voice with all its headers.
pub(super) const SMALL: u64 = 256;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A bucket of one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::turn) struct Bucket(Instant);

impl Bucket {
    /// Takes a packet of `bytes` out, at `rate` bytes per second; false when there is too little.
    pub(super) fn take(&mut self, bytes: u64, rate: u64, now: Instant) -> bool {
        let after = after(self.0, bytes, rate, now, depth(bytes));
        after.map(|after| self.0 = after).is_some()
    }
}

/// A bucket of all shards.
#[derive(Debug, Default)]
pub(super) struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// Takes `bytes` out, at `rate` bytes per second, down to `depth`; false when there is too little.
    pub(super) fn take(&self, bytes: u64, rate: u64, now: Instant, depth: Duration) -> bool {
        let next = |recovered| {
            after(Instant::from_nanos(recovered), bytes, rate, now, depth).map(Instant::as_nanos)
        };
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, next).is_ok()
    }
}

/// How far a packet of `bytes` may draw a bucket down.
pub(super) const fn depth(bytes: u64) -> Duration {
    if bytes <= SMALL {
        DEPTH
    } else {
        DEPTH.saturating_sub(RESERVE)
    }
}

/// When a bucket that will have recovered at `recovered` will have, once `bytes` are taken out.
fn after(
    recovered: Instant,
    bytes: u64,
    rate: u64,
    now: Instant,
    depth: Duration,
) -> Option<Instant> {
    let start = recovered.max(now);
    let cost = bytes.saturating_mul(NANOS_PER_SECOND) / rate.max(1);
    let end = start + Duration::from_nanos(cost);
    // A bucket that is whole lets any one packet pass, or a low rate would let none.
    (start == now || end.since(now) <= depth).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 100_000;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// Bytes of packets of `size` that pass in ten seconds, one offered each millisecond.
    fn passed(bucket: &mut Bucket, size: u64) -> u64 {
        let offered = (0..10_000).filter(|milli| bucket.take(size, RATE, at(*milli)));
        offered.count() as u64 * size
    }

    #[test]
    fn the_rate_holds_and_a_burst_passes() {
        let passed = passed(&mut Bucket::default(), 1000);
        assert!((1_000_000..=1_040_000).contains(&passed), "{passed}");
        let mut bucket = Bucket::default();
        let burst = (0..1000).filter(|_| bucket.take(1000, RATE, at(0))).count();
        assert_eq!(burst, 37, "375 ms of 100 kB/s");
    }

    #[test]
    fn small_packets_pass_when_large_ones_do_not() {
        let mut bucket = Bucket::default();
        while bucket.take(1000, RATE, at(0)) {}
        let mut voice = 0;
        for milli in 0..10_000 {
            bucket.take(1000, RATE, at(milli));
            if milli % 20 == 0 {
                assert!(bucket.take(160, RATE, at(milli)), "at {milli} ms");
                voice += 1;
            }
        }
        assert_eq!(voice, 500);
    }

    #[test]
    fn a_packet_above_the_rate_passes_alone() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(60_000, 1000, at(0)));
        assert!(!bucket.take(1, 1000, at(30_000)));
        assert!(bucket.take(60_000, 1000, at(60_000)));
    }
}
