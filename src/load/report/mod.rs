//! What a run found, as a value, as JSON and as a page.

mod figures;
mod html;
mod json;
mod plot;

pub use html::{Section, html};

use super::plan::{Pace, Plan, Transport, Workload};
use super::trial::{Handshakes, SetUp, Trial};

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// How the allocations came about.
    pub set_up: SetUp,
    /// How sessions of TLS or DTLS came about.
    pub handshakes: Option<Handshakes>,
    /// Every trial; several in a search.
    pub trials: Vec<Trial>,
    /// The user has stopped the run before its end.
    pub interrupted: bool,
    /// The process whose cost is told has no socket at the server's port.
    pub is_anothers: bool,
}

impl Report {
    pub(super) const fn new(plan: Plan, set_up: SetUp) -> Self {
        Self {
            plan,
            set_up,
            handshakes: None,
            trials: Vec::new(),
            interrupted: false,
            is_anothers: false,
        }
    }

    /// The trial that counts: the one with the highest rate among those that lost no more than a search
    /// allows; none when a search found no such.
    pub fn result(&self) -> Option<&Trial> {
        let most = match self.plan.workload.traffic().map(|traffic| traffic.pace) {
            Some(Pace::Search { loss, .. }) => loss,
            _ => return self.trials.first(),
        };
        let good = self.trials.iter().filter(|trial| trial.loss() <= most);
        good.max_by(|a, b| a.rate.unwrap_or(0.0).total_cmp(&b.rate.unwrap_or(0.0)))
    }

    /// What the reader must know to judge the figures, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.interrupted {
            notes.push("interrupted: the figures are those of a part of the run".to_owned());
        }
        let Some(trial) = self.result() else {
            notes.push("every rate that was tried lost more than is allowed".to_owned());
            return notes;
        };
        notes.extend(self.doubts());
        notes.extend(trial.own_limit());
        if let Some(why) = self.end_of_search(trial) {
            notes.push(why);
        }
        if trial.misplaced > 0 {
            let count = trial.misplaced;
            notes.push(format!(
                "{count} packets came where they did not belong, or with another length"
            ));
        }
        if trial.reordered > 0 {
            notes.push(format!("{} packets came out of order", trial.reordered));
        }
        notes.extend(self.limited_by_server(trial));
        notes
    }

    /// Why the server's cost may not be the server's, or why its memory is not told.
    fn doubts(&self) -> Option<String> {
        let pid = self.plan.pid?;
        if self.is_anothers {
            let port = self.plan.target.server.port();
            return Some(format!(
                "process {pid} (--pid) has no socket at port {port}: CPU time and memory may be those of \
                 another program than the server"
            ));
        }
        let untold = self.plan.workload == Workload::Idle && self.set_up.bytes_each.is_none();
        untold.then(|| {
            "the server's memory has hardly grown, so that it is not told what an allocation takes: start \
             the server anew, or ask for more allocations"
                .to_owned()
        })
    }

    /// A search that ended where the tester, not the server, could do no more.
    fn end_of_search(&self, best: &Trial) -> Option<String> {
        let worse = self.trials.iter().filter(|trial| trial.rate > best.rate);
        let next = worse.min_by(|a, b| a.rate.unwrap_or(0.0).total_cmp(&b.rate.unwrap_or(0.0)))?;
        next.own_limit()
            .map(|why| format!("the next higher rate failed, but {why}"))
    }

    fn limited_by_server(&self, trial: &Trial) -> Option<String> {
        const HALF_A_SECOND: u64 = 480_000_000;
        let slow = trial
            .latency
            .as_ref()
            .is_some_and(|latency| latency.p99 > HALF_A_SECOND);
        let limited = match self.plan.workload {
            _ if self.plan.target.transport != Transport::Udp => false,
            Workload::Binding(_) => trial.loss() > 0.1,
            Workload::Cycle => slow,
            _ => false,
        };
        limited.then(|| {
            "many requests went unanswered at first: servers limit what one source can draw without \
             credentials (turnstone: limits.reflection_bytes_per_second; coturn: --unauthorized-ratelimit)"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::plan::{Carrier, Target, Traffic};
    use crate::load::tally::{Stretch, Tally};

    /// A search that tried each of `rates` and lost the share that goes with it.
    fn report(rates: &[(f64, u64)]) -> Report {
        let traffic = Traffic {
            carrier: Carrier::Channel,
            up: true,
            down: true,
            size: 160,
            burst: 1,
            gro: false,
            pace: Pace::Search {
                loss: 0.01,
                start: 1.0,
            },
        };
        let plan = Plan {
            target: Target {
                server: "192.0.2.1:3478".parse().unwrap(),
                transport: Transport::Udp,
                login: None,
                realm: None,
                sources: Vec::new(),
                peer: None,
            },
            workload: Workload::Relay(traffic),
            clients: 1,
            threads: 1,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            pid: None,
        };
        let set_up = SetUp {
            allocations: 1,
            seconds: 0.1,
            bytes_each: None,
        };
        let mut report = Report::new(plan, set_up);
        let trials = rates.iter().map(|(rate, lost)| trial(*rate, *lost));
        report.trials = trials.collect();
        report
    }

    fn trial(rate: f64, lost: u64) -> Trial {
        let stretch = Stretch::new(0, Duration::ZERO, Duration::from_secs(1));
        let mut tally = Tally::new(stretch);
        tally.send(0, 0, 1000);
        (lost..1000).for_each(|_| tally.receive(0, 1000));
        tally.idle = 900_000_000;
        Trial::of(&tally, Some(rate), 1.0)
    }

    #[test]
    fn a_search_results_in_the_highest_rate_that_was_good() {
        let found = report(&[(1000.0, 0), (4000.0, 500), (2000.0, 10), (3000.0, 11)]);
        assert_eq!(found.result().and_then(|trial| trial.rate), Some(2000.0));
        assert_eq!(found.notes(), Vec::<String>::new());
        let nothing = report(&[(1000.0, 500)]);
        assert!(nothing.result().is_none());
        assert!(nothing.notes()[0].contains("every rate"));
    }

    #[test]
    fn a_search_says_when_the_tester_ended_it() {
        let mut found = report(&[(1000.0, 0), (2000.0, 500)]);
        found.trials[1].busy = 1.0;
        assert!(found.notes()[0].contains("next higher rate"));
    }

    #[test]
    fn the_keys_of_the_json_are_those_that_programs_know() {
        let json = report(&[(1000.0, 0)]).to_json();
        let keys = |value: &serde_json::Value| {
            let object = value.as_object().cloned().unwrap_or_default();
            object
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            keys(&json),
            "clients duration_seconds handshakes interrupted notes result server set_up threads traffic \
             transport trials workload"
        );
        assert_eq!(
            keys(&json["result"]),
            "busy delivered_per_second in_trains late_p99 latency loss lost misplaced own_limit rate \
             received reordered seconds sent server_cpu_each server_cpu_seconds server_resident_bytes unsent"
        );
        assert_eq!(keys(&json["result"]["latency"]), "max mean p50 p99 p999");
        assert_eq!(
            keys(&json["set_up"]),
            "allocations seconds server_bytes_per_allocation"
        );
    }
}
