//! What one worker counted.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::intake::Arrivals;
use super::stamp::nanos;

/// The longest time that is told apart, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;
/// Most moments of a trial's course.
const MOST_MOMENTS: u64 = 120;
const SHORTEST_MOMENT: u64 = 100_000_000;

/// A histogram of times in nanoseconds, of so many significant digits.
pub(super) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, digits)
        .or_else(|_| Histogram::new(digits))
        .unwrap_or_else(|_| unreachable_histogram())
}

/// One to five digits are always accepted.
fn unreachable_histogram() -> Histogram<u64> {
    let mut digits = 1;
    loop {
        if let Ok(histogram) = Histogram::new(digits) {
            return histogram;
        }
        digits = digits % 5 + 1;
    }
}

/// The times of a trial, in nanoseconds since the run began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// When the first packet is sent.
    pub(super) begin: u64,
    /// From when on it counts.
    pub(super) from: u64,
    /// Until when.
    pub(super) to: u64,
}

impl Stretch {
    pub(super) fn new(begin: u64, warm_up: Duration, duration: Duration) -> Self {
        let from = begin + nanos(warm_up);
        Self {
            begin,
            from,
            to: from + nanos(duration),
        }
    }

    /// Whether what was due at `due` counts.
    pub(super) const fn holds(&self, due: u64) -> bool {
        self.from <= due && due < self.to
    }

    /// How long a moment of its course is.
    pub(super) fn moment(&self) -> u64 {
        ((self.to - self.from) / MOST_MOMENTS).max(SHORTEST_MOMENT)
    }
}

/// Counts of packets that were due within the stretch.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) stretch: Stretch,
    /// Packets that were due.
    pub(super) due: u64,
    /// Of these, those that our own socket or a full connection did not take.
    pub(super) unsent: u64,
    pub(super) received: u64,
    /// Packets that came where they did not belong, or with another length.
    pub(super) misplaced: u64,
    /// Packets that came behind a later one of their flow.
    pub(super) reordered: u64,
    /// How datagrams came in the whole trial.
    pub(super) arrivals: Arrivals,
    /// From due to received.
    pub(super) latency: Histogram<u64>,
    /// From due to sent.
    pub(super) lateness: Histogram<u64>,
    pub(super) moments: Vec<Course>,
    /// Nanoseconds in which there was nothing to do.
    pub(super) idle: u64,
}

/// A moment of a trial's course.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) due: u64,
    pub(super) received: u64,
    pub(super) latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(stretch: Stretch) -> Self {
        let moments = (stretch.to - stretch.from).div_ceil(stretch.moment());
        let moment = Course {
            due: 0,
            received: 0,
            latency: histogram(2),
        };
        Self {
            stretch,
            due: 0,
            unsent: 0,
            received: 0,
            misplaced: 0,
            reordered: 0,
            arrivals: Arrivals::default(),
            latency: histogram(3),
            lateness: histogram(2),
            moments: vec![moment; usize::try_from(moments).unwrap_or(1)],
            idle: 0,
        }
    }

    /// `count` packets were due at `due` and were sent at `now`.
    pub(super) fn send(&mut self, due: u64, now: u64, count: usize) {
        if !self.stretch.holds(due) {
            return;
        }
        self.due += count as u64;
        self.lateness.saturating_record((now - due).max(1));
        if let Some(moment) = self.moment(due) {
            moment.due += count as u64;
        }
    }

    /// `count` packets that were due at `due` could not be sent.
    pub(super) const fn unsent(&mut self, due: u64, count: usize) {
        if self.stretch.holds(due) {
            self.unsent += count as u64;
        }
    }

    /// A packet that was due at `due` came at `now`.
    pub(super) fn receive(&mut self, due: u64, now: u64) {
        if !self.stretch.holds(due) {
            return;
        }
        let latency = now.saturating_sub(due).max(1);
        self.received += 1;
        self.latency.saturating_record(latency);
        if let Some(moment) = self.moment(due) {
            moment.received += 1;
            moment.latency.saturating_record(latency);
        }
    }

    fn moment(&mut self, due: u64) -> Option<&mut Course> {
        let place = (due - self.stretch.from) / self.stretch.moment();
        self.moments.get_mut(usize::try_from(place).ok()?)
    }

    /// Adds what another worker counted in the same stretch.
    pub(super) fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.unsent += other.unsent;
        self.received += other.received;
        self.misplaced += other.misplaced;
        self.reordered += other.reordered;
        self.arrivals += other.arrivals;
        // The most idle worker hides how busy another was.
        self.idle = self.idle.min(other.idle);
        join(&mut self.latency, &other.latency);
        join(&mut self.lateness, &other.lateness);
        for (moment, other) in self.moments.iter_mut().zip(&other.moments) {
            moment.due += other.due;
            moment.received += other.received;
            join(&mut moment.latency, &other.latency);
        }
    }
}

/// Both have the same bounds, so nothing fails.
pub(super) fn join(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    let _ = into.add(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let second = Duration::from_secs(1);
        Tally::new(Stretch::new(0, second, second))
    }

    const DUE: u64 = 1_500_000_000;

    #[test]
    fn only_what_was_due_in_the_stretch_counts() {
        let mut tally = tally();
        for due in [0, 999_999_999, DUE, 1_999_999_999, 2_000_000_000] {
            tally.send(due, due, 1);
            tally.receive(due, due + 1000);
            tally.unsent(due, 1);
        }
        assert_eq!((tally.due, tally.received, tally.unsent), (2, 2, 2));
        assert_eq!(tally.moments.len(), 10);
        assert_eq!((tally.moments[5].due, tally.moments[9].received), (1, 1));
    }

    #[test]
    fn latency_counts_from_when_a_packet_was_due() {
        let mut tally = tally();
        tally.send(DUE, DUE + 3_000_000, 1);
        tally.receive(DUE, DUE + 5_000_000);
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 100;
        assert!(near(tally.latency.max(), 5_000_000));
        assert!(near(tally.lateness.max(), 3_000_000));
    }

    #[test]
    fn workers_add_up() {
        let (mut one, mut other) = (tally(), tally());
        (one.idle, other.idle) = (10, 5);
        for tally in [&mut one, &mut other] {
            tally.send(DUE, DUE, 8);
            tally.receive(DUE, DUE + 1);
        }
        one.add(&other);
        assert_eq!((one.due, one.received, one.idle), (16, 2, 5));
        assert_eq!((one.latency.len(), one.moments[5].due), (2, 16));
    }

    #[test]
    fn what_takes_longer_than_a_minute_counts_as_a_minute() {
        let mut tally = tally();
        tally.receive(DUE, DUE + 10 * LONGEST);
        assert!(tally.latency.max() <= 2 * LONGEST);
    }
}
