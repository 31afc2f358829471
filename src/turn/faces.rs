//! What is known of the ports of each relay address, readable without a lock.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

/// How many addresses can be told apart; relays on further ones cannot be peers of each other.
const MAX_FACES: usize = 256;

/// One relay address: what peers see, what is bound, and what is known of its ports.
pub(super) struct Face<P> {
    pub(super) public: IpAddr,
    pub(super) local: IpAddr,
    pub(super) ports: P,
}

impl<P> Face<P> {
    fn is_of(&self, public: IpAddr, local: IpAddr) -> bool {
        self.public == public && self.local == local
    }
}

/// The relay addresses that there were so far; none is ever forgotten, since there are few.
pub(super) struct Faces<P>([OnceLock<Box<Face<P>>>; MAX_FACES]);

impl<P> Default for Faces<P> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; MAX_FACES])
    }
}

impl<P> Faces<P> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Face<P>> {
        let filled = self.0.iter().map_while(|slot| slot.get());
        filled.map(AsRef::as_ref)
    }

    /// Those that peers see at `ip`.
    pub(super) fn seen_at(&self, ip: IpAddr) -> impl Iterator<Item = &Face<P>> {
        self.iter().filter(move |face| face.public == ip)
    }

    /// The address under which peers see `local`, where `is_meant` says so of its port.
    pub(super) fn public_of(
        &self,
        local: SocketAddr,
        is_meant: impl Fn(&P, u16) -> bool,
    ) -> Option<SocketAddr> {
        let port = local.port();
        let mut bound_there = self.iter().filter(|face| face.local == local.ip());
        let face = bound_there.find(|face| is_meant(&face.ports, port))?;
        Some(SocketAddr::new(face.public, port))
    }

    pub(super) fn get(&self, public: IpAddr, local: IpAddr) -> Option<&Face<P>> {
        self.iter().find(|face| face.is_of(public, local))
    }
}

impl<P: Default> Faces<P> {
    /// The face of the pair, made when there is room; slots fill in order and are never emptied.
    pub(super) fn get_or_add(&self, public: IpAddr, local: IpAddr) -> Option<&Face<P>> {
        let new = || {
            let ports = P::default();
            Box::new(Face {
                public,
                local,
                ports,
            })
        };
        self.0
            .iter()
            .map(|slot| slot.get_or_init(new).as_ref())
            .find(|face| face.is_of(public, local))
    }
}
