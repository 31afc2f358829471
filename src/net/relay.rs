//! The socket behind a relayed transport address.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use super::buffer_sizes::{grow_buffers, shortfalls};
use super::error::BufferShortfall;
use super::fault::Fault;
use super::linux;
use crate::turn::Family;

/// Why a relay socket could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayError {
    /// Another socket has the port; another port may do.
    InUse,
    /// No descriptor or memory is left.
    Exhausted,
    /// The address is not one of this host.
    NotLocal,
    /// Something else, by its error number.
    Other(i32),
}

impl From<io::Error> for RelayError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse,
            _ if Fault::of(&error) == Fault::Exhausted => Self::Exhausted,
            Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Self::NotLocal,
            other => Self::Other(other.unwrap_or_default()),
        }
    }
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("the port is in use"),
            Self::Exhausted => f.write_str(
                "no file descriptor or memory is left; raise the limit on open files (`ulimit -n`, \
                 under systemd: LimitNOFILE)",
            ),
            Self::NotLocal => f.write_str(
                "not an address of this host; correct the relay address in the configuration",
            ),
            Self::Other(code) => write!(f, "{}", io::Error::from_raw_os_error(*code)),
        }
    }
}

/// Binds a relay socket to `local`, non-blocking, with `buffer` bytes each way as far as the kernel
/// gives them. The port is exclusive, datagrams may be fragmented, and ICMP errors are kept for
/// [`next_icmp_error`](super::next_icmp_error).
///
/// # Errors
/// The port is in use, or the host lacks something.
pub fn open_relay(local: SocketAddr, buffer: usize) -> Result<UdpSocket, RelayError> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), None)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&local.into())?;
    linux::allow_fragmentation(socket.as_fd(), Family::of(local.ip()))?;
    linux::keep_icmp_errors(socket.as_fd(), Family::of(local.ip()))?;
    grow_buffers(&socket, buffer, buffer)?;
    Ok(socket.into())
}

/// Sends `bytes` from a relay socket to `to` with the DF bit set (RFC 8656 §14); what the socket sends
/// otherwise may be fragmented as before.
///
/// # Errors
/// `EMSGSIZE` when the datagram does not fit the MTU of the interface; whatever else the kernel says.
pub fn send_unfragmented(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let family = Family::of(to.ip());
    linux::forbid_fragmentation(socket.as_fd(), family, true)?;
    let mut sent = socket.send_to(bytes, to);
    if sent.is_err() {
        // It may be an error that an earlier datagram left on the socket; reading it has cleared it.
        sent = socket.send_to(bytes, to);
    }
    linux::forbid_fragmentation(socket.as_fd(), family, false)?;
    sent.map(|_| ())
}

/// What relay sockets lack of `buffer` bytes each way, if this process opens them as it is now.
pub fn relay_shortfalls(buffer: usize) -> Vec<BufferShortfall> {
    let opened = open_relay((Ipv4Addr::LOCALHOST, 0).into(), buffer);
    let found = opened.map(|socket| shortfalls(&socket, None, buffer, buffer).collect());
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::error::Buffer;

    #[test]
    fn a_relay_port_is_exclusive() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let socket = open_relay(local.parse().unwrap(), 1 << 20).expect("a port");
            let taken = socket.local_addr().unwrap();
            assert_eq!(open_relay(taken, 1 << 20).err(), Some(RelayError::InUse));
        }
    }

    #[test]
    fn a_foreign_address_is_refused() {
        let foreign = "192.0.2.1:0".parse().unwrap();
        assert_eq!(open_relay(foreign, 4096).err(), Some(RelayError::NotLocal));
    }

    #[test]
    fn a_datagram_larger_than_the_mtu_is_sent() {
        let from = open_relay("127.0.0.1:0".parse().unwrap(), 1 << 20).expect("a port");
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let large = vec![1; 65_507];
        assert_eq!(
            from.send_to(&large, to.local_addr().unwrap()).ok(),
            Some(65_507)
        );
    }

    #[test]
    fn only_the_datagram_that_asks_for_it_is_kept_whole() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let from = open_relay(local.parse().unwrap(), 1 << 20).expect("a port");
            let to = UdpSocket::bind(local).unwrap();
            let at = to.local_addr().unwrap();
            let mut buffer = vec![0; 65_536];
            for _ in 0..2 {
                send_unfragmented(&from, at, b"whole").unwrap();
                assert_eq!(to.recv(&mut buffer).ok(), Some(5));
                let large = vec![1; 65_507];
                assert_eq!(from.send_to(&large, at).ok(), Some(65_507));
                assert_eq!(to.recv(&mut buffer).ok(), Some(65_507));
            }
        }
    }

    #[test]
    fn relays_lack_what_the_kernel_never_gives() {
        assert_eq!(relay_shortfalls(4096), []);
        let short = relay_shortfalls(usize::MAX);
        let buffers: Vec<Buffer> = short.iter().map(|one| one.buffer).collect();
        assert_eq!(buffers, [Buffer::Receive, Buffer::Send]);
        assert!(short.iter().all(|one| one.address.is_none()));
    }
}
