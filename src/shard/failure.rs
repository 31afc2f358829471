//! Why a packet that was to be sent is counted as dropped.

use std::io;

use crate::net::Fault;
use crate::turn::Reason;

pub(super) fn reason(error: &io::Error) -> Reason {
    match Fault::of(error) {
        Fault::Full | Fault::Exhausted => Reason::SocketFull,
        Fault::TooLarge => Reason::TooLarge,
        Fault::Other => Reason::SendFailed,
    }
}
