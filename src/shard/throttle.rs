//! Keeps a warning from flooding the log.

use std::time::Duration;

use crate::time::Instant;

const INTERVAL: Duration = Duration::from_secs(60);

/// Lets one through per minute.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    next: Instant,
}

impl Throttle {
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let allowed = now >= self.next;
        if allowed {
            self.next = now + INTERVAL;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute() {
        let mut throttle = Throttle::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let seconds = [0, 1, 59, 60, 61, 120];
        let allowed = seconds.map(|second| throttle.allows(at(second)));
        assert_eq!(allowed, [true, false, false, true, false, true]);
    }
}
