//! The system calls that neither `std` nor `socket2` offers, each behind a safe function.
//!
//! The only `unsafe` of the crate stands here.
#![expect(unsafe_code, reason = "system calls; every block says why it is sound")]

mod account;
mod address;
mod control;
mod descriptors;
mod epoll;
mod error_queue;
mod host;
mod interrupt;
mod messages;
mod options;
mod receiving;
mod segments;
mod sending;
mod system_calls;
mod unix_socket_file;
mod waker;

pub use account::{Account, FormerUser, with_private_files};
pub use descriptors::{MOST_DESCRIPTORS, receive_descriptors, send_descriptors};
pub use epoll::{Epoll, Events, Interest, Readiness};
pub(super) use error_queue::keep_icmp_errors;
pub use error_queue::{IcmpError, next_icmp_error};
pub use host::{Interface, descriptor_limit, interfaces, raise_descriptor_limit};
pub use interrupt::catch_interrupt;
pub use messages::BATCH;
pub(super) use options::{
    allow_fragmentation, forbid_fragmentation, force_buffer, report_local_address,
};
pub use receiving::{ReceiveBatch, Received, take_in_trains, takes_in_trains};
pub use segments::send_segments;
pub use sending::{Outgoing, SendBatch};
pub use system_calls::{restrict_system_calls, try_to_restrict_system_calls};
pub use unix_socket_file::UnixSocketFile;
pub use waker::Waker;

use std::ffi::c_int;
use std::io;

/// The error of a call that returned a negative number.
fn check(returned: c_int) -> io::Result<c_int> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// How many of something a call that returned `returned` dealt with.
fn check_count(returned: c_int) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
