//! Many datagrams in one call: `recvmmsg`, and trains of them (`UDP_GRO`).

use std::ffi::c_uint;
use std::io;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::control::{self, Control};
use super::messages::{BATCH, Headers};
use super::{address, check_count, options};

/// What came in: a datagram, or a train of datagrams of one length of which the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The length of all in bytes.
    pub length: usize,
    /// The length of each datagram but the last; that of all when there is one. Zero only with `length`.
    pub segment: usize,
    /// Who sent it; canonical.
    pub from: SocketAddr,
    /// The local address that it was sent to, where the socket reports it.
    pub to: Option<IpAddr>,
}

impl Received {
    /// A datagram of `length` bytes.
    pub const fn single(length: usize, from: SocketAddr) -> Self {
        Self {
            length,
            segment: length,
            from,
            to: None,
        }
    }

    /// How many datagrams it is, at least one.
    pub fn count(&self) -> usize {
        self.length.div_ceil(self.segment.max(1)).max(1)
    }

    /// Where each datagram lies, in the order in which they were sent.
    pub fn datagrams(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (length, segment) = (self.length, self.segment);
        let mut next = Some(0);
        // A datagram without bytes is one too; the kernel puts none into a train.
        iter::from_fn(move || {
            let start = next?;
            let end = length.min(start + segment);
            next = (end < length).then_some(end);
            Some(start..end)
        })
    }
}

/// Receives up to [`BATCH`] messages in one call.
pub struct ReceiveBatch {
    raw: Headers,
    received: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            raw: Headers::new(BATCH),
            received: 0,
        }
    }
}

impl ReceiveBatch {
    /// Receives into `packets`, one message each, without waiting, and returns how many came. `told`: the
    /// socket tells of local addresses or takes in trains.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: impl Iterator<Item = &'a mut [u8]>,
        told: bool,
    ) -> io::Result<usize> {
        self.received = 0;
        self.raw.clear();
        let mut offered = 0;
        for (i, packet) in packets.take(BATCH).enumerate() {
            self.raw.begin(i);
            self.raw.append(i, packet.as_mut_ptr(), packet.len());
            if told {
                self.raw.headers[i].msg_hdr.msg_controllen = Control::ROOM as _;
            }
            offered += 1;
        }
        self.raw.link(offered);
        // SAFETY: the first `offered` headers point into boxes of `self` and into the packets, which
        // `'a` keeps exclusively borrowed through this call.
        self.received = unsafe { self.take_in(socket, offered) }?;
        Ok(self.received)
    }

    /// # Safety
    /// The first `offered` headers were linked, and what they point to is exclusively borrowed.
    unsafe fn take_in(&mut self, socket: BorrowedFd<'_>, offered: usize) -> io::Result<usize> {
        let socket = socket.as_raw_fd();
        let flags = libc::MSG_DONTWAIT;
        if let [only] = &mut self.raw.headers[..offered] {
            // SAFETY: the caller vouches for the header; the kernel keeps none of its pointers. For
            // one message the plain call costs less.
            let length = unsafe { libc::recvmsg(socket, &raw mut only.msg_hdr, flags) };
            only.msg_len = c_uint::try_from(length).map_err(|_| io::Error::last_os_error())?;
            return Ok(1);
        }
        let count = c_uint::try_from(offered).unwrap_or_default();
        let headers = self.raw.headers.as_mut_ptr();
        // SAFETY: as above; there are `count` of them.
        check_count(unsafe { libc::recvmmsg(socket, headers, count, flags as _, ptr::null_mut()) })
    }

    /// Message `i` of the last call without what was cut off for want of room; none when no whole datagram
    /// is left, or when it came from no IP address.
    pub fn get(&self, i: usize) -> Option<Received> {
        let header = self.raw.headers[..self.received].get(i)?;
        // SAFETY: the last call filled this header, and its control room is a box of `self`.
        let told = unsafe { control::read(&header.msg_hdr) };
        let mut length = usize::try_from(header.msg_len).unwrap_or_default();
        let segment = told.segment.filter(|segment| *segment > 0);
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            length -= length % segment?;
            (length > 0).then_some(())?;
        }
        Some(Received {
            length,
            segment: segment.unwrap_or(length).min(length),
            from: address::decode(&self.raw.addresses[i])?,
            to: told.to.map(|ip| ip.to_canonical()),
        })
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiveBatch({})", self.received)
    }
}

/// Has `socket` take in trains of datagrams whole: from now on it must be read by [`ReceiveBatch`] with
/// control messages, or datagrams melt into one. There is no safe way back: a train may be waiting.
///
/// # Errors
/// The kernel does not know `UDP_GRO`.
pub fn take_in_trains(socket: impl AsFd) -> io::Result<()> {
    options::set(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Whether [`take_in_trains`] was called on `socket`, by whomever had it before.
pub fn takes_in_trains(socket: impl AsFd) -> bool {
    options::get(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO).is_ok_and(|value| value != 0)
}
