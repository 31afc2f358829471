//! When the counters are shown to the world.

use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Publish;
use crate::time::Instant;
use crate::turn::Stats;

/// The least time between two publications.
const INTERVAL: Duration = Duration::from_millis(100);

/// Publishes while something changes, and says nothing while nothing does, unless it is asked.
pub(super) struct Publisher {
    publish: Publish,
    next: Instant,
    changed: bool,
    /// Who waits for the next publication.
    askers: Vec<Sender<u32>>,
}

impl Publisher {
    pub(super) fn new(publish: Publish) -> Self {
        Self {
            publish,
            next: Instant::ZERO,
            changed: true,
            askers: Vec::new(),
        }
    }

    /// Notes that the counters may have changed.
    pub(super) fn note_change(&mut self) {
        self.changed = true;
    }

    /// Has the next [`publish_due`](Self::publish_due) publish, and tell `asker` in which pass that was.
    pub(super) fn ask(&mut self, asker: Sender<u32>) {
        self.askers.push(asker);
    }

    /// When [`publish_due`](Self::publish_due) is to be called; none while there is no news.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.changed.then_some(self.next)
    }

    /// Publishes news, unless the last publication was a moment ago and nobody has asked.
    pub(super) fn publish_due(&mut self, now: Instant, pass: u32, stats: &Stats) {
        if !self.askers.is_empty() || self.changed && now >= self.next {
            self.publish_now(stats);
            self.next = now + INTERVAL;
            for asker in self.askers.drain(..) {
                // Whoever asked may have given up.
                let _ = asker.send(pass);
            }
        }
    }

    /// Publishes whatever there is.
    pub(super) fn publish_now(&mut self, stats: &Stats) {
        (self.publish)(stats);
        self.changed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn news_are_published_at_most_every_interval_and_silence_never() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let mut publisher = Publisher::new(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        let stats = Stats::default();
        let at = |publisher: &mut Publisher, millis| {
            let now = Instant::ZERO + Duration::from_millis(millis);
            publisher.publish_due(now, 1, &stats);
            count.load(Ordering::Relaxed)
        };
        assert_eq!(at(&mut publisher, 1), 1);
        assert_eq!(at(&mut publisher, 500), 1);
        assert_eq!(publisher.deadline(), None);
        publisher.note_change();
        assert_eq!(at(&mut publisher, 501), 2);
        publisher.note_change();
        assert_eq!(at(&mut publisher, 600), 2);
        let due = Instant::ZERO + Duration::from_millis(601);
        assert_eq!(publisher.deadline(), Some(due));
        assert_eq!(at(&mut publisher, 601), 3);
    }

    #[test]
    fn who_asks_hears_of_the_next_publication() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let mut publisher = Publisher::new(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        let stats = Stats::default();
        publisher.publish_due(Instant::ZERO, 7, &stats);
        let (asker, published) = channel();
        publisher.ask(asker);
        assert!(published.try_recv().is_err());
        publisher.publish_due(Instant::ZERO, 7, &stats);
        assert_eq!(published.try_recv(), Ok(7));
        assert_eq!(count.load(Ordering::Relaxed), 2);
        publisher.publish_due(Instant::ZERO, 7, &stats);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
