//! When packets are due at a fixed rate.

/// Bursts at equal distances. What was due is due, however late it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    begin: u64,
    /// Nanoseconds between bursts.
    distance: f64,
    next: u64,
}

impl Schedule {
    /// From `begin` on, bursts of `burst` packets that add up to `rate` packets a second; `shift`, 0 to
    /// 1, moves all of them by a part of the distance.
    pub(super) fn new(begin: u64, rate: f64, burst: usize, shift: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let distance = 1e9 * burst as f64 / rate.max(0.001);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below a day"
        )]
        let begin = begin + (distance * shift) as u64;
        Self {
            begin,
            distance,
            next: 0,
        }
    }

    /// Takes the next burst if it is due at `now`, and says when it was.
    pub(super) fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next_due();
        (due <= now).then(|| {
            self.next += 1;
            due
        })
    }

    /// When the next burst is due.
    pub(super) fn next_due(&self) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts and days in nanoseconds are below 2^52"
        )]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive"
        )]
        let after = (self.next as f64 * self.distance) as u64;
        self.begin + after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_times(schedule: &mut Schedule, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(now)).collect()
    }

    #[test]
    fn packets_are_due_at_equal_distances() {
        let mut schedule = Schedule::new(1000, 1e6, 1, 0.0);
        assert!(due_times(&mut schedule, 999).is_empty());
        assert_eq!(due_times(&mut schedule, 3999), [1000, 2000, 3000]);
        assert_eq!(schedule.next_due(), 4000);
    }

    #[test]
    fn bursts_keep_the_rate() {
        let mut schedule = Schedule::new(0, 1e6, 8, 0.5);
        assert_eq!(due_times(&mut schedule, 20_000), [4000, 12_000, 20_000]);
    }

    #[test]
    fn rates_that_do_not_divide_a_second_do_not_drift() {
        let mut schedule = Schedule::new(0, 3.0, 1, 0.0);
        let due = due_times(&mut schedule, 3_000_000_000);
        assert_eq!(due.len(), 10);
        assert_eq!(due[9], 3_000_000_000);
    }

    #[test]
    fn who_is_late_owes_everything() {
        let mut schedule = Schedule::new(0, 1000.0, 1, 0.0);
        assert_eq!(due_times(&mut schedule, 5_000_000).len(), 6);
    }
}
