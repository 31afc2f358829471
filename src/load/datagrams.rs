//! UDP sockets, and datagrams of one length sent together.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::error::LoadError;
use super::plan::Target;
use crate::net::{open_datagrams, send_segments};

/// The most that the kernel cuts in one call.
const MOST_SEGMENTS: usize = 64;
const MOST_SEGMENTED: usize = 65_000;

/// A socket that is connected to the server.
pub(super) fn connected(
    target: &Target,
    source: Option<IpAddr>,
    buffer: usize,
) -> Result<UdpSocket, LoadError> {
    let local = source.unwrap_or(unspecified(target.server).ip());
    let socket = open_datagrams(SocketAddr::new(local, 0), buffer);
    let socket = socket.map_err(|error| LoadError::unbound(error, local))?;
    socket.connect(target.server)?;
    Ok(socket)
}

/// Sends datagrams of `length` bytes from one piece of memory; how many went. Where the kernel does
/// not cut them, they go one by one.
pub(super) fn send_train(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    bytes: &[u8],
    length: usize,
) -> usize {
    let segment = u16::try_from(length).unwrap_or(u16::MAX);
    let together = (MOST_SEGMENTED / length.max(1)).clamp(1, MOST_SEGMENTS);
    let mut sent = 0;
    for train in bytes.chunks(together * length) {
        let cut = train.len() > length && send_segments(socket, to, train, segment).is_ok();
        sent += if cut {
            train.len() / length
        } else {
            let one_by_one = train.chunks(length);
            one_by_one.filter(|one| send_one(socket, to, one)).count()
        };
    }
    sent
}

fn send_one(socket: &UdpSocket, to: Option<SocketAddr>, bytes: &[u8]) -> bool {
    let send = || match to {
        Some(to) => socket.send_to(bytes, to),
        None => socket.send(bytes),
    };
    // The first call may only report what became of an earlier datagram.
    send().or_else(|_| send()).is_ok()
}

/// Any address of the family of `like`, and any port.
pub(super) fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    }
}
