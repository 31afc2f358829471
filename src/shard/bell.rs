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
