//! The relayed transport addresses of one allocation: one, or one of each family (RFC 8656 §7.2).

use std::net::{IpAddr, SocketAddr};

use super::five_tuple::Family;
use crate::time::Instant;

/// Where the socket of a relayed transport address is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// It is being opened; so many ports were tried before.
    Opening { tries: u8 },
    /// It is bound.
    Open,
}

/// How many ports, or pairs of them, are tried before an Allocate is answered with 508. Where other processes
/// have half of the range, three pairs in four cannot be had, and one request in ten thousand finds none.
pub(super) const MAX_TRIES: u8 = 32;

impl Socket {
    /// No other port will do.
    pub(super) const LAST_TRY: Self = Self::Opening {
        tries: MAX_TRIES - 1,
    };
}

/// A relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relay {
    /// What the socket binds.
    pub(super) local: IpAddr,
    /// What peers see.
    pub(super) public: SocketAddr,
    pub(super) socket: Socket,
    /// When it ends; each family of a dual allocation has its own time (RFC 8656 §8.1).
    pub(super) expires: Instant,
}

impl Relay {
    pub(super) fn new(local: IpAddr, public: SocketAddr) -> Self {
        Self {
            local,
            public,
            socket: Socket::Opening { tries: 0 },
            expires: Instant::FAR_FUTURE,
        }
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.local)
    }

    /// The address that the socket binds.
    pub(super) fn bind_address(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.public.port())
    }

    /// The relayed transport address on the port above.
    pub(super) fn next(&self) -> Self {
        let port = self.public.port().saturating_add(1);
        Self::new(self.local, SocketAddr::new(self.public.ip(), port))
    }
}

/// One relay, or two of different families. The second is rare and out of the way.
#[derive(Debug)]
pub(super) struct Relays {
    first: Relay,
    second: Option<Box<Relay>>,
}

impl Relays {
    pub(super) fn one(relay: Relay) -> Self {
        Self {
            first: relay,
            second: None,
        }
    }

    /// Both families: the first is the one that the response names first.
    pub(super) fn two(first: Relay, second: Relay) -> Self {
        debug_assert_ne!(first.family(), second.family());
        Self {
            first,
            second: Some(Box::new(second)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Relay> {
        std::iter::once(&self.first).chain(self.second.as_deref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Relay> {
        std::iter::once(&mut self.first).chain(self.second.as_deref_mut())
    }

    /// What `read` says of each.
    pub(super) fn each<T>(&self, read: impl Fn(&Relay) -> T) -> [Option<T>; 2] {
        let second = self.second.as_deref().map(&read);
        [Some(read(&self.first)), second]
    }

    pub(super) fn get(&self, family: Family) -> Option<&Relay> {
        self.iter().find(|relay| relay.family() == family)
    }

    pub(super) fn get_mut(&mut self, family: Family) -> Option<&mut Relay> {
        self.iter_mut().find(|relay| relay.family() == family)
    }

    /// Takes out the relay of `family` when the other family's is left; none otherwise.
    pub(super) fn remove(&mut self, family: Family) -> Option<Relay> {
        let second = *self.second.take()?;
        if second.family() == family {
            return Some(second);
        }
        if self.first.family() != family {
            self.second = Some(Box::new(second));
            return None;
        }
        Some(std::mem::replace(&mut self.first, second))
    }

    /// Whether every socket is bound.
    pub(super) fn are_open(&self) -> bool {
        self.iter().all(|relay| relay.socket == Socket::Open)
    }

    /// When the first of them ends.
    pub(super) fn first_expiry(&self) -> Instant {
        let second = self.second.as_deref();
        second.map_or(self.first.expires, |second| {
            second.expires.min(self.first.expires)
        })
    }

    /// When the last of them ends.
    pub(super) fn last_expiry(&self) -> Instant {
        let second = self.second.as_deref();
        second.map_or(self.first.expires, |second| {
            second.expires.max(self.first.expires)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(text: &str) -> Relay {
        let public: SocketAddr = text.parse().unwrap();
        Relay::new(public.ip(), public)
    }

    #[test]
    fn one_relay_is_left_whatever_is_removed() {
        let (v4, v6) = (relay("192.0.2.1:2"), relay("[2001:db8::1]:4"));
        for (family, left) in [(Family::V4, v6), (Family::V6, v4)] {
            let mut relays = Relays::two(v4, v6);
            let removed = relays.remove(family).expect("the other one is left");
            assert_eq!(removed.family(), family);
            assert_eq!(relays.iter().collect::<Vec<_>>(), [&left]);
            assert_eq!(relays.get(family), None);
            assert_eq!(relays.remove(left.family()), None);
        }
        assert_eq!(v4.next().bind_address(), relay("192.0.2.1:3").public);
    }
}
