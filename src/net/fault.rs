//! What an error of a socket means to its owner.

use std::io;

/// The errors that are not all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The send buffer is full for the moment.
    Full,
    /// The datagram is larger than any that can be sent.
    TooLarge,
    /// No descriptor or memory is left.
    Exhausted,
    /// All else.
    Other,
}

impl Fault {
    /// The meaning of `error`.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Self::Full,
            Some(libc::EMSGSIZE) => Self::TooLarge,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Exhausted,
            _ => Self::Other,
        }
    }
}
