//! What the kernel's message headers point to, in places that do not move (`recvmmsg`, `sendmmsg`).

use std::iter;
use std::ptr;

use libc::{iovec, mmsghdr, sockaddr_storage};

use super::address;
use super::control::Control;

/// The most messages that one call takes.
pub const BATCH: usize = 32;

/// Message headers and what they point to.
pub(super) struct Headers {
    pub(super) headers: Box<[mmsghdr]>,
    pub(super) addresses: Box<[sockaddr_storage]>,
    pub(super) controls: Box<[Control]>,
    pub(super) vectors: Box<[iovec]>,
    /// How many vectors are taken.
    taken: usize,
}

impl Headers {
    /// Room for [`BATCH`] messages of `vectors` pieces together.
    pub(super) fn new(vectors: usize) -> Self {
        let nothing = iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: mmsghdr is plain integers and pointers; null pointers of length zero are valid in it.
        let blank = || unsafe { std::mem::zeroed::<mmsghdr>() };
        Self {
            headers: iter::repeat_with(blank).take(BATCH).collect(),
            addresses: vec![address::empty(); BATCH].into(),
            controls: vec![Control::EMPTY; BATCH].into(),
            vectors: vec![nothing; vectors].into(),
            taken: 0,
        }
    }

    /// Forgets every message.
    pub(super) fn clear(&mut self) {
        self.taken = 0;
    }

    /// How many more pieces find room.
    pub(super) fn room(&self) -> usize {
        self.vectors.len() - self.taken
    }

    /// How many pieces there are.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Makes message `i` the empty one, without a control message. Messages are described in order.
    pub(super) fn begin(&mut self, i: usize) {
        let header = &mut self.headers[i].msg_hdr;
        header.msg_namelen = address::STORAGE_LENGTH;
        header.msg_iovlen = 0;
        header.msg_controllen = 0;
        header.msg_flags = 0;
    }

    /// Appends the `length` bytes from `base` to message `i`, the last one that was begun.
    pub(super) fn append(&mut self, i: usize, base: *mut u8, length: usize) {
        self.vectors[self.taken] = iovec {
            iov_base: base.cast(),
            iov_len: length,
        };
        self.taken += 1;
        self.headers[i].msg_hdr.msg_iovlen += 1;
    }

    /// How many pieces from the one at `first` on have `length` bytes together; at least one.
    pub(super) fn pieces(&self, first: usize, length: usize) -> usize {
        let mut bytes = 0;
        let lengths = self.vectors[first..self.taken]
            .iter()
            .map(|piece| piece.iov_len);
        let before = lengths.take_while(|piece| {
            bytes += piece;
            bytes < length
        });
        before.count() + 1
    }

    /// Points the first `count` headers at their places. Done last: a pointer must not be older than an
    /// exclusive reference to what it points at.
    pub(super) fn link(&mut self, count: usize) {
        let addresses = self.addresses.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        let mut vectors = self.vectors.as_mut_ptr();
        for (i, header) in self.headers[..count].iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_name = addresses.wrapping_add(i).cast();
            header.msg_iov = vectors;
            #[expect(clippy::allow_attributes, reason = "the type differs by C library")]
            #[allow(clippy::unnecessary_cast, reason = "the type differs by C library")]
            let pieces = header.msg_iovlen as usize;
            vectors = vectors.wrapping_add(pieces);
            header.msg_control = if header.msg_controllen == 0 {
                ptr::null_mut()
            } else {
                controls.wrapping_add(i).cast()
            };
        }
    }
}
