//! Descriptors on their way to another process, beside the bytes of a Unix socket (`SCM_RIGHTS`).

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use libc::{cmsghdr, iovec, msghdr};

use super::check_count;

/// The most descriptors of one message (`SCM_MAX_FD`).
pub const MOST_DESCRIPTORS: usize = 253;

/// Room for a control message of so many descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; Self::ROOM]);

impl Control {
    const ROOM: usize = 1040;
    const EMPTY: Self = Self([0; Self::ROOM]);
}

/// Sends the first of `bytes`, and all of `descriptors` with them: copies that the receiver owns. Returns
/// how many bytes went. There must be a byte to go, and [`MOST_DESCRIPTORS`] at most.
///
/// # Errors
/// `InvalidInput` for too many descriptors or no byte; `ResourceBusy` while too many are on their way;
/// whatever else the kernel says.
pub fn send_descriptors(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if descriptors.len() > MOST_DESCRIPTORS || bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control::EMPTY;
    let mut part = iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut header = empty_header(&mut part);
    if !descriptors.is_empty() {
        header.msg_control = ptr::from_mut(&mut control).cast();
        // SAFETY: the header points to the room, which holds the most descriptors that there may be.
        unsafe { write_rights(&mut header, descriptors) };
    }
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the header points to one part and a control message, both alive through the call; the kernel
    // writes to neither and keeps no pointer.
    let sent = unsafe { libc::sendmsg(raw, &raw const header, libc::MSG_NOSIGNAL) };
    count(sent).map_err(|error| match error.raw_os_error() {
        Some(libc::ETOOMANYREFS) => io::ErrorKind::ResourceBusy.into(),
        _ => error,
    })
}

/// Receives bytes into `buffer`, and adds the descriptors that came with them to `received`. Returns how
/// many bytes came; none is the end.
///
/// # Errors
/// `Other` when descriptors were lost because the process may open no more; whatever the kernel says.
pub fn receive_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
    received: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut control = Control::EMPTY;
    let mut part = iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut header = empty_header(&mut part);
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = Control::ROOM as _;
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the header points to a buffer and a control room of the lengths it names, both alive through
    // the call; the kernel keeps none of the pointers.
    let returned = unsafe { libc::recvmsg(raw, &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = count(returned)?;
    // SAFETY: the call has just filled the header, and its control room is still there.
    unsafe { take_rights(&header, received) };
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::other(
            "descriptors were lost, because the process may open no more files; raise the limit \
             (`ulimit -n`, under systemd: LimitNOFILE)",
        ));
    }
    Ok(length)
}

fn empty_header(part: &mut iovec) -> msghdr {
    // SAFETY: msghdr is plain integers and pointers; null pointers of length zero are valid in it.
    let mut header = unsafe { std::mem::zeroed::<msghdr>() };
    header.msg_iov = ptr::from_mut(part);
    header.msg_iovlen = 1;
    header
}

fn count(returned: isize) -> io::Result<usize> {
    check_count(c_int::try_from(returned).unwrap_or(c_int::MAX))
}

/// # Safety
/// `header` points to a [`Control`], and there are not more than [`MOST_DESCRIPTORS`].
unsafe fn write_rights(header: &mut msghdr, descriptors: &[BorrowedFd<'_>]) {
    const INT: usize = size_of::<c_int>();
    const { assert!(size_of::<cmsghdr>() + MOST_DESCRIPTORS * INT <= Control::ROOM) };
    let size = c_uint::try_from(descriptors.len() * INT).unwrap_or_default();
    // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
    let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size)) };
    header.msg_controllen = space as _;
    // SAFETY: the caller vouches for the room, which the assertion above shows to hold a header and the
    // descriptors, and which is aligned for both.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = length as _;
        let data = libc::CMSG_DATA(message).cast::<c_int>();
        for (place, descriptor) in descriptors.iter().enumerate() {
            data.add(place).write_unaligned(descriptor.as_raw_fd());
        }
    }
}

/// # Safety
/// `header` is as `recvmsg` left it, and the control room that it points to is still there. Nobody else has
/// taken the descriptors.
unsafe fn take_rights(header: &msghdr, received: &mut VecDeque<OwnedFd>) {
    // SAFETY: the caller vouches for the room; the macro checks the length in `header`.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: a control message that is not null lies whole in the room, and the kernel writes as many
        // descriptors as its length says, which are nobody's yet.
        unsafe {
            let kind = ((*message).cmsg_level, (*message).cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data = libc::CMSG_DATA(message).cast::<c_int>();
                for place in 0..descriptors_in(message) {
                    let raw = data.add(place).read_unaligned();
                    received.push_back(OwnedFd::from_raw_fd(raw));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

/// # Safety
/// `message` is a control message that the kernel wrote.
unsafe fn descriptors_in(message: *const cmsghdr) -> usize {
    // SAFETY: CMSG_LEN only computes.
    let head = unsafe { libc::CMSG_LEN(0) } as usize;
    // SAFETY: the caller vouches for the message.
    let length: usize = unsafe { (*message).cmsg_len } as _;
    length.saturating_sub(head) / size_of::<c_int>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_in_order_with_their_bytes() -> io::Result<()> {
        let (one, other) = UnixStream::pair()?;
        let (mut write, read) = UnixStream::pair()?;
        let null = File::open("/dev/null")?;
        let mut sent = vec![null.as_fd(); MOST_DESCRIPTORS - 1];
        sent.push(read.as_fd());
        assert_eq!(send_descriptors(&one, b"x", &sent)?, 1);
        assert_eq!(send_descriptors(&one, b"rest", &[])?, 4);
        drop(read);
        let (mut received, mut buffer) = (VecDeque::new(), [0; 16]);
        assert_eq!(receive_descriptors(&other, &mut buffer, &mut received)?, 1);
        assert_eq!(received.len(), MOST_DESCRIPTORS);
        assert_eq!(receive_descriptors(&other, &mut buffer, &mut received)?, 4);
        assert_eq!(received.len(), MOST_DESCRIPTORS);
        write.write_all(b"through it")?;
        let mut last = UnixStream::from(received.pop_back().expect("the last one"));
        assert_eq!(last.read(&mut buffer)?, 10);
        drop(one);
        assert_eq!(receive_descriptors(&other, &mut buffer, &mut received)?, 0);
        Ok(())
    }

    #[test]
    fn too_many_at_once_are_refused() -> io::Result<()> {
        let (one, _other) = UnixStream::pair()?;
        let sent = vec![one.as_fd(); MOST_DESCRIPTORS + 1];
        for (bytes, descriptors) in [(&b"x"[..], &sent[..]), (b"", &sent[..1])] {
            let refused = send_descriptors(&one, bytes, descriptors).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::InvalidInput));
        }
        Ok(())
    }
}
