//! Progress bars on a terminal.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::{Plan, Progress, Stage, Workload};

const LOOK: Duration = Duration::from_millis(100);
const LOOKS_A_SECOND: usize = 10;
const SET_UP: &str = "{wide_bar} {pos} of {len} clients set up{msg}";
const LOAD: &str = "{spinner} {elapsed_precise} {wide_msg}";
const RELEASE: &str = "{spinner} ending the allocations";

/// Does `work` while bars on standard error, if that is a terminal, show what it is at.
pub(super) fn beside<T>(plan: &Plan, progress: &Progress, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| show(plan, progress, &done));
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

fn show(plan: &Plan, progress: &Progress, done: &AtomicBool) {
    let bar = ProgressBar::new(plan.clients as u64);
    bar.set_style(style(SET_UP));
    let mut stage = Stage::SetUp;
    let mut recent = Recent::default();
    while !done.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        if progress.stage() != stage {
            stage = progress.stage();
            bar.reset_elapsed();
            bar.set_style(style(if stage == Stage::Load { LOAD } else { RELEASE }));
        }
        match stage {
            Stage::SetUp => {
                bar.set_position(progress.allocations());
                bar.set_message(connected(progress.connections()));
            }
            Stage::Load => bar.set_message(under_way(plan, progress.counts(), &mut recent)),
            Stage::Release => {}
        }
        bar.tick();
    }
    bar.finish_and_clear();
}

fn connected(connections: u64) -> String {
    match connections {
        0 => String::new(),
        count => format!(", {count} connected"),
    }
}

fn under_way(plan: &Plan, counts: (u64, u64), recent: &mut Recent) -> String {
    let (sent, received) = counts;
    let each_second = recent.rate(received);
    match plan.workload {
        Workload::Idle => format!("{} allocations are held", plan.clients),
        _ if sent == 0 => "warming up".to_owned(),
        _ => format!("{each_second} a second, {received} of {sent} delivered"),
    }
}

/// What had come at each look of the last second.
#[derive(Default)]
struct Recent(VecDeque<u64>);

impl Recent {
    /// How many came in the last second, or as many as that makes when it has not passed yet.
    fn rate(&mut self, received: u64) -> u64 {
        self.0.push_back(received);
        if self.0.len() > LOOKS_A_SECOND + 1 {
            self.0.pop_front();
        }
        let first = self.0.front().copied().unwrap_or(received);
        let looks = (self.0.len() as u64 - 1).max(1);
        (received - first) * LOOKS_A_SECOND as u64 / looks
    }
}

/// A template with a mistake shows the plain bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_right() {
        for template in [SET_UP, LOAD, RELEASE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let mut recent = Recent::default();
        assert_eq!(recent.rate(0), 0);
        assert_eq!(recent.rate(5), 50);
        for received in [10, 15, 20, 25, 30, 35, 40, 45, 50, 55] {
            recent.rate(received);
        }
        assert_eq!(recent.rate(155), 145);
    }
}
