//! Many datagrams in one call: `sendmmsg`, and trains of them (`UDP_SEGMENT`).

use std::ffi::{c_int, c_uint};
use std::io;
use std::iter::Peekable;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::msghdr;

use super::control::Control;
use super::messages::{BATCH, Headers};
use super::{address, check_count, options};
use crate::net::Fault;
use crate::net::refusals::Refusals;

/// The most pieces of one call.
const VECTORS: usize = 256;
/// The most datagrams that every kernel cuts out of one message.
const MOST_SEGMENTS: usize = 64;
/// The most bytes that it takes as one message, whatever the family.
const MOST_BYTES: usize = 65_507;

/// One datagram to send: its bytes are those of `head` and then those of `bytes`.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: SocketAddr,
    /// The local address it comes from, where the socket has several.
    pub source: Option<IpAddr>,
    /// Its beginning, when that lies apart; else empty.
    pub head: &'a [u8],
    /// The rest.
    pub bytes: &'a [u8],
}

impl Outgoing<'_> {
    const fn len(&self) -> usize {
        self.head.len() + self.bytes.len()
    }
}

/// Datagrams of one length, of which the last may be shorter, in one message to the kernel.
#[derive(Clone, Copy)]
struct Train {
    to: SocketAddr,
    source: Option<IpAddr>,
    /// Bytes of each datagram but the last.
    segment: usize,
    /// Bytes of all.
    bytes: usize,
    /// How many datagrams.
    count: usize,
    /// Nothing more may follow.
    complete: bool,
    /// The place of its first piece.
    vector: usize,
}

/// Sends many datagrams from one socket. Those that follow each other, go to one place and have one
/// length leave as one message, which the kernel or the network card cuts up again.
pub struct SendBatch {
    raw: Headers,
    trains: Vec<Train>,
    refusals: Refusals,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            raw: Headers::new(VECTORS),
            trains: Vec::with_capacity(BATCH),
            refusals: Refusals::default(),
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
            self.prepare(&mut messages);
            // SAFETY: the headers were just prepared with messages whose bytes `'a` keeps borrowed.
            done += unsafe { self.send_prepared(socket, done, &mut failed) };
        }
    }

    /// Prepares as many messages as find room, at least one.
    fn prepare<'a>(&mut self, messages: &mut Peekable<impl Iterator<Item = Outgoing<'a>>>) {
        self.raw.clear();
        self.trains.clear();
        while let Some(message) = messages.peek() {
            if self.raw.room() < 2 || !self.extend(message) && !self.begin(message) {
                break;
            }
            messages.next();
        }
        self.link();
    }

    /// Appends the message to the last train; false when it cannot be a part of it.
    fn extend(&mut self, message: &Outgoing<'_>) -> bool {
        let length = message.len();
        let Some(train) = self.trains.last_mut() else {
            return false;
        };
        // A datagram without bytes would vanish.
        let fits = !train.complete
            && train.to == message.to
            && (1..=train.segment).contains(&length)
            && train.source == message.source
            && train.bytes + length <= MOST_BYTES;
        if !fits {
            return false;
        }
        if train.count == 1 && !self.refusals.allow(train.to.ip(), train.segment) {
            train.complete = true;
            return false;
        }
        train.bytes += length;
        train.count += 1;
        train.complete = length < train.segment || train.count == MOST_SEGMENTS;
        self.append(message);
        true
    }

    /// Begins a train with the message; false when there is no room for another.
    fn begin(&mut self, message: &Outgoing<'_>) -> bool {
        let i = self.trains.len();
        if i == BATCH {
            return false;
        }
        self.trains.push(Train {
            to: message.to,
            source: message.source,
            segment: message.len(),
            bytes: message.len(),
            count: 1,
            complete: false,
            vector: self.raw.taken(),
        });
        self.raw.begin(i);
        let length = address::encode(&message.to, &mut self.raw.addresses[i]);
        let header = &mut self.raw.headers[i].msg_hdr;
        header.msg_namelen = length;
        if let Some(source) = message.source {
            self.raw.controls[i].add_source(header, source);
        }
        self.append(message);
        true
    }

    fn append(&mut self, message: &Outgoing<'_>) {
        let last = self.trains.len() - 1;
        for piece in [message.head, message.bytes] {
            // The only piece of a datagram without bytes is empty.
            if !piece.is_empty() || message.len() == 0 && std::ptr::eq(piece, message.bytes) {
                let base = piece.as_ptr().cast_mut();
                self.raw.append(last, base, piece.len());
            }
        }
    }

    fn link(&mut self) {
        for (i, train) in self.trains.iter().enumerate() {
            if train.count > 1 {
                let header = &mut self.raw.headers[i].msg_hdr;
                let segment = u16::try_from(train.segment).unwrap_or(u16::MAX);
                self.raw.controls[i].add_segment(header, segment);
            }
        }
        self.raw.link(self.trains.len());
    }

    /// Sends what is prepared and returns how many datagrams that were; `base` of them came before.
    ///
    /// # Safety
    /// The bytes of the messages that were prepared are still borrowed.
    unsafe fn send_prepared(
        &mut self,
        socket: BorrowedFd<'_>,
        base: usize,
        failed: &mut impl FnMut(usize, io::Error),
    ) -> usize {
        let (mut next, mut done) = (0, 0);
        let mut retried = false;
        while next < self.trains.len() {
            // SAFETY: the caller vouches for the bytes.
            match unsafe { self.submit(socket, next) } {
                Ok(sent) => {
                    done += self.note_sent(next..next + sent.max(1));
                    next += sent.max(1);
                    retried = false;
                }
                // An error that an earlier datagram left on the socket is reported once and cleared.
                Err(error) if !retried && is_pending(&error) => retried = true,
                Err(error) => {
                    // SAFETY: as above.
                    unsafe {
                        self.give_up(socket, next, &error, &mut |i, error| {
                            failed(base + done + i, error)
                        })
                    };
                    done += self.trains[next].count;
                    next += 1;
                    retried = false;
                }
            }
        }
        done
    }

    /// How many datagrams the trains `sent` were.
    fn note_sent(&mut self, sent: Range<usize>) -> usize {
        let (mut count, messages) = (0, sent.len());
        for train in &self.trains[sent] {
            count += train.count;
        }
        if count > messages {
            self.refusals.note_success();
        }
        count
    }

    /// Sends the prepared messages from the one at `from` on.
    ///
    /// # Safety
    /// Their bytes are still borrowed.
    unsafe fn submit(&mut self, socket: BorrowedFd<'_>, from: usize) -> io::Result<usize> {
        let headers = &mut self.raw.headers[from..self.trains.len()];
        let socket = socket.as_raw_fd();
        let [only] = headers else {
            let count = c_uint::try_from(headers.len()).unwrap_or_default();
            // SAFETY: the caller vouches for the headers, of which there are `count`; the kernel only
            // reads what they point to and keeps none of the pointers.
            return check_count(unsafe {
                libc::sendmmsg(socket, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _)
            });
        };
        // SAFETY: as above.
        unsafe { send_one(socket, &only.msg_hdr) }.map(|()| 1)
    }

    /// Sends train `i` as single datagrams when the kernel only refused to cut it, and otherwise tells
    /// of each of its datagrams that it was not sent.
    ///
    /// # Safety
    /// The bytes of its messages are still borrowed.
    unsafe fn give_up(
        &mut self,
        socket: BorrowedFd<'_>,
        i: usize,
        error: &io::Error,
        failed: &mut impl FnMut(usize, io::Error),
    ) {
        let train = self.trains[i];
        if train.count > 1 && is_refusal(error) {
            let knows_trains = || options::get(socket, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
            self.refusals
                .note(train.to.ip(), train.segment, error, knows_trains);
            // SAFETY: the caller vouches for the bytes.
            return unsafe { self.send_singly(socket, i, failed) };
        }
        for place in 0..train.count {
            failed(place, repeat(error));
        }
    }

    /// # Safety
    /// The bytes of the train's messages are still borrowed.
    unsafe fn send_singly(
        &mut self,
        socket: BorrowedFd<'_>,
        i: usize,
        failed: &mut impl FnMut(usize, io::Error),
    ) {
        let train = self.trains[i];
        // What the header points to is linked, here and for the trains behind: it is only read.
        let mut header = self.raw.headers[i].msg_hdr;
        Control::drop_segment(&mut header);
        let (mut vector, mut left) = (train.vector, train.bytes);
        for place in 0..train.count {
            let length = left.min(train.segment);
            let pieces = self.raw.pieces(vector, length);
            header.msg_iovlen = pieces as _;
            let send = || {
                // SAFETY: the caller vouches for the bytes; address, pieces and control message are
                // in boxes of `self`.
                unsafe { send_one(socket.as_raw_fd(), &header) }
            };
            let sent = send().or_else(|error| {
                if is_pending(&error) {
                    send()
                } else {
                    Err(error)
                }
            });
            if let Err(error) = sent {
                failed(place, error);
            }
            header.msg_iov = header.msg_iov.wrapping_add(pieces);
            vector += pieces;
            left -= length;
        }
    }
}

/// # Safety
/// `header` points to an address, at least one piece and perhaps a control message, all alive.
unsafe fn send_one(socket: c_int, header: &msghdr) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT;
    let sent = if header.msg_controllen != 0 || header.msg_iovlen > 1 {
        // SAFETY: the caller vouches for the header.
        unsafe { libc::sendmsg(socket, header, flags) }
    } else {
        // SAFETY: the caller vouches for the header; it has exactly one piece. For such a datagram the
        // plain call costs less.
        unsafe {
            let piece = &*header.msg_iov;
            let name = header.msg_name.cast_const().cast();
            let (base, length) = (piece.iov_base, piece.iov_len);
            libc::sendto(socket, base, length, flags, name, header.msg_namelen)
        }
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the error may be about an earlier datagram: ICMP leaves many kinds of them.
fn is_pending(error: &io::Error) -> bool {
    !matches!(Fault::of(error), Fault::Full | Fault::Exhausted)
}

/// Whether the kernel refuses a train where single datagrams may go: they do not fit the MTU, which
/// fragments could; the interface cannot cut; the kernel is old.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
    )
}

fn repeat(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendBatch")
    }
}

#[cfg(test)]
mod tests;
