//! Learning of SIGINT without being ended by it.

use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on the first SIGINT sets the returned flag, and the second ends the process as ever.
///
/// # Errors
/// Only what would be a mistake of ours.
pub fn catch_interrupt() -> io::Result<&'static AtomicBool> {
    // SAFETY: sigaction is plain integers and pointers; all zero is a value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note as *const () as usize;
    action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
    // SAFETY: the handler does nothing but store to an atomic, which is async-signal-safe; the kernel
    // reads one sigaction.
    check(unsafe { libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut()) })?;
    Ok(&INTERRUPTED)
}

extern "C" fn note(_: c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}
