//! Bounds what unauthenticated datagrams can draw from the server (requirements S6, S7).
//!
//! A forged source address makes a server answer somebody who asked nothing. The limiter bounds those
//! answers in bytes per second and source prefix, in a table of fixed size: prefixes that fall into the
//! same bucket share its allowance, and nobody outside knows which do.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use crate::time::Instant;

const BUCKETS: usize = 4096;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Leaky buckets that hold one second of allowance each.
#[derive(Debug)]
pub(super) struct RateLimit {
    hash: FixedState,
    /// When the bucket will have recovered all of its allowance.
    recovered: Box<[Instant]>,
}

impl RateLimit {
    pub(super) fn new(seed: u64) -> Self {
        let recovered = vec![Instant::ZERO; BUCKETS].into_boxed_slice();
        Self {
            hash: FixedState::with_seed(seed),
            recovered,
        }
    }

    /// Whether `bytes` more may go to `client`, at `rate` bytes per second. Loopback is exempt.
    pub(super) fn allows(&mut self, client: IpAddr, bytes: usize, rate: u32, now: Instant) -> bool {
        if client.is_loopback() {
            return true;
        }
        if rate == 0 {
            return false;
        }
        let bucket = self.bucket(client);
        let start = self.recovered[bucket].max(now).as_nanos();
        let cost = (bytes as u64).saturating_mul(NANOS_PER_SECOND) / u64::from(rate);
        let end = start.saturating_add(cost);
        // A bucket that is whole takes any one answer, or a low rate would let nobody in.
        if start > now.as_nanos() && end - now.as_nanos() > NANOS_PER_SECOND {
            return false;
        }
        self.recovered[bucket] = Instant::from_nanos(end);
        true
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below BUCKETS"
    )]
    fn bucket(&self, client: IpAddr) -> usize {
        (self.hash.hash_one(prefix(client)) % BUCKETS as u64) as usize
    }
}

/// The /24 of an IPv4 address, the /48 of an IPv6 one.
fn prefix(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(v4) => u128::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => v6.to_bits() >> 80 << 80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_prefix_gets_its_bytes_per_second_and_no_more() {
        let mut limit = RateLimit::new(1);
        let mut now = Instant::ZERO;
        let mut passed = 0;
        for packet in 0..10_000u32 {
            let [_, _, _, host] = packet.to_be_bytes();
            if limit.allows(IpAddr::from([192, 0, 2, host]), 100, 10_000, now) {
                passed += 100;
            }
            now = now + Duration::from_millis(1);
        }
        assert!(
            (100_000..=110_000).contains(&passed),
            "{passed} bytes in ten seconds"
        );
        assert!(limit.allows(IpAddr::from([127, 0, 0, 1]), 1_000_000, 1, now));
    }
}
