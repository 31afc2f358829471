//! Wakes a thread that waits in a poller.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// A counter in the kernel (`eventfd`): readable from the first [`wake`](Self::wake) until
/// [`clear`](Self::clear).
#[derive(Debug)]
pub struct Waker(File);

impl Waker {
    /// A waker that nobody has used yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the call has just made this descriptor and nobody else owns it.
        Ok(Self(unsafe { File::from_raw_fd(raw) }))
    }

    /// Makes the waker readable. From any thread.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then the thread is going to wake anyway.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes the waker unreadable until the next [`wake`](Self::wake); tells whether it was readable.
    pub fn clear(&self) -> bool {
        // It fails only when nobody woke it.
        (&self.0).read(&mut [0; 8]).is_ok()
    }
}

impl From<OwnedFd> for Waker {
    /// One that was made in another process.
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
