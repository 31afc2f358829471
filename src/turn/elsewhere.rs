//! The relayed transport addresses that are alive in the process beside this one, while one takes the
//! place of the other.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::faces::Faces;

/// One bit per port.
struct Ports([AtomicU64; 1024]);

impl Default for Ports {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 1024])
    }
}

impl Ports {
    fn has(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port / 64), 1 << (port % 64))
}

/// Written by requests of the operator, read by shards without a lock.
#[derive(Default)]
pub(super) struct Elsewhere(Faces<Ports>);

impl Elsewhere {
    /// Adds the relay bound at `local` and seen by peers at `public`.
    pub(super) fn add(&self, public: SocketAddr, local: IpAddr) {
        if let Some(face) = self.0.get_or_add(public.ip(), local) {
            let (word, bit) = place(public.port());
            face.ports.0[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// From now on it is `relays` and no others.
    pub(super) fn replace(&self, relays: &[(SocketAddr, IpAddr)]) {
        for (public, local) in relays {
            let _ = self.0.get_or_add(public.ip(), *local);
        }
        for face in self.0.iter() {
            let ports = &face.ports.0;
            let mut words = vec![0; ports.len()];
            let here = relays
                .iter()
                .filter(|(public, local)| (public.ip(), *local) == (face.public, face.local));
            for (public, _) in here {
                let (word, bit) = place(public.port());
                words[word] |= bit;
            }
            for (word, bits) in ports.iter().zip(words) {
                word.store(bits, Ordering::Relaxed);
            }
        }
    }

    /// Where to send what is for the relayed address `public`; none when it is not alive there.
    pub(super) fn local_of(&self, public: SocketAddr) -> Option<SocketAddr> {
        let mut faces = self.0.seen_at(public.ip());
        let face = faces.find(|face| face.ports.has(public.port()))?;
        Some(SocketAddr::new(face.local, public.port()))
    }

    /// The public face of the relay that is bound at `local`.
    pub(super) fn public_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        self.0.public_of(local, Ports::has)
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
