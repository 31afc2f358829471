//! The five-tuple that identifies an allocation (RFC 8656 §2.2, §3).

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// The transport between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Plain UDP.
    Udp,
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP (RFC 7350).
    Dtls,
}

impl Transport {
    /// Every transport, in label order.
    pub const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Tls, Self::Dtls];
    /// Those whose messages travel in a byte stream, in label order.
    pub const STREAMS: [Self; 2] = [Self::Tcp, Self::Tls];

    /// Whether messages travel in a byte stream: no retransmissions, ChannelData padded
    /// (RFC 8656 §12.5).
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// Address family of a transport address, as in REQUESTED-ADDRESS-FAMILY (RFC 8656 §18.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 0x01.
    V4,
    /// 0x02.
    V6,
}

impl Family {
    /// Every family, in label order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Client address, server address and transport of one client (RFC 8656 §3).
///
/// Addresses are canonical: an IPv4 client is never spelled as an IPv4-mapped IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiveTuple {
    /// How the client reaches us.
    pub transport: Transport,
    /// The client's address as the server sees it.
    pub client: SocketAddr,
    /// The address of ours that the client sent to.
    pub server: SocketAddr,
}

impl Hash for FiveTuple {
    /// Three writes instead of the derived dozen: this is the one look-up on a packet's way. Always inlined,
    /// since the compiler no longer does it by itself as soon as another table has the same hasher.
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u64::from(self.client.port()) << 32
            | u64::from(self.server.port()) << 16
            | self.transport as u64;
        state.write_u128(bits(self.client.ip()));
        state.write_u128(bits(self.server.ip()));
        state.write_u64(ports);
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
