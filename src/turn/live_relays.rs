//! Which relayed transport addresses of this server are alive, for all shards (requirement S1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::elsewhere::Elsewhere;

/// How many addresses can be told apart; relays on further ones cannot be peers of each other.
const MAX_FACES: usize = 256;

/// One bit per port of one relay address. Shards write it when an allocation begins or ends and read
/// it without a lock for packets between two allocations of this server.
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

    fn is_live(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.ports[word].load(Ordering::Relaxed) & bit != 0
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port / 64), 1 << (port % 64))
}

/// The live relayed transport addresses of one process.
pub(super) struct LiveRelays {
    faces: [OnceLock<Box<Face>>; MAX_FACES],
    /// Those of the process beside this one.
    elsewhere: Elsewhere,
}

impl Default for LiveRelays {
    fn default() -> Self {
        Self {
            faces: [const { OnceLock::new() }; MAX_FACES],
            elsewhere: Elsewhere::default(),
        }
    }
}

impl LiveRelays {
    /// Marks the relay bound at `local` and seen by peers at `public` as alive.
    pub(super) fn insert(&self, public: SocketAddr, local: IpAddr) {
        if let Some(face) = self.face_for(public.ip(), local) {
            let (word, bit) = place(public.port());
            face.ports[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Marks it as gone.
    pub(super) fn remove(&self, public: SocketAddr, local: IpAddr) {
        let mut faces = self.faces();
        if let Some(face) = faces.find(|face| face.public == public.ip() && face.local == local) {
            let (word, bit) = place(public.port());
            face.ports[word].fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// The relay is another process's from now on.
    pub(super) fn depart(&self, public: SocketAddr, local: IpAddr) {
        self.elsewhere.add(public, local);
        self.remove(public, local);
    }

    /// From now on `relays`, and no others, are alive in the process beside this one.
    pub(super) fn set_elsewhere(&self, relays: &[(SocketAddr, IpAddr)]) {
        for (public, local) in relays {
            self.know(public.ip(), *local);
        }
        self.elsewhere.replace(relays);
    }

    /// Whether the port of `public` is taken by a relay of the process beside this one.
    pub(super) fn is_elsewhere(&self, public: SocketAddr) -> bool {
        self.elsewhere.local_of(public).is_some()
    }

    /// Makes `public` the address of relays.
    pub(super) fn know(&self, public: IpAddr, local: IpAddr) {
        let _ = self.face_for(public, local);
    }

    /// The public and the local addresses of relays, now or earlier.
    pub(super) fn face_addresses(&self) -> Vec<(IpAddr, IpAddr)> {
        let faces = self.faces();
        faces.map(|face| (face.public, face.local)).collect()
    }

    /// The relays of this process.
    pub(super) fn own(&self) -> Vec<(SocketAddr, IpAddr)> {
        let of_face = |face: &Face| {
            let relay = |port| (SocketAddr::new(face.public, port), face.local);
            let ports = (0..=u16::MAX).filter(|port| face.is_live(*port));
            ports.map(relay).collect::<Vec<_>>()
        };
        self.faces().flat_map(of_face).collect()
    }

    /// Whether `public` is a relay of this process.
    pub(super) fn is_own(&self, public: SocketAddr) -> bool {
        let mut faces = self.faces().filter(|face| face.public == public.ip());
        faces.any(|face| face.is_live(public.port()))
    }

    /// Whether `ip` is the public address of relays, now or earlier.
    pub(super) fn is_relay_address(&self, ip: IpAddr) -> bool {
        self.faces().any(|face| face.public == ip)
    }

    /// Where to send what is for the live relayed address `public`; none when it is not alive.
    pub(super) fn local_of(&self, public: SocketAddr) -> Option<SocketAddr> {
        let mut faces = self.faces().filter(|face| face.public == public.ip());
        let face = faces.find(|face| face.is_live(public.port()));
        let local = face.map(|face| SocketAddr::new(face.local, public.port()));
        local.or_else(|| self.elsewhere.local_of(public))
    }

    /// The public face of the live relay that is bound at `local`.
    pub(super) fn public_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        let mut faces = self.faces().filter(|face| face.local == local.ip());
        let face = faces.find(|face| face.is_live(local.port()));
        let public = face.map(|face| SocketAddr::new(face.public, local.port()));
        public.or_else(|| self.elsewhere.public_of(local))
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

impl fmt::Debug for LiveRelays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.faces().map(|face| face.public);
        f.debug_set().entries(addresses).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_exactly_the_live_ones_and_both_their_faces() {
        let live = LiveRelays::default();
        let public: SocketAddr = "203.0.113.5:50000".parse().unwrap();
        let local: SocketAddr = "192.0.2.1:50000".parse().unwrap();
        assert!(!live.is_relay_address(public.ip()));
        live.insert(public, local.ip());
        assert_eq!(live.local_of(public), Some(local));
        assert_eq!(live.public_of(local), Some(public));
        assert_eq!(live.local_of(local), None);
        assert_eq!(live.local_of(SocketAddr::new(public.ip(), 50001)), None);
        live.remove(public, local.ip());
        assert_eq!(live.local_of(public), None);
        assert!(live.is_relay_address(public.ip()));
    }

    #[test]
    fn those_of_another_process_are_alive_as_long_as_they_are_told() {
        let live = LiveRelays::default();
        let relay = |port| SocketAddr::from(([203, 0, 113, 5], port));
        let local: IpAddr = "192.0.2.1".parse().unwrap();
        live.insert(relay(50_000), local);
        live.insert(relay(50_001), local);
        live.depart(relay(50_000), local);
        assert_eq!(live.own(), [(relay(50_001), local)]);
        let alive = |port| live.local_of(relay(port)).is_some();
        assert!(alive(50_000) && alive(50_001) && live.is_elsewhere(relay(50_000)));
        assert!(live.is_own(relay(50_001)) && !live.is_own(relay(50_000)));
        live.set_elsewhere(&[(relay(50_002), local)]);
        assert!(!alive(50_000) && alive(50_001) && alive(50_002));
        assert!(!live.is_elsewhere(relay(50_000)) && !live.is_elsewhere(relay(50_001)));
        live.set_elsewhere(&[]);
        assert!(!alive(50_002) && live.own().len() == 1);
        live.set_elsewhere(&[("198.51.100.9:7".parse().unwrap(), local)]);
        assert!(live.is_relay_address("198.51.100.9".parse().unwrap()));
    }
}
