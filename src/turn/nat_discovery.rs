//! The four transport addresses of NAT behaviour discovery (RFC 5780 §6).

use std::net::{IpAddr, SocketAddr};

/// Two addresses with two ports each, A1 and A2, P1 and P2. The server listens on all four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatDiscovery {
    ips: [Face; 2],
    ports: [u16; 2],
}

/// An address of this host and the one that clients see in its place: another behind a 1:1 NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Face {
    local: IpAddr,
    public: IpAddr,
}

/// One of the four: which address and which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corner {
    ip: usize,
    port: usize,
}

impl Corner {
    /// The one that has the other address, the other port, or both.
    pub(super) const fn changed(self, ip: bool, port: bool) -> Self {
        Self {
            ip: self.ip ^ ip as usize,
            port: self.port ^ port as usize,
        }
    }
}

impl NatDiscovery {
    /// The four that `primary` (A1, P1) and `alternate` (A2, P2) span, local addresses of one family;
    /// none unless both addresses and ports differ.
    pub fn new(primary: SocketAddr, alternate: SocketAddr) -> Option<Self> {
        let face = |address: SocketAddr| Face {
            local: address.ip(),
            public: address.ip(),
        };
        let spans = primary.ip() != alternate.ip()
            && primary.port() != alternate.port()
            && primary.is_ipv4() == alternate.is_ipv4();
        spans.then(|| Self {
            ips: [face(primary), face(alternate)],
            ports: [primary.port(), alternate.port()],
        })
    }

    /// The same four, where clients see `public(address)` in place of each local address.
    #[must_use]
    pub fn seen_as(mut self, public: impl Fn(IpAddr) -> IpAddr) -> Self {
        for face in &mut self.ips {
            face.public = public(face.local);
        }
        self
    }

    /// Whether clients see two addresses.
    pub fn is_distinct(&self) -> bool {
        self.ips[0].public != self.ips[1].public
    }

    /// The local addresses to listen on: A1:P1, A1:P2, A2:P1, A2:P2.
    pub fn addresses(&self) -> [SocketAddr; 4] {
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(ip, port)| self.local(Corner { ip, port }))
    }

    /// Which of the four a request to `local` reached, if any.
    pub(super) fn corner(&self, local: SocketAddr) -> Option<Corner> {
        let ip = self.ips.iter().position(|face| face.local == local.ip())?;
        let port = self.ports.iter().position(|port| *port == local.port())?;
        Some(Corner { ip, port })
    }

    /// The address of this host at `corner`.
    pub(super) const fn local(&self, corner: Corner) -> SocketAddr {
        SocketAddr::new(self.ips[corner.ip].local, self.ports[corner.port])
    }

    /// The address that clients see at `corner`.
    pub(super) const fn public(&self, corner: Corner) -> SocketAddr {
        SocketAddr::new(self.ips[corner.ip].public, self.ports[corner.port])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn four() -> NatDiscovery {
        NatDiscovery::new(at("192.0.2.10:3478"), at("192.0.2.11:3479")).expect("four")
    }

    #[test]
    fn every_corner_has_its_opposite() {
        let four = four();
        for local in four.addresses() {
            let corner = four.corner(local).expect("one of the four");
            assert_eq!(four.local(corner), local);
            let opposite = four.local(corner.changed(true, true));
            assert!(opposite.ip() != local.ip() && opposite.port() != local.port());
            let beside = four.local(corner.changed(false, true));
            assert!(beside.ip() == local.ip() && beside.port() != local.port());
        }
        assert_eq!(four.corner(at("192.0.2.10:3480")), None);
        assert_eq!(four.corner(at("192.0.2.12:3478")), None);
    }

    #[test]
    fn two_addresses_and_two_ports_are_needed() {
        let primary = at("192.0.2.10:3478");
        for alternate in ["192.0.2.10:3479", "192.0.2.11:3478", "[2001:db8::1]:3479"] {
            assert_eq!(NatDiscovery::new(primary, at(alternate)), None);
        }
    }

    #[test]
    fn clients_see_the_public_addresses() {
        let public = |ip: IpAddr| match ip.to_string().as_str() {
            "192.0.2.10" => at("203.0.113.5:0").ip(),
            _ => at("203.0.113.6:0").ip(),
        };
        let seen = four().seen_as(public);
        let corner = seen.corner(at("192.0.2.11:3478")).expect("local");
        assert_eq!(seen.public(corner), at("203.0.113.6:3478"));
        assert!(seen.is_distinct());
        assert!(!four().seen_as(|_| at("203.0.113.5:0").ip()).is_distinct());
    }
}
