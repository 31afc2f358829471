//! The bell of a shard: wakes it from its poller, and says whether it may be asleep there.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::net::Waker;

/// One shard listens to it, all may ring it.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) waker: Waker,
    is_resting: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new()?,
            is_resting: AtomicBool::new(false),
        })
    }

    /// Wakes the shard, now or when it next waits.
    pub(super) fn ring(&self) {
        self.waker.wake();
    }

    /// Wakes the shard if it may be asleep, for what was put into its rings before.
    ///
    /// The fence stands between that and the look at the flag as the one in [`lie_down`](Self::lie_down)
    /// stands between the flag and the look at the rings: one of both sees what the other did.
    pub(super) fn ring_if_resting(&self) {
        fence(Ordering::SeqCst);
        if self.is_resting.load(Ordering::Relaxed) && self.is_resting.swap(false, Ordering::Relaxed)
        {
            self.waker.wake();
        }
    }

    /// The shard is going to wait. It looks at its rings once more behind this, and waits only if nothing is
    /// in them.
    pub(super) fn lie_down(&self) {
        self.is_resting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard looks at its rings before it waits again.
    pub(super) fn get_up(&self) {
        self.is_resting.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use rtrb::{Producer, RingBuffer};

    use super::*;
    use crate::net::{Epoll, Events, Interest};

    const ROUNDS: usize = 30_000;
    const WRITERS: usize = 3;

    /// Gives one thing after another, and rings after each; every few waits until it was taken, so that the
    /// reader goes to sleep again and again, at every moment.
    fn write(bell: &Bell, mut ring: Producer<usize>, taken: &AtomicUsize) {
        for round in 0..ROUNDS {
            ring.push(round).expect("room for all");
            bell.ring_if_resting();
            while round % 3 == 0 && taken.load(Ordering::Relaxed) <= round {
                std::thread::yield_now();
            }
        }
    }

    /// A wake-up that is lost leaves the reader asleep until the poller's time is over.
    #[test]
    fn nobody_sleeps_while_something_waits() {
        let bell = Bell::new().expect("a descriptor");
        let poller = Epoll::new().expect("a descriptor");
        poller.add(&bell.waker, 0, Interest::Read).expect("watched");
        let (writers, mut readers): (Vec<_>, Vec<_>) =
            (0..WRITERS).map(|_| RingBuffer::new(ROUNDS)).unzip();
        let taken: [AtomicUsize; WRITERS] = Default::default();
        std::thread::scope(|scope| {
            for (ring, taken) in writers.into_iter().zip(&taken) {
                let bell = &bell;
                scope.spawn(move || write(bell, ring, taken));
            }
            let mut events = Events::with_capacity(4);
            let mut left = ROUNDS * WRITERS;
            while left > 0 {
                bell.lie_down();
                let waits = readers.iter().all(|ring| ring.is_empty());
                let patience = Duration::from_secs(if waits { 20 } else { 0 });
                poller.wait(&mut events, Some(patience)).expect("waited");
                assert!(!waits || !events.is_empty(), "slept over something");
                bell.get_up();
                if !events.is_empty() {
                    bell.waker.clear();
                }
                for (ring, taken) in readers.iter_mut().zip(&taken) {
                    while let Ok(round) = ring.pop() {
                        taken.store(round + 1, Ordering::Relaxed);
                        left -= 1;
                    }
                }
            }
        });
    }
}
