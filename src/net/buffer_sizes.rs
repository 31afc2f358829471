//! How large the kernel's buffers of a socket are.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockRef, Socket};

use super::error::{Buffer, BufferShortfall};
use super::linux;

/// Sets both buffers, beyond the host's limit where the process may do that.
pub(super) fn grow_buffers(socket: &Socket, receive: usize, send: usize) -> io::Result<()> {
    if !force_buffer(socket, true, receive) {
        socket.set_recv_buffer_size(receive)?;
    }
    if !force_buffer(socket, false, send) {
        socket.set_send_buffer_size(send)?;
    }
    Ok(())
}

/// Sets a buffer beyond the host's limit; false when the process may not. One that may not never may
/// later, so it does not try again for every socket.
fn force_buffer(socket: &Socket, is_receive: bool, bytes: usize) -> bool {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    if REFUSED.load(Ordering::Relaxed) {
        return false;
    }
    let forced = linux::force_buffer(socket.as_fd(), is_receive, bytes);
    if forced
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    {
        REFUSED.store(true, Ordering::Relaxed);
    }
    forced.is_ok()
}

/// What the kernel gave `socket` of `receive` and `send` bytes that were asked for, where that is less.
/// The socket listens at `address`; without one it is a relay's.
pub(super) fn shortfalls<S: AsFd>(
    socket: &S,
    address: Option<SocketAddr>,
    receive: usize,
    send: usize,
) -> impl Iterator<Item = BufferShortfall> + use<S> {
    let socket = SockRef::from(socket);
    // The kernel counts its own overhead in and reports the double of what was asked for.
    let granted = |bytes: io::Result<usize>| bytes.unwrap_or(usize::MAX) / 2;
    let given = [
        (Buffer::Receive, receive, granted(socket.recv_buffer_size())),
        (Buffer::Send, send, granted(socket.send_buffer_size())),
    ];
    let short = given
        .into_iter()
        .filter(|(_, wanted, granted)| granted < wanted);
    short.map(move |(buffer, wanted, granted)| BufferShortfall {
        address,
        buffer,
        wanted,
        granted,
    })
}
