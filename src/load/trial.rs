//! What one trial found.

use hdrhistogram::Histogram;

use super::tally::Tally;

/// How the allocations came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SetUp {
    /// How many there are.
    pub allocations: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// How much the server's resident memory grew by each allocation behind the first hundred, in
    /// bytes, with a process id and where it grew by enough to tell.
    pub bytes_each: Option<f64>,
}

/// Bytes for each of `count` allocations by which memory grew; none when it grew by so little that the
/// pages, or room left from before, decide it.
#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
pub(super) fn share_of_growth(bytes: u64, count: usize) -> Option<f64> {
    const LEAST: u64 = 128 * 1024;
    (bytes >= LEAST).then(|| bytes as f64 / count.max(1) as f64)
}

/// How sessions of TLS or DTLS came about, one after the other on each thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Handshakes {
    /// How many there were.
    pub count: u64,
    /// From the first packet to the last, that of a connection included.
    pub times: Latency,
}

impl Handshakes {
    pub(super) fn of(times: &Histogram<u64>) -> Option<Self> {
        let count = times.len();
        Latency::of(times).map(|times| Self { count, times })
    }
}

/// Times in nanoseconds; of packets, from due to received.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// The median.
    pub p50: u64,
    /// 99 of 100 are not longer.
    pub p99: u64,
    /// 999 of 1000 are not longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// Shares, 0 to 1, and the time that this share does not exceed.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    fn of(times: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| times.value_at_quantile(quantile);
        (!times.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: times.max(),
            mean: times.mean(),
            curve: quantiles(times.len())
                .map(|quantile| (quantile, at(quantile)))
                .collect(),
        })
    }
}

/// 0, 0.5, 0.75 and so on as far as `count` values tell them apart.
fn quantiles(count: u64) -> impl Iterator<Item = f64> {
    let halvings = (0..).take_while(move |halving| 1_u64 << halving <= count.max(1));
    halvings.map(|halving| 1.0 - 0.5_f64.powi(halving))
}

/// A moment of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// When it began, in seconds since the trial did.
    pub at: f64,
    /// Packets a second that came of those due in it.
    pub delivered: f64,
    /// Packets a second that did not.
    pub lost: f64,
    /// Nanoseconds.
    pub p50: u64,
    /// Nanoseconds.
    pub p99: u64,
}

/// What one trial found.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The rate that was asked for, in packets a second; none when as many were sent as came back.
    pub rate: Option<f64>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Packets, requests or cycles that were due.
    pub sent: u64,
    /// Of these, those that our own sockets, or connections that the server does not read, did not take.
    pub unsent: u64,
    /// Those that came.
    pub received: u64,
    /// Packets that came where they did not belong, or with another length.
    pub misplaced: u64,
    /// Packets that came behind a later one of their flow.
    pub reordered: u64,
    /// The share of datagrams, 0 to 1, that came in trains, where our own sockets take them in whole.
    pub in_trains: Option<f64>,
    /// From due to received; of cycles, from beginning to end.
    pub latency: Option<Latency>,
    /// 99 of 100 packets were sent no later than so many nanoseconds after they were due.
    pub late_p99: u64,
    /// The share of the time in which the busiest worker had something to do, 0 to 1.
    pub busy: f64,
    /// CPU time of the server in nanoseconds, with a process id.
    pub cpu_nanos: Option<u64>,
    /// Its resident memory in bytes, with a process id.
    pub resident_bytes: Option<u64>,
    /// Its course.
    pub moments: Vec<Moment>,
}

/// The tester was the limit when its busiest thread was busy for a larger share of the time.
const BUSY: f64 = 0.97;
/// Or when one packet in a hundred was later than this, in nanoseconds.
const LATE: u64 = 5_000_000;

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds of a run are below 2^52"
)]
impl Trial {
    pub(super) fn of(tally: &Tally, rate: Option<f64>, seconds: f64) -> Self {
        let length = tally.stretch.moment() as f64 / 1e9;
        let moments = tally.moments.iter().enumerate().map(|(i, moment)| Moment {
            at: i as f64 * length,
            delivered: moment.received as f64 / length,
            lost: moment.due.saturating_sub(moment.received) as f64 / length,
            p50: moment.latency.value_at_quantile(0.5),
            p99: moment.latency.value_at_quantile(0.99),
        });
        Self {
            rate,
            seconds,
            sent: tally.due,
            unsent: tally.unsent,
            received: tally.received,
            misplaced: tally.misplaced,
            reordered: tally.reordered,
            in_trains: (tally.arrivals.datagrams > 0)
                .then(|| tally.arrivals.in_trains as f64 / tally.arrivals.datagrams as f64),
            latency: Latency::of(&tally.latency),
            late_p99: tally.lateness.value_at_quantile(0.99),
            busy: (1.0 - tally.idle as f64 / 1e9 / seconds.max(0.001)).clamp(0.0, 1.0),
            cpu_nanos: None,
            resident_bytes: None,
            moments: moments
                .take_while(|moment| moment.at + length <= seconds + 0.001)
                .collect(),
        }
    }

    /// Packets a second that came.
    pub fn delivered(&self) -> f64 {
        self.received as f64 / self.seconds.max(0.001)
    }

    /// Packets that were due and did not come.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// The share of packets that did not come, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost() as f64 / self.sent.max(1) as f64
    }

    /// CPU time of the server for one packet that came, in microseconds.
    pub fn cpu_micros_each(&self) -> Option<f64> {
        let nanos = self.cpu_nanos.filter(|_| self.received > 0)?;
        Some(nanos as f64 / 1000.0 / self.received as f64)
    }

    /// Whether the load tester itself was the limit, in words.
    pub fn own_limit(&self) -> Option<String> {
        if self.rate.is_some() && self.late_p99 > LATE {
            let late = self.late_p99 as f64 / 1e6;
            let unsent = match self.unsent {
                0 => String::new(),
                unsent => format!("{unsent} packets never left it, "),
            };
            return Some(format!(
                "the load tester could not keep to its schedule ({unsent}1 % of packets were more than \
                 {late:.0} ms late): give it a core of its own, more --threads, or a lower rate"
            ));
        }
        if self.busy > BUSY {
            let share = self.busy * 100.0;
            return Some(format!(
                "the load tester's busiest thread had something to do {share:.0} % of the time: it may \
                 be the limit; give it more --threads and cores"
            ));
        }
        (self.unsent * 1000 > self.sent).then(|| {
            format!(
                "{} packets did not leave the load tester: its sockets were full",
                self.unsent
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::tally::Stretch;

    fn trial() -> Trial {
        let stretch = Stretch::new(0, Duration::ZERO, Duration::from_secs(1));
        let mut tally = Tally::new(stretch);
        for i in 0..1000 {
            tally.send(i * 1_000_000, i * 1_000_000, 1);
            if i != 500 {
                tally.receive(i * 1_000_000, i * 1_000_000 + (i + 1) * 1000);
            }
        }
        tally.idle = 500_000_000;
        Trial::of(&tally, Some(1000.0), 1.0)
    }

    #[test]
    fn loss_is_what_did_not_come() {
        let trial = trial();
        assert_eq!((trial.sent, trial.received, trial.lost()), (1000, 999, 1));
        assert!((trial.loss() - 0.001).abs() < 1e-9);
        assert_eq!(trial.own_limit(), None);
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let latency = trial().latency.unwrap();
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 100;
        assert!(near(latency.p50, 500_000) && near(latency.p99, 990_000));
        assert!(near(latency.p999, 999_000) && near(latency.max, 1_000_000));
        assert_eq!(latency.curve.len(), 10);
        assert!(latency.curve.is_sorted());
    }

    #[test]
    fn memory_that_hardly_grows_tells_nothing_of_an_allocation() {
        assert_eq!(share_of_growth(0, 10), None);
        assert_eq!(share_of_growth(64 * 1024, 10), None);
        assert_eq!(share_of_growth(1_000_000, 1000), Some(1000.0));
    }

    #[test]
    fn moments_add_up() {
        let moments = trial().moments;
        assert_eq!(moments.len(), 10);
        assert!((moments[5].lost - 10.0).abs() < 1e-9);
        assert!((moments[0].delivered - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn the_tester_says_when_it_was_the_limit() {
        let mut late = trial();
        late.late_p99 = 20_000_000;
        assert!(late.own_limit().is_some_and(|why| why.contains("20 ms")));
        late.unsent = 77;
        let why = late.own_limit().unwrap_or_default();
        assert!(why.contains("77 packets never left it"), "{why}");
        let mut busy = trial();
        busy.busy = 0.99;
        assert!(busy.own_limit().is_some_and(|why| why.contains("99 %")));
        let mut full = trial();
        full.unsent = 2;
        assert!(full.own_limit().is_some_and(|why| why.contains("full")));
    }
}
