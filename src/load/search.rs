//! The highest rate at which no more than a share is lost.

/// Doubling finds a rate that is too high, halving the distance finds the highest that is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// The highest rate that was good.
    good: Option<f64>,
    /// The lowest that was not.
    bad: Option<f64>,
    next: f64,
    probes: u32,
}

/// The search ends when good and bad are so near.
const NEAR: f64 = 0.03;
/// And after so many probes.
const MOST_PROBES: u32 = 24;
/// Rates below are not worth telling apart.
const LOWEST: f64 = 10.0;

impl Search {
    /// Begins with `start` packets a second.
    pub(super) const fn new(start: f64) -> Self {
        Self {
            good: None,
            bad: None,
            next: start,
            probes: 0,
        }
    }

    /// The rate to try next; none at the end.
    pub(super) fn next(&self) -> Option<f64> {
        let found =
            matches!((self.good, self.bad), (Some(good), Some(bad)) if bad - good <= good * NEAR);
        let hopeless = self.good.is_none() && self.next < LOWEST;
        (!found && !hopeless && self.probes < MOST_PROBES).then_some(self.next)
    }

    /// Takes what became of the rate last tried.
    pub(super) fn judge(&mut self, was_good: bool) {
        self.probes += 1;
        if was_good {
            self.good = Some(self.next);
        } else {
            self.bad = Some(self.next);
        }
        self.next = match (self.good, self.bad) {
            (Some(good), Some(bad)) => f64::midpoint(good, bad),
            (Some(good), None) => good * 2.0,
            (None, Some(bad)) => bad / 2.0,
            (None, None) => self.next,
        };
    }

    /// The highest rate that was good.
    #[cfg(test)]
    fn found(&self) -> Option<f64> {
        self.good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(start: f64, limit: f64) -> (Option<f64>, u32) {
        let mut search = Search::new(start);
        while let Some(rate) = search.next() {
            search.judge(rate <= limit);
        }
        (search.found(), search.probes)
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for start in [1000.0, 150_000.0, 10_000_000.0] {
            let (found, probes) = search(start, 150_000.0);
            let found = found.unwrap();
            assert!((150_000.0 / 1.03..=150_000.0).contains(&found), "{found}");
            assert!(probes <= 16, "{probes} probes");
        }
    }

    #[test]
    fn nothing_good_ends_the_search() {
        assert_eq!(search(100_000.0, 0.0).0, None);
    }

    #[test]
    fn everything_good_ends_the_search() {
        assert_eq!(search(1000.0, f64::INFINITY).1, MOST_PROBES);
    }
}
