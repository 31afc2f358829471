//! When packets are due at a fixed rate.

/// The most moments that what is left at the end is told in.
const MOMENTS: u64 = 10_000;

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

    /// Takes all that is due at `now`: bursts of one moment each, when that was and how many.
    pub(super) fn rest(&mut self, now: u64) -> impl Iterator<Item = (u64, usize)> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a day in nanoseconds is below 2^52"
        )]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and a number that is out of range becomes the nearest"
        )]
        let due = (now.saturating_sub(self.begin) as f64 / self.distance) as u64 + 1;
        let behind = if self.next_due() <= now {
            due.saturating_sub(self.next)
        } else {
            0
        };
        let step = behind.div_ceil(MOMENTS).max(1);
        let end = self.next + behind;
        std::iter::from_fn(move || {
            let count = step.min(end - self.next);
            let due = self.next_due();
            self.next += count;
            (count > 0).then_some((due, usize::try_from(count).unwrap_or(usize::MAX)))
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
    fn what_is_left_is_all_that_is_due() {
        for rate in [10.0, 1e6, 3e6, 1e13] {
            let mut schedule = Schedule::new(1000, rate, 1, 0.0);
            let early = due_times(&mut schedule, 2000).len();
            let rest: Vec<_> = schedule.rest(1_000_000_999).collect();
            let bursts: usize = rest.iter().map(|(_, count)| count).sum();
            let all = (early + bursts) as f64;
            assert!((all - rate).abs() <= 1.0 + rate / 1e9, "{all} at {rate}");
            assert!(rest.len() <= 10_001 && rest.is_sorted());
            assert_eq!(schedule.rest(1_000_000_999).count(), 0);
        }
    }

    #[test]
    fn who_is_late_owes_everything() {
        let mut schedule = Schedule::new(0, 1000.0, 1, 0.0);
        assert_eq!(due_times(&mut schedule, 5_000_000).len(), 6);
    }
}
