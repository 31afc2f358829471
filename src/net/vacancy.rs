//! Whether an address to listen on is vacant, and sockets to bind to it.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::error::{BindCause, BindError, Protocol};

/// How often a port is drawn that all protocols can share.
const DRAWS: usize = 64;

/// Binds `address` plainly and lets go again: with SO_REUSEPORT alone a second process of the same
/// user would join the group silently. Returns the address with a port, which is vacant for all of
/// `protocols` that are not `ours` there already.
pub(super) fn probe(
    address: SocketAddr,
    protocols: &[Protocol],
    ours: impl Fn(Protocol, SocketAddr) -> bool,
) -> Result<SocketAddr, BindError> {
    if address.port() != 0 {
        return probe_port(address, protocols, &ours).map(|()| address);
    }
    for _ in 0..DRAWS {
        let drawn = draw_port(address, protocols)?;
        match probe_port(drawn, protocols, &ours) {
            Ok(()) => return Ok(drawn),
            Err(BindError {
                cause: BindCause::InUse,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(BindError {
        address,
        protocol: Protocol::Tcp,
        cause: BindCause::NoCommonPort,
    })
}

fn probe_port(
    address: SocketAddr,
    protocols: &[Protocol],
    ours: &impl Fn(Protocol, SocketAddr) -> bool,
) -> Result<(), BindError> {
    let others = |protocol: &&Protocol| !ours(**protocol, address);
    for &protocol in protocols.iter().filter(others) {
        plain_socket(address, protocol).map_err(|error| BindError {
            address,
            protocol,
            cause: error.into(),
        })?;
    }
    Ok(())
}

fn draw_port(address: SocketAddr, protocols: &[Protocol]) -> Result<SocketAddr, BindError> {
    let protocol = protocols.first().copied().unwrap_or(Protocol::Udp);
    let bound = plain_socket(address, protocol).and_then(|socket| socket.local_addr());
    let port = bound.map(|local| local.as_socket().map_or(0, |local| local.port()));
    port.map(|port| SocketAddr::new(address.ip(), port))
        .map_err(|error| BindError {
            address,
            protocol,
            cause: error.into(),
        })
}

fn plain_socket(address: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let socket = new_socket(address, protocol)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A non-blocking socket for `address`; one for IPv6 takes IPv6 only.
pub(super) fn new_socket(address: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Udp => Type::DGRAM,
        Protocol::Tcp => Type::STREAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier process in TIME_WAIT must not keep us from the port.
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}
