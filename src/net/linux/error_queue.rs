//! The error queue of a UDP socket: ICMP errors about datagrams that it sent (`IP_RECVERR`).

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use libc::{cmsghdr, msghdr, sock_extended_err};

use super::control::Control;
use super::options::set;
use super::{address, check_count};
use crate::turn::Family;

/// An ICMP error about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Where the datagram was going; canonical.
    pub to: SocketAddr,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// What belongs to it; the MTU of the next hop in bytes, where that was exceeded.
    pub info: u32,
}

/// Has the kernel keep ICMP errors for [`next_icmp_error`]. An error that waits fails the next call on the
/// socket once.
pub(in crate::net) fn keep_icmp_errors(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

/// Takes the next error from the socket's queue without waiting; none when it was no ICMP error.
///
/// # Errors
/// `WouldBlock` when the queue is empty.
pub fn next_icmp_error(socket: impl AsFd) -> io::Result<Option<IcmpError>> {
    let mut to = address::empty();
    let mut control = Control::EMPTY;
    // SAFETY: msghdr is plain integers and pointers; null pointers of length zero are valid in it.
    let mut header = unsafe { std::mem::zeroed::<msghdr>() };
    header.msg_name = ptr::from_mut(&mut to).cast();
    header.msg_namelen = address::STORAGE_LENGTH;
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = Control::ROOM as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points to an address and a control room of the lengths it names, both alive
    // through the call, and to no buffer; the kernel keeps none of the pointers.
    let returned = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    check_count(c_int::try_from(returned).unwrap_or(c_int::MAX))?;
    // SAFETY: the call has just filled the header, and its control room is still there.
    let error = unsafe { extended_error(&header) };
    Ok(error.and_then(|error| read(&error, address::decode(&to)?)))
}

fn read(error: &sock_extended_err, to: SocketAddr) -> Option<IcmpError> {
    let is_icmp = matches!(
        error.ee_origin,
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
    );
    is_icmp.then_some(IcmpError {
        to,
        kind: error.ee_type,
        code: error.ee_code,
        info: error.ee_info,
    })
}

/// # Safety
/// `header` is as `recvmsg` left it, and the control room that it points to is still there.
unsafe fn extended_error(header: &msghdr) -> Option<sock_extended_err> {
    // SAFETY: the caller vouches for the room; the macro checks the length in `header`.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: a control message that is not null lies whole in the room.
        if let Some(error) = unsafe { error_in(message) } {
            return Some(error);
        }
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// # Safety
/// `message` is a control message that the kernel wrote.
unsafe fn error_in(message: *const cmsghdr) -> Option<sock_extended_err> {
    // SAFETY: the caller vouches for it, and the kernel writes the value that belongs to the kind.
    unsafe {
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                let data = libc::CMSG_DATA(message).cast::<sock_extended_err>();
                Some(data.read_unaligned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_closed_port_is_reported_with_its_address() -> io::Result<()> {
        for (local, family, kind, code) in [
            ("127.0.0.1:0", Family::V4, 3, 3),
            ("[::1]:0", Family::V6, 1, 4),
        ] {
            let socket = UdpSocket::bind(local)?;
            // Nobody listens there, and no test draws that port.
            let to = SocketAddr::new(socket.local_addr()?.ip(), 1);
            keep_icmp_errors(socket.as_fd(), family)?;
            let none = next_icmp_error(&socket).map_err(|error| error.kind());
            assert_eq!(none, Err(io::ErrorKind::WouldBlock));
            socket.send_to(b"anybody there?", to)?;
            // Loopback may take its time.
            let mut found = next_icmp_error(&socket);
            for _ in 0..6000 {
                if found.is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
                found = next_icmp_error(&socket);
            }
            let error = found?.expect("an ICMP error");
            assert_eq!((error.to, error.kind, error.code), (to, kind, code));
        }
        Ok(())
    }
}
