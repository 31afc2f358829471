//! Socket options that `socket2` lacks.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::socklen_t;

use super::check;
use crate::turn::Family;

/// Lets datagrams larger than the path's MTU be fragmented instead of refused.
pub(in crate::net) fn allow_fragmentation(
    socket: BorrowedFd<'_>,
    family: Family,
) -> io::Result<()> {
    match family {
        Family::V4 => set(
            socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        ),
        Family::V6 => set(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        ),
    }
}

/// Has every datagram of the socket carry the DF bit, whatever the path's MTU is thought to be; or has
/// none carry it again, with which ICMP still tells what has become of those that did.
pub(in crate::net) fn forbid_fragmentation(
    socket: BorrowedFd<'_>,
    family: Family,
    forbid: bool,
) -> io::Result<()> {
    let (level, option, value) = match (family, forbid) {
        (Family::V4, true) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        ),
        // Unlike DONT, OMIT lets the report that fragmentation was needed through.
        (Family::V4, false) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_OMIT,
        ),
        (Family::V6, true) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        ),
        (Family::V6, false) => return allow_fragmentation(socket, family),
    };
    set(socket, level, option, value)
}

/// Asks for the local address of each datagram that comes in.
pub(in crate::net) fn report_local_address(
    socket: BorrowedFd<'_>,
    family: Family,
) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Sets a buffer (`SO_RCVBUFFORCE`, `SO_SNDBUFFORCE`) beyond the host's limit: needs CAP_NET_ADMIN.
pub(in crate::net) fn force_buffer(
    socket: BorrowedFd<'_>,
    receive: bool,
    bytes: usize,
) -> io::Result<()> {
    let option = if receive {
        libc::SO_RCVBUFFORCE
    } else {
        libc::SO_SNDBUFFORCE
    };
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX / 2);
    set(socket, libc::SOL_SOCKET, option, bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "four")]
pub(super) fn set(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads one c_int from `value`, which lives through the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            size_of::<c_int>() as socklen_t,
        )
    })?;
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "four")]
pub(super) fn get(socket: BorrowedFd<'_>, level: c_int, option: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`; both live through the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}
