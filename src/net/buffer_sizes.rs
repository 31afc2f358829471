//! How large the kernel's buffers of a socket are.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockRef, Socket, Type};

use super::error::{Buffer, BufferShortfall};
use super::linux;

/// Sets both buffers, beyond the host's limit where the process may do that.
pub(super) fn grow_buffers(socket: &Socket, receive: usize, send: usize) -> io::Result<()> {
    set_buffer(socket, Buffer::Receive, receive)?;
    set_buffer(socket, Buffer::Send, send)
}

/// As [`grow_buffers`], but makes no buffer smaller: `socket` is another process's too, which may have had
/// the right to larger ones.
pub(super) fn raise_buffers(socket: &Socket, receive: usize, send: usize) -> io::Result<()> {
    // What this process gets of the kernel shows on a socket of its own.
    let own = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    grow_buffers(&own, receive, send)?;
    if socket.recv_buffer_size()? < own.recv_buffer_size()? {
        set_buffer(socket, Buffer::Receive, receive)?;
    }
    if socket.send_buffer_size()? < own.send_buffer_size()? {
        set_buffer(socket, Buffer::Send, send)?;
    }
    Ok(())
}

fn set_buffer(socket: &Socket, buffer: Buffer, bytes: usize) -> io::Result<()> {
    let is_receive = matches!(buffer, Buffer::Receive);
    if force_buffer(socket, is_receive, bytes) {
        Ok(())
    } else if is_receive {
        socket.set_recv_buffer_size(bytes)
    } else {
        socket.set_send_buffer_size(bytes)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_a_shared_socket_only_grow() -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        let sizes = |socket: &Socket| -> io::Result<[usize; 2]> {
            Ok([socket.recv_buffer_size()?, socket.send_buffer_size()?])
        };
        grow_buffers(&socket, 65_536, 32_768)?;
        assert_eq!(sizes(&socket)?, [131_072, 65_536]);
        raise_buffers(&socket, 16_384, 16_384)?;
        assert_eq!(sizes(&socket)?, [131_072, 65_536]);
        raise_buffers(&socket, 16_384, 65_536)?;
        assert_eq!(sizes(&socket)?, [131_072, 131_072]);
        raise_buffers(&socket, 98_304, 16_384)?;
        assert_eq!(sizes(&socket)?, [196_608, 131_072]);
        Ok(())
    }
}
