//! The relayed transport addresses that are alive in the process beside this one, while one takes the
//! place of the other.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many addresses can be told apart, as many as of our own relays.
const MAX_FACES: usize = 256;

/// One bit per port of one relay address.
struct Face {
    public: IpAddr,
    local: IpAddr,
    ports: [AtomicU64; 1024],
}

impl Face {
    fn new(public: IpAddr, local: IpAddr) -> Box<Self> {
        Box::new(Self {
            public,
            local,
            ports: [const { AtomicU64::new(0) }; 1024],
        })
    }

    fn has(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.ports[word].load(Ordering::Relaxed) & bit != 0
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port / 64), 1 << (port % 64))
}

/// Written by requests of the operator, read by shards without a lock.
pub(super) struct Elsewhere {
    faces: [OnceLock<Box<Face>>; MAX_FACES],
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self {
            faces: [const { OnceLock::new() }; MAX_FACES],
        }
    }
}

impl Elsewhere {
    /// Adds the relay bound at `local` and seen by peers at `public`.
    pub(super) fn add(&self, public: SocketAddr, local: IpAddr) {
        if let Some(face) = self.face_for(public.ip(), local) {
            let (word, bit) = place(public.port());
            face.ports[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// From now on it is `relays` and no others.
    pub(super) fn replace(&self, relays: &[(SocketAddr, IpAddr)]) {
        for (public, local) in relays {
            let _ = self.face_for(public.ip(), *local);
        }
        for face in self.faces() {
            let mut words = vec![0; face.ports.len()];
            let here = relays
                .iter()
                .filter(|(public, local)| (public.ip(), *local) == (face.public, face.local));
            for (public, _) in here {
                let (word, bit) = place(public.port());
                words[word] |= bit;
            }
            for (word, bits) in face.ports.iter().zip(words) {
                word.store(bits, Ordering::Relaxed);
            }
        }
    }

    /// Where to send what is for the relayed address `public`; none when it is not alive there.
    pub(super) fn local_of(&self, public: SocketAddr) -> Option<SocketAddr> {
        let mut faces = self.faces().filter(|face| face.public == public.ip());
        let face = faces.find(|face| face.has(public.port()))?;
        Some(SocketAddr::new(face.local, public.port()))
    }

    /// The public face of the relay that is bound at `local`.
    pub(super) fn public_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        let mut faces = self.faces().filter(|face| face.local == local.ip());
        let face = faces.find(|face| face.has(local.port()))?;
        Some(SocketAddr::new(face.public, local.port()))
    }

    fn faces(&self) -> impl Iterator<Item = &Face> {
        self.faces
            .iter()
            .map_while(|face| face.get())
            .map(AsRef::as_ref)
    }

    /// The face of the pair, made when there is room; slots fill in order and are never emptied.
    fn face_for(&self, public: IpAddr, local: IpAddr) -> Option<&Face> {
        self.faces
            .iter()
            .map(|slot| slot.get_or_init(|| Face::new(public, local)).as_ref())
            .find(|face| face.public == public && face.local == local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_exactly_those_that_were_told_last() {
        let elsewhere = Elsewhere::default();
        let relay = |port| SocketAddr::from(([203, 0, 113, 5], port));
        let local = |port| SocketAddr::from(([192, 0, 2, 1], port));
        elsewhere.add(relay(50_000), local(0).ip());
        assert_eq!(elsewhere.local_of(relay(50_000)), Some(local(50_000)));
        assert_eq!(elsewhere.public_of(local(50_000)), Some(relay(50_000)));
        elsewhere.replace(&[(relay(50_001), local(0).ip())]);
        assert_eq!(elsewhere.local_of(relay(50_000)), None);
        assert_eq!(elsewhere.local_of(relay(50_001)), Some(local(50_001)));
        assert_eq!(elsewhere.public_of(relay(50_001)), None);
        elsewhere.replace(&[]);
        assert_eq!(elsewhere.local_of(relay(50_001)), None);
    }
}
