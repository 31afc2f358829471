//! Keeps one cause from flooding the log.

use std::time::Duration;

use super::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Lets so many through in each stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    most: u32,
    stretch: Duration,
    left: u32,
    /// When the next stretch begins.
    next: Instant,
}

impl Throttle {
    /// Lets `most` through in each `stretch`, which begins with the first of them.
    pub const fn new(most: u32, stretch: Duration) -> Self {
        Self {
            most,
            stretch,
            left: 0,
            next: Instant::ZERO,
        }
    }

    /// Whether one more may pass at `now`.
    pub fn allows(&mut self, now: Instant) -> bool {
        if now >= self.next {
            self.next = now + self.stretch;
            self.left = self.most;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

impl Default for Throttle {
    /// One a minute, as warnings are.
    fn default() -> Self {
        Self::new(1, MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed<const N: usize>(throttle: &mut Throttle, seconds: [u64; N]) -> [bool; N] {
        seconds.map(|second| throttle.allows(Instant::ZERO + Duration::from_secs(second)))
    }

    #[test]
    fn one_a_minute() {
        let mut throttle = Throttle::default();
        assert_eq!(
            allowed(&mut throttle, [0, 1, 59, 60, 61, 120]),
            [true, false, false, true, false, true]
        );
    }

    #[test]
    fn several_in_a_stretch() {
        let mut throttle = Throttle::new(2, Duration::from_secs(10));
        assert_eq!(
            allowed(&mut throttle, [5, 6, 7, 14, 15, 24, 24]),
            [true, true, false, false, true, true, false]
        );
    }
}
