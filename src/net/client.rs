//! Sockets that reach out to a server.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::buffer_sizes::grow_buffers;

/// Binds a datagram socket to `local`, non-blocking, with `buffer` bytes each way as far as the kernel
/// gives them.
///
/// # Errors
/// The address is not one of this host, or the host lacks something.
pub fn open_datagrams(local: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), None)?;
    grow_buffers(&socket, buffer, buffer)?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Connects to `server` from `source`, or from where the routing table says; blocking.
///
/// # Errors
/// Nobody listens, nobody answers within `patience`, or the host lacks something.
pub fn connect_stream(
    server: SocketAddr,
    source: Option<IpAddr>,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&server.into(), patience)?;
    Ok(socket.into())
}
