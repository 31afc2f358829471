//! A report for people: names and values.

use std::fmt::Write as _;

use super::Report;
use crate::load::plan::Workload;
use crate::load::trial::{Latency, Trial};

impl Report {
    /// What was measured, each with its unit, the most important first.
    pub fn figures(&self) -> Vec<(String, String)> {
        let mut figures = Vec::new();
        let mut add = |name: &str, value: String| figures.push((name.to_owned(), value));
        let idle = self.plan.workload == Workload::Idle;
        if let Some(trial) = self.result().filter(|_| !idle) {
            for (name, value) in self.counts(trial) {
                add(name, value);
            }
            if let Some(latency) = &trial.latency {
                add(self.latency_name(), latency_text(latency, trial.received));
            }
            if let Some(micros) = trial.cpu_micros_each() {
                let each = format!("server CPU per {}", self.unit());
                add(&each, format!("{micros:.2} µs"));
            }
        }
        if let Some(bytes) = self.set_up.bytes_each.filter(|_| idle) {
            add("server memory per allocation", format!("{bytes:.0} B"));
        }
        if let Some(bytes) = self.result().and_then(|trial| trial.resident_bytes) {
            add("server memory", format!("{} KiB", bytes / 1024));
        }
        if self.set_up.allocations > 0 {
            let count = self.set_up.allocations;
            add(
                "set-up",
                format!("{count} allocations in {:.2} s", self.set_up.seconds),
            );
        }
        if let Some(handshakes) = &self.handshakes {
            let transport = self.plan.target.transport.to_string().to_uppercase();
            let (count, times) = (
                handshakes.count,
                latency_text(&handshakes.times, handshakes.count),
            );
            add(
                &format!("{transport} handshakes"),
                format!("{count}: {times}"),
            );
        }
        figures
    }

    /// What is counted.
    pub const fn unit(&self) -> &'static str {
        match self.plan.workload {
            Workload::Binding(_) => "request",
            Workload::Cycle => "cycle",
            _ => "packet",
        }
    }

    const fn latency_name(&self) -> &'static str {
        match self.plan.workload {
            Workload::Binding(_) | Workload::Cycle => "time to answer",
            _ => "one-way latency",
        }
    }

    fn counts(&self, trial: &Trial) -> Vec<(&'static str, String)> {
        let unit = self.unit();
        let mut counts = vec![(
            "delivered",
            format!(
                "{:.0} {unit}s/s ({} of {} in {:.1} s)",
                trial.delivered(),
                trial.received,
                trial.sent,
                trial.seconds
            ),
        )];
        // A cycle that does not come to its end ends the run.
        if self.plan.workload != Workload::Cycle {
            let lost = format!("{:.3} % ({})", trial.loss() * 100.0, trial.lost());
            counts.push(("lost", lost));
        }
        if let Some(share) = trial.in_trains {
            counts.push(("came in trains", format!("{:.1} %", share * 100.0)));
        }
        counts
    }
}

/// Percentiles of `count` times, as far as so many tell them from the longest.
fn latency_text(latency: &Latency, count: u64) -> String {
    let mut text = format!("p50 {}", time(latency.p50));
    for (name, least, nanos) in [("p99", 100, latency.p99), ("p99.9", 1000, latency.p999)] {
        if count >= least {
            let _ = write!(text, ", {name} {}", time(nanos));
        }
    }
    let _ = write!(text, ", max {}", time(latency.max));
    text
}

/// A time of three digits with the unit that fits it.
#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a run are below 2^52"
)]
fn time(nanos: u64) -> String {
    let nanos = nanos as f64;
    let (value, unit) = match nanos {
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_where_there_are_enough_times() {
        let latency = Latency {
            p50: 1000,
            p99: 2000,
            p999: 3000,
            max: 4000,
            mean: 1000.0,
            curve: Vec::new(),
        };
        for (count, text) in [
            (99, "p50 1.00 µs, max 4.00 µs"),
            (100, "p50 1.00 µs, p99 2.00 µs, max 4.00 µs"),
            (1000, "p50 1.00 µs, p99 2.00 µs, p99.9 3.00 µs, max 4.00 µs"),
        ] {
            assert_eq!(latency_text(&latency, count), text);
        }
    }

    #[test]
    fn times_have_three_digits() {
        for (nanos, text) in [
            (1_234, "1.23 µs"),
            (12_345, "12.3 µs"),
            (999_000, "999 µs"),
            (1_500_000, "1.50 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }
}
