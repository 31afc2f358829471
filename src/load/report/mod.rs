//! What a run found, as a value, as JSON and as a page.

mod figures;
mod html;
mod json;
mod plot;

pub use html::{Section, html};

use super::plan::{Pace, Plan, Workload};
use super::trial::{SetUp, Trial};

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// How the allocations came about.
    pub set_up: SetUp,
    /// Every trial; several in a search.
    pub trials: Vec<Trial>,
    /// The user has stopped the run before its end.
    pub interrupted: bool,
}

impl Report {
    pub(super) const fn new(plan: Plan, set_up: SetUp) -> Self {
        Self {
            plan,
            set_up,
            trials: Vec::new(),
            interrupted: false,
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
