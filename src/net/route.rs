//! Which address of this host the world sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::turn::Family;

/// The local address that packets to the internet leave from; none without a route there.
///
/// Asks the routing table by connecting a UDP socket to a documentation address; nothing is sent.
pub fn default_source(family: Family) -> Option<IpAddr> {
    let (any, far): (IpAddr, IpAddr) = match family {
        Family::V4 => (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        Family::V6 => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_of_the_family_asked_for() {
        for family in Family::ALL {
            let source = default_source(family);
            assert!(source.is_none_or(|source| Family::of(source) == family));
        }
    }
}
