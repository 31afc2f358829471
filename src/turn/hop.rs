//! The two ends of the short way between allocations of this server.

use std::net::SocketAddr;

use super::place::Place;

/// Bytes of the UDP header, and of the IPv4 header before it.
const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;

/// From which allocation to which a packet goes without leaving the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Whose client sent it.
    pub from: Place,
    /// Whose client it is for.
    pub to: Place,
    /// The relayed transport address of `from`, as peers see it.
    pub source: SocketAddr,
    /// What the relay socket of `to` is bound to; sent there from the relay socket of `from`, the packet
    /// arrives as well.
    pub peer: SocketAddr,
}

impl Hop {
    /// Whether one UDP datagram can hold `payload`; what it cannot is refused by the socket.
    pub(super) const fn carries(&self, payload: &[u8]) -> bool {
        let headers = match self.peer {
            SocketAddr::V4(_) => UDP_HEADER + IPV4_HEADER,
            SocketAddr::V6(_) => UDP_HEADER,
        };
        payload.len() + headers <= u16::MAX as usize
    }
}
