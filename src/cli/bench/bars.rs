//! Progress bars on a terminal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::{Plan, Progress, Stage};

const LOOK: Duration = Duration::from_millis(100);

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
    bar.set_style(style("{bar:30} {pos} of {len} clients set up"));
    let mut stage = Stage::SetUp;
    let mut before = (0, 0);
    while !done.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        if progress.stage() != stage {
            stage = progress.stage();
            let template = match stage {
                Stage::Load => "{spinner} {elapsed_precise} {msg}",
                _ => "{spinner} ending the allocations",
            };
            bar.reset_elapsed();
            bar.set_style(style(template));
        }
        if stage == Stage::SetUp {
            bar.set_position(progress.allocations());
            continue;
        }
        let (sent, received) = progress.counts();
        let each_second = (received - before.1) * 10;
        before = (sent, received);
        bar.set_message(format!(
            "{each_second} a second, {received} of {sent} delivered"
        ));
        bar.tick();
    }
    bar.finish_and_clear();
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
        for template in [
            "{bar:30} {pos} of {len} clients set up",
            "{spinner} {elapsed_precise} {msg}",
            "{spinner} ending the allocations",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
