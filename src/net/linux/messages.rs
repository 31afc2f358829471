//! Many datagrams in one call: `recvmmsg`, `sendmmsg`.

use std::ffi::{c_int, c_uint};
use std::io;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use libc::{iovec, mmsghdr, msghdr, sockaddr_storage};

use super::pktinfo::{self, Control};
use super::{address, check_count};
use crate::net::Fault;

/// The most datagrams that one call takes.
pub const BATCH: usize = 32;

/// What the kernel's message headers point to, in places that do not move.
struct Headers {
    headers: Box<[mmsghdr]>,
    addresses: Box<[sockaddr_storage]>,
    vectors: Box<[iovec]>,
    controls: Box<[Control]>,
}

impl Headers {
    fn new() -> Self {
        let nothing = iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: mmsghdr is plain integers and pointers; null pointers of length zero are valid in it.
        let blank = || unsafe { std::mem::zeroed::<mmsghdr>() };
        Self {
            headers: iter::repeat_with(blank).take(BATCH).collect(),
            addresses: vec![address::empty(); BATCH].into(),
            vectors: vec![nothing; BATCH].into(),
            controls: vec![Control::EMPTY; BATCH].into(),
        }
    }

    /// Makes message `i` the `length` bytes from `base`, without a control message.
    fn describe(&mut self, i: usize, base: *mut u8, length: usize) {
        self.vectors[i] = iovec {
            iov_base: base.cast(),
            iov_len: length,
        };
        let header = &mut self.headers[i].msg_hdr;
        header.msg_namelen = address::STORAGE_LENGTH;
        header.msg_iovlen = 1;
        header.msg_controllen = 0;
        header.msg_flags = 0;
    }

    /// Points the first `count` headers at their places. Done last: a pointer must not be older than a
    /// reference to what it points at.
    fn link(&mut self, count: usize) {
        let addresses = self.addresses.as_mut_ptr();
        let vectors = self.vectors.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        for (i, header) in self.headers[..count].iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_name = addresses.wrapping_add(i).cast();
            header.msg_iov = vectors.wrapping_add(i);
            header.msg_control = if header.msg_controllen == 0 {
                ptr::null_mut()
            } else {
                controls.wrapping_add(i).cast()
            };
        }
    }
}

/// One datagram that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes.
    pub length: usize,
    /// Who sent it; canonical.
    pub from: SocketAddr,
    /// The local address that it was sent to, where the socket reports it.
    pub to: Option<IpAddr>,
}

/// Receives up to [`BATCH`] datagrams in one call.
pub struct ReceiveBatch {
    raw: Headers,
    received: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            raw: Headers::new(),
            received: 0,
        }
    }
}

impl ReceiveBatch {
    /// Receives into `packets`, one datagram each, without waiting, and returns how many came.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: impl Iterator<Item = &'a mut [u8]>,
        local_addresses: bool,
    ) -> io::Result<usize> {
        self.received = 0;
        let mut offered: c_uint = 0;
        for (i, packet) in packets.take(BATCH).enumerate() {
            self.raw.describe(i, packet.as_mut_ptr(), packet.len());
            if local_addresses {
                self.raw.headers[i].msg_hdr.msg_controllen = Control::ROOM as _;
            }
            offered += 1;
        }
        self.raw.link(offered as usize);
        // SAFETY: the first `offered` headers point into boxes of `self` and into the packets, which
        // `'a` keeps exclusively borrowed through this call; the kernel keeps none of the pointers.
        let returned = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.raw.headers.as_mut_ptr(),
                offered,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        self.received = check_count(returned)?;
        Ok(self.received)
    }

    /// Datagram `i` of the last call; none when it came from no IP address.
    pub fn get(&self, i: usize) -> Option<Received> {
        let header = self.raw.headers[..self.received].get(i)?;
        // SAFETY: the last call filled this header, and its control room is a box of `self`.
        let to = unsafe { pktinfo::local_address(&header.msg_hdr) };
        Some(Received {
            length: usize::try_from(header.msg_len).unwrap_or_default(),
            from: address::decode(&self.raw.addresses[i])?,
            to: to.map(|ip| ip.to_canonical()),
        })
    }
}

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: SocketAddr,
    /// The local address it comes from, where the socket has several.
    pub source: Option<IpAddr>,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// Sends many datagrams from one socket.
pub struct SendBatch {
    raw: Headers,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            raw: Headers::new(),
        }
    }
}

impl SendBatch {
    /// Sends `messages` in order from `socket`, and calls `failed` with the place and the error of each that the
    /// kernel refused. Never waits.
    pub fn send_from<'a>(
        &mut self,
        socket: impl AsFd,
        messages: impl Iterator<Item = Outgoing<'a>>,
        mut failed: impl FnMut(usize, io::Error),
    ) {
        let socket = socket.as_fd();
        let mut messages = messages.peekable();
        let mut done = 0;
        while messages.peek().is_some() {
            let chunk = messages.by_ref().take(BATCH);
            done += self.send_chunk(socket, chunk, done, &mut failed);
        }
    }

    fn send_chunk<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = Outgoing<'a>>,
        base: usize,
        failed: &mut impl FnMut(usize, io::Error),
    ) -> usize {
        let mut count = 0;
        for message in messages {
            self.prepare(count, &message);
            count += 1;
        }
        self.raw.link(count);
        let mut next = 0;
        let mut retried = false;
        while next < count {
            // SAFETY: `prepare` pointed these headers at messages whose bytes `'a` keeps borrowed.
            match unsafe { self.submit(socket, next, count) } {
                Ok(sent) => {
                    next += sent.max(1);
                    retried = false;
                }
                // An error that an earlier datagram left on the socket is reported once and cleared.
                Err(error) if !retried && is_pending(&error) => retried = true,
                Err(error) => {
                    failed(base + next, error);
                    next += 1;
                    retried = false;
                }
            }
        }
        count
    }

    fn prepare(&mut self, i: usize, message: &Outgoing<'_>) {
        let bytes = message.bytes;
        self.raw.describe(i, bytes.as_ptr().cast_mut(), bytes.len());
        let length = address::encode(&message.to, &mut self.raw.addresses[i]);
        let header = &mut self.raw.headers[i].msg_hdr;
        header.msg_namelen = length;
        if let Some(source) = message.source {
            self.raw.controls[i].set_source(header, source);
        }
    }

    /// # Safety
    /// Headers `from..to` were prepared with messages whose bytes are still borrowed.
    unsafe fn submit(
        &mut self,
        socket: BorrowedFd<'_>,
        from: usize,
        to: usize,
    ) -> io::Result<usize> {
        let headers = &mut self.raw.headers[from..to];
        let socket = socket.as_raw_fd();
        let [only] = headers else {
            let count = c_uint::try_from(headers.len()).unwrap_or_default();
            // SAFETY: the caller vouches for the headers, of which there are `count`; the kernel only
            // reads what they point to and keeps none of the pointers.
            return check_count(unsafe {
                libc::sendmmsg(socket, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _)
            });
        };
        // SAFETY: as above. For a datagram alone the plain calls cost less.
        let sent = unsafe { send_one(socket, &only.msg_hdr) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(1)
    }
}

/// # Safety
/// `header` points to an address, one buffer and perhaps a control message, all alive.
unsafe fn send_one(socket: c_int, header: &msghdr) -> isize {
    let flags = libc::MSG_DONTWAIT;
    if header.msg_controllen != 0 {
        // SAFETY: the caller vouches for the header.
        return unsafe { libc::sendmsg(socket, header, flags) };
    }
    // SAFETY: the caller vouches for the header; it has exactly one buffer.
    unsafe {
        let buffer = &*header.msg_iov;
        let name = header.msg_name.cast_const().cast();
        let (base, length) = (buffer.iov_base, buffer.iov_len);
        libc::sendto(socket, base, length, flags, name, header.msg_namelen)
    }
}

/// Whether the error may be about an earlier datagram: ICMP leaves many kinds of them.
fn is_pending(error: &io::Error) -> bool {
    !matches!(Fault::of(error), Fault::Full | Fault::Exhausted)
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiveBatch({})", self.received)
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendBatch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn outgoing(to: SocketAddr, bytes: &[u8]) -> Outgoing<'_> {
        Outgoing {
            to,
            source: None,
            bytes,
        }
    }

    #[test]
    fn a_batch_arrives_in_order_with_its_addresses() -> io::Result<()> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let to = receiver.local_addr()?;
        let texts: Vec<_> = (0..40_u8).map(|i| [i; 5]).collect();
        let messages = texts.iter().map(|text| outgoing(to, text));
        SendBatch::default().send_from(&sender, messages, |_, error| panic!("{error}"));

        let mut memory = vec![0; 64 * 100];
        let mut batch = ReceiveBatch::default();
        let mut seen = Vec::new();
        while seen.len() < 40 {
            let count = batch.receive(receiver.as_fd(), memory.chunks_mut(100), false)?;
            for i in 0..count {
                let received = batch.get(i).expect("an address");
                assert_eq!(received.from, sender.local_addr()?);
                assert_eq!((received.length, received.to), (5, None));
                seen.push(memory[i * 100]);
            }
        }
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
        let none = batch.receive(receiver.as_fd(), memory.chunks_mut(100), false);
        assert_eq!(none.map_err(|e| e.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(batch.get(0), None);
        Ok(())
    }

    #[test]
    fn a_refused_datagram_does_not_stop_those_behind_it() -> io::Result<()> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        receiver.set_nonblocking(true)?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let to = receiver.local_addr()?;
        let too_large = vec![0; 65_520];
        let texts: [&[u8]; 5] = [b"a", &too_large, b"b", b"c", &too_large];
        let mut failed = Vec::new();
        let messages = texts.iter().map(|text| outgoing(to, text));
        SendBatch::default().send_from(&sender, messages, |i, error| {
            failed.push((i, error.raw_os_error()));
        });
        let refused = Some(libc::EMSGSIZE);
        assert_eq!(failed, [(1, refused), (4, refused)]);
        for text in [b"a", b"b", b"c"] {
            let mut buffer = [0; 8];
            assert_eq!(receiver.recv(&mut buffer)?, 1);
            assert_eq!(&buffer[..1], text);
        }
        Ok(())
    }

    #[test]
    fn an_error_left_by_an_earlier_datagram_loses_none() -> io::Result<()> {
        let closed = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        sender.connect(closed)?;
        sender.send(b"answered by ICMP")?;
        let mut failed = 0;
        let one = iter::once(outgoing(closed, b"x"));
        SendBatch::default().send_from(&sender, one, |_, _| failed += 1);
        assert_eq!(failed, 0);
        Ok(())
    }
}
