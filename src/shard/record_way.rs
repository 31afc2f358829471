//! The way between two processes for DTLS records that arrive at one and belong to a session of the other.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use crate::turn::{FiveTuple, Transport};

/// A family, an IP address and a port, for client and server each.
pub(super) const ADDRESSES: usize = 2 * ADDRESS;
const ADDRESS: usize = 19;
/// The longest datagram of a client, and what stands before it.
const LONGEST: usize = 65_535 + ADDRESSES;

/// One end of the way of such records.
#[derive(Debug)]
pub(super) struct RecordWay {
    socket: UnixDatagram,
    buffer: Vec<u8>,
}

impl RecordWay {
    /// Both ends: the one of the new process, and the one of the old one.
    pub(super) fn pair() -> io::Result<(OwnedFd, Self)> {
        let (new, old) = UnixDatagram::pair()?;
        new.set_nonblocking(true)?;
        old.set_nonblocking(true)?;
        Ok((new.into(), Self::new(old.into())))
    }

    /// The end of the new process.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            socket: descriptor.into(),
            buffer: Vec::new(),
        }
    }

    /// Passes on a record of the client `from`, or loses it when the other end does not keep up.
    pub(super) fn send(&mut self, from: &FiveTuple, record: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend(encode(from));
        self.buffer.extend_from_slice(record);
        self.socket.send(&self.buffer).map(drop)
    }

    /// The next record; the client it is of.
    pub(super) fn receive(&mut self) -> io::Result<(FiveTuple, &[u8])> {
        self.buffer.resize(LONGEST, 0);
        let length = self.socket.recv(&mut self.buffer)?;
        let message = &self.buffer[..length];
        let (head, record) = message
            .split_first_chunk::<ADDRESSES>()
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok((decode(Transport::Dtls, head), record))
    }
}

impl AsFd for RecordWay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The addresses of client and server.
pub(super) fn encode(from: &FiveTuple) -> impl Iterator<Item = u8> {
    let addresses = [from.client, from.server];
    addresses.into_iter().flat_map(encode_address)
}

/// What [`encode`] wrote, of a client that speaks `transport`.
pub(super) fn decode(transport: Transport, bytes: &[u8; ADDRESSES]) -> FiveTuple {
    FiveTuple {
        transport,
        client: decode_address(&bytes[..ADDRESS]),
        server: decode_address(&bytes[ADDRESS..]),
    }
}

fn encode_address(address: SocketAddr) -> [u8; ADDRESS] {
    let mut bytes = [0; ADDRESS];
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    bytes[0] = u8::from(address.is_ipv4());
    bytes[1..17].copy_from_slice(&ip.octets());
    bytes[17..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

fn decode_address(bytes: &[u8]) -> SocketAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[1..17]);
    let ip = Ipv6Addr::from(octets);
    let v4 = ip.to_ipv4_mapped().filter(|_| bytes[0] == 1);
    let port = u16::from_be_bytes([bytes[17], bytes[18]]);
    SocketAddr::new(v4.map_or(ip.into(), IpAddr::from), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_arrive_with_their_five_tuple() -> io::Result<()> {
        let (new, mut old) = RecordWay::pair()?;
        let mut new = RecordWay::new(new);
        for (client, server) in [
            ("192.0.2.1:1", "198.51.100.7:3478"),
            ("[2001:db8::1]:65535", "[::ffff:192.0.2.1]:1"),
        ] {
            let from = FiveTuple {
                transport: Transport::Dtls,
                client: client.parse().expect("address"),
                server: server.parse().expect("address"),
            };
            new.send(&from, b"record")?;
            assert_eq!(old.receive()?, (from, &b"record"[..]));
        }
        let none = old.receive().map_err(|error| error.kind());
        assert_eq!(none, Err(io::ErrorKind::WouldBlock));
        drop(old);
        let from = FiveTuple {
            transport: Transport::Dtls,
            client: ([192, 0, 2, 1], 1).into(),
            server: ([192, 0, 2, 2], 2).into(),
        };
        assert!(new.send(&from, b"record").is_err());
        Ok(())
    }
}
