//! Rounds of a loop, their times and their heap allocations.

use std::time::{Duration, Instant};

use super::counting;

/// Does the thing to measure so many times.
pub(crate) type Work = Box<dyn FnMut(u64)>;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort {
    /// For numbers: warmed up, 11 rounds of a tenth of a second.
    Full,
    /// To see that it works.
    Smoke,
}

/// What doing the thing once costs: nanoseconds, of the rounds, and heap allocations, of all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) allocations: f64,
}

impl Effort {
    const fn rounds(self) -> usize {
        match self {
            Self::Full => 11,
            Self::Smoke => 1,
        }
    }

    const fn round(self) -> Duration {
        match self {
            Self::Full => Duration::from_millis(100),
            Self::Smoke => Duration::from_millis(1),
        }
    }
}

/// Measures `work`, after one round that does not count.
pub(crate) fn run(mut work: Work, effort: Effort) -> Measured {
    let times = times_per_round(&mut work, effort.round());
    let before = counting::calls();
    let mut rounds = [0.0; 11];
    let rounds = &mut rounds[..effort.rounds()];
    for round in rounds.iter_mut() {
        *round = timed(&mut work, times).as_nanos() as f64 / times as f64;
    }
    let allocations = counting::calls() - before;
    rounds.sort_unstable_by(f64::total_cmp);
    Measured {
        median: rounds[rounds.len() / 2],
        least: rounds[0],
        most: rounds[rounds.len() - 1],
        allocations: allocations as f64 / (times * rounds.len() as u64) as f64,
    }
}

/// How often `work` is to be done in a round of about `length`; warms up on the way.
fn times_per_round(work: &mut Work, length: Duration) -> u64 {
    let mut times = 100;
    loop {
        let taken = timed(work, times);
        if taken >= length {
            return times;
        }
        times *= if taken * 10 < length { 10 } else { 2 };
    }
}

fn timed(work: &mut Work, times: u64) -> Duration {
    let start = Instant::now();
    work(times);
    start.elapsed()
}
