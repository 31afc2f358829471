//! Why a socket could not be opened, in words that name the remedy.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// The protocol of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// A listening socket could not be opened.
#[derive(Debug)]
pub struct BindError {
    /// The address that was to listen.
    pub address: SocketAddr,
    /// The protocol of the socket.
    pub protocol: Protocol,
    /// What stands in the way.
    pub cause: BindCause,
}

/// What stands in the way of a listening socket.
#[derive(Debug)]
pub enum BindCause {
    /// Another socket has the port.
    InUse,
    /// The port is under 1024 and the process may not have it.
    Permission,
    /// The address is not one of this host.
    NotLocal,
    /// The host has no such address family (IPv6 is switched off).
    NoFamily,
    /// The process or the host has no descriptor left.
    NoDescriptors,
    /// No port was found that is free for UDP and TCP alike.
    NoCommonPort,
    /// Something else.
    Other(io::Error),
}

impl From<io::Error> for BindCause {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse,
            Some(libc::EACCES | libc::EPERM) => Self::Permission,
            Some(libc::EADDRNOTAVAIL) => Self::NotLocal,
            Some(libc::EAFNOSUPPORT) => Self::NoFamily,
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors,
            _ => Self::Other(error),
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address, protocol, ..
        } = self;
        write!(f, "cannot listen on {address} ({protocol}): ")?;
        match &self.cause {
            BindCause::InUse => {
                let list = match protocol {
                    Protocol::Udp => "ss -lnup",
                    Protocol::Tcp => "ss -lntp",
                };
                let port = address.port();
                write!(
                    f,
                    "another process has the port; `{list} 'sport = {port}'` shows which"
                )
            }
            BindCause::Permission => f.write_str(
                "permission denied; ports under 1024 need CAP_NET_BIND_SERVICE (under systemd: \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE, and PrivateUsers=no), or choose a higher \
                 port",
            ),
            BindCause::NotLocal => f.write_str(
                "not an address of this host; `ip address` lists them, and 0.0.0.0 or [::] \
                 stands for all",
            ),
            BindCause::NoFamily => f.write_str(
                "this host has no IPv6 (net.ipv6.conf.all.disable_ipv6 or ipv6.disable is set); \
                 listen on IPv4 only",
            ),
            BindCause::NoDescriptors => f.write_str(
                "no file descriptor is left; raise the limit (`ulimit -n`, under systemd: \
                 LimitNOFILE)",
            ),
            BindCause::NoCommonPort => {
                f.write_str("found no port that is free for UDP and TCP alike; name one")
            }
            BindCause::Other(error) => write!(f, "{error}"),
        }
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            BindCause::Other(error) => Some(error),
            _ => None,
        }
    }
}

/// Which of a socket's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// `SO_RCVBUF`.
    Receive,
    /// `SO_SNDBUF`.
    Send,
}

impl Buffer {
    /// The kernel's limit on it.
    pub const fn sysctl(self) -> &'static str {
        match self {
            Self::Receive => "net.core.rmem_max",
            Self::Send => "net.core.wmem_max",
        }
    }
}

/// The kernel gave a socket a smaller buffer than was asked for: bursts lose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferShortfall {
    /// The listening address; none for the sockets of relayed addresses.
    pub address: Option<SocketAddr>,
    /// Which buffer.
    pub buffer: Buffer,
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes given.
    pub granted: usize,
}

impl fmt::Display for BufferShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.buffer {
            Buffer::Receive => "receive",
            Buffer::Send => "send",
        };
        match self.address {
            Some(address) => write!(f, "the UDP {kind} buffer of {address}")?,
            None => write!(f, "the UDP {kind} buffer of every relayed address")?,
        }
        write!(
            f,
            " is {} bytes instead of {}, so that bursts may lose packets; `sysctl -w {}={}` allows more",
            self.granted,
            self.wanted,
            self.buffer.sysctl(),
            self.wanted
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(protocol: Protocol, code: i32) -> String {
        BindError {
            address: "192.0.2.1:3478".parse().unwrap(),
            protocol,
            cause: io::Error::from_raw_os_error(code).into(),
        }
        .to_string()
    }

    #[test]
    fn every_cause_is_one_line_with_address_and_remedy() {
        for (code, remedy) in [
            (libc::EADDRINUSE, "ss -lntp"),
            (libc::EACCES, "CAP_NET_BIND_SERVICE"),
            (libc::EADDRNOTAVAIL, "ip address"),
            (libc::EAFNOSUPPORT, "IPv4 only"),
            (libc::EMFILE, "LimitNOFILE"),
        ] {
            let text = text(Protocol::Tcp, code);
            assert!(text.starts_with("cannot listen on 192.0.2.1:3478 (TCP): "));
            assert!(text.contains(remedy), "{text}");
            assert!(!text.contains('\n'));
        }
        assert!(text(Protocol::Udp, libc::EADDRINUSE).contains("ss -lnup 'sport = 3478'"));
    }

    #[test]
    fn a_shortfall_names_the_sysctl() {
        let shortfall = BufferShortfall {
            address: Some("0.0.0.0:3478".parse().unwrap()),
            buffer: Buffer::Receive,
            wanted: 4_194_304,
            granted: 212_992,
        };
        assert!(
            shortfall
                .to_string()
                .contains("sysctl -w net.core.rmem_max=4194304")
        );
    }
}
