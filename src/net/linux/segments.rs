//! Several datagrams of one length to one place in one call (`UDP_SEGMENT`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::{iovec, msghdr, sockaddr_storage};

use super::address;
use super::control::Control;

/// Sends `bytes` as datagrams of `segment` bytes each, the last one perhaps shorter, to `to` or to
/// where the socket is connected. The kernel takes 64 segments and 65 507 bytes at most. Never waits.
///
/// # Errors
/// `EINVAL` or `EIO` when the segments do not fit the interface or cannot be made there; whatever else
/// the kernel says.
pub fn send_segments(
    socket: impl AsFd,
    to: Option<SocketAddr>,
    bytes: &[u8],
    segment: u16,
) -> io::Result<()> {
    let mut control = Control::EMPTY;
    let mut storage: sockaddr_storage = address::empty();
    let mut vector = iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain integers and pointers; null pointers of length zero are valid in it.
    let mut header: msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        header.msg_namelen = address::encode(&to, &mut storage);
        header.msg_name = ptr::from_mut(&mut storage).cast();
    }
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    control.add_segment(&mut header, segment);
    // SAFETY: the header points to places on this stack and to `bytes`, all alive through the call;
    // the kernel only reads them and keeps no pointer.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const header,
            libc::MSG_DONTWAIT,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_train_arrives_as_single_datagrams() -> io::Result<()> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let to = receiver.local_addr()?;
        send_segments(&sender, Some(to), b"abcdefgh", 3)?;
        sender.connect(to)?;
        send_segments(&sender, None, b"ijkl", 2)?;
        let mut buffer = [0; 16];
        for expected in [&b"abc"[..], b"def", b"gh", b"ij", b"kl"] {
            let length = receiver.recv(&mut buffer)?;
            assert_eq!(&buffer[..length], expected);
        }
        Ok(())
    }
}
