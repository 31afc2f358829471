//! Which relayed transport addresses of this server are alive, and whose they are, for all shards
//! (requirement S1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::allocation_key::AllocationKey;
use super::elsewhere::Elsewhere;
use super::place::Place;

/// How many addresses can be told apart; relays on further ones cannot be peers of each other.
const MAX_FACES: usize = 256;
/// Ports of a page.
const PAGE: usize = 256;
/// Pages of an address.
const PAGES: usize = (u16::MAX as usize + 1) / PAGE;

/// A live relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiveRelay {
    /// What its socket is bound to.
    pub(super) local: SocketAddr,
    /// Whose it is; none while that allocation is between two shards, or when it has no room in an [`Entry`].
    pub(super) place: Option<Place>,
}

/// Where the gate lets a packet go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// To this address.
    Address(SocketAddr),
    /// To a relay of this server.
    Relay(LiveRelay),
}

impl Destination {
    /// Where a socket sends it.
    pub(super) const fn address(self) -> SocketAddr {
        match self {
            Self::Address(address) => address,
            Self::Relay(relay) => relay.local,
        }
    }
}

/// What is known of one port. Everything is in one word: whoever reads it while it changes finds what was
/// or what is, and nothing else hangs on it, so that no order has to be kept with other memory.
///
/// From the top: alive (1 bit), shard (10 bits), index of the key (22 bits, all ones: nobody is to be
/// found), its generation (31 bits).
#[derive(Default)]
struct Entry(AtomicU64);

const ALIVE: u64 = 1 << 63;
const GENERATION_BITS: u32 = 31;
const INDEX_BITS: u32 = 22;
const NO_INDEX: u64 = (1 << INDEX_BITS) - 1;
const MAX_SHARDS: u16 = 1 << 10;

impl Entry {
    fn set(&self, place: Option<Place>) {
        let place = place.and_then(pack).unwrap_or(NO_INDEX << GENERATION_BITS);
        self.0.store(ALIVE | place, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whose the port is, if it is alive.
    fn get(&self) -> Option<Option<Place>> {
        let word = self.0.load(Ordering::Relaxed);
        (word & ALIVE != 0).then(|| unpack(word))
    }
}

fn pack(place: Place) -> Option<u64> {
    let Place { shard, key } = place;
    let (index, generation) = (u64::from(key.index), u64::from(key.generation));
    let fits = shard < MAX_SHARDS && index < NO_INDEX && generation >> GENERATION_BITS == 0;
    let shard = u64::from(shard) << (INDEX_BITS + GENERATION_BITS);
    fits.then_some(shard | index << GENERATION_BITS | generation)
}

fn unpack(word: u64) -> Option<Place> {
    let index = word >> GENERATION_BITS & NO_INDEX;
    let shard = word >> (INDEX_BITS + GENERATION_BITS) & u64::from(MAX_SHARDS - 1);
    let generation = word & ((1 << GENERATION_BITS) - 1);
    (index != NO_INDEX).then_some(Place {
        shard: shard as u16,
        key: AllocationKey {
            index: index as u32,
            generation: generation as u32,
        },
    })
}

type Page = [Entry; PAGE];

/// One relay address. Shards write its ports when an allocation begins, moves or ends, and read them
/// without a lock for packets between two allocations of this server. A page is made when a port of it is
/// used first, and stays.
struct Face {
    public: IpAddr,
    local: IpAddr,
    pages: [OnceLock<Box<Page>>; PAGES],
}

impl Face {
    fn new(public: IpAddr, local: IpAddr) -> Box<Self> {
        Box::new(Self {
            public,
            local,
            pages: [const { OnceLock::new() }; PAGES],
        })
    }

    /// The entry of `port`, if a port of its page was ever used.
    fn entry(&self, port: u16) -> Option<&Entry> {
        let port = usize::from(port);
        let page = self.pages[port / PAGE].get()?;
        Some(&page[port % PAGE])
    }

    fn entry_for(&self, port: u16) -> &Entry {
        let port = usize::from(port);
        let page = self.pages[port / PAGE]
            .get_or_init(|| Box::new([const { Entry(AtomicU64::new(0)) }; PAGE]));
        &page[port % PAGE]
    }

    fn find(&self, port: u16) -> Option<LiveRelay> {
        let place = self.entry(port)?.get()?;
        let local = SocketAddr::new(self.local, port);
        Some(LiveRelay { local, place })
    }
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
    /// Marks the relay bound at `local` and seen by peers at `public` as alive, and as that of `place`;
    /// of nobody who can be reached but by its socket, if there is none.
    pub(super) fn insert(&self, public: SocketAddr, local: IpAddr, place: Option<Place>) {
        if let Some(face) = self.face_for(public.ip(), local) {
            face.entry_for(public.port()).set(place);
        }
    }

    /// Marks it as gone.
    pub(super) fn remove(&self, public: SocketAddr, local: IpAddr) {
        let mut faces = self.faces();
        let face = faces.find(|face| face.public == public.ip() && face.local == local);
        if let Some(entry) = face.and_then(|face| face.entry(public.port())) {
            entry.clear();
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
            let ports = (0..=u16::MAX).filter(|port| face.find(*port).is_some());
            ports.map(relay).collect::<Vec<_>>()
        };
        self.faces().flat_map(of_face).collect()
    }

    /// Whether `public` is a relay of this process.
    pub(super) fn is_own(&self, public: SocketAddr) -> bool {
        let mut faces = self.faces().filter(|face| face.public == public.ip());
        faces.any(|face| face.find(public.port()).is_some())
    }

    /// Whether `ip` is the public address of relays, now or earlier.
    pub(super) fn is_relay_address(&self, ip: IpAddr) -> bool {
        self.faces().any(|face| face.public == ip)
    }

    /// The live relay whose relayed address is `public`.
    pub(super) fn find(&self, public: SocketAddr) -> Option<LiveRelay> {
        let mut faces = self.faces().filter(|face| face.public == public.ip());
        let own = faces.find_map(|face| face.find(public.port()));
        own.or_else(|| {
            // Between the processes there is no short way.
            let local = self.elsewhere.local_of(public)?;
            Some(LiveRelay { local, place: None })
        })
    }

    /// The public face of the live relay that is bound at `local`.
    pub(super) fn public_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        let mut faces = self.faces().filter(|face| face.local == local.ip());
        let face = faces.find(|face| face.find(local.port()).is_some());
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

    fn place(shard: u16, index: u32, generation: u32) -> Place {
        let key = AllocationKey { index, generation };
        Place { shard, key }
    }

    #[test]
    fn knows_exactly_the_live_ones_and_both_their_faces() {
        let live = LiveRelays::default();
        let public: SocketAddr = "203.0.113.5:50000".parse().unwrap();
        let local: SocketAddr = "192.0.2.1:50000".parse().unwrap();
        assert!(!live.is_relay_address(public.ip()));
        let place = Some(place(1, 2, 3));
        live.insert(public, local.ip(), place);
        assert_eq!(live.find(public), Some(LiveRelay { local, place }));
        assert_eq!(live.public_of(local), Some(public));
        assert_eq!(live.find(local), None);
        for port in [50001, 1] {
            assert_eq!(live.find(SocketAddr::new(public.ip(), port)), None);
        }
        live.remove(public, local.ip());
        assert_eq!((live.find(public), live.public_of(local)), (None, None));
        assert!(live.is_relay_address(public.ip()));
    }

    #[test]
    fn those_of_another_process_are_alive_as_long_as_they_are_told() {
        let live = LiveRelays::default();
        let relay = |port| SocketAddr::from(([203, 0, 113, 5], port));
        let local: IpAddr = "192.0.2.1".parse().unwrap();
        live.insert(relay(50_000), local, None);
        live.insert(relay(50_001), local, Some(place(0, 1, 2)));
        live.depart(relay(50_000), local);
        assert_eq!(live.own(), [(relay(50_001), local)]);
        let alive = |port| live.find(relay(port)).is_some();
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

    #[test]
    fn an_entry_names_every_place_that_it_has_room_for() {
        let entry = Entry::default();
        assert_eq!(entry.get(), None);
        let last = u32::MAX >> 1;
        for named in [
            place(0, 0, 0),
            place(1023, 0, 0),
            place(0, (1 << 22) - 2, 0),
            place(0, 0, last),
            place(1023, (1 << 22) - 2, last),
        ] {
            entry.set(Some(named));
            assert_eq!(entry.get(), Some(Some(named)));
        }
        let unnamed = [
            None,
            Some(place(1024, 0, 0)),
            Some(place(0, (1 << 22) - 1, 0)),
            Some(place(0, 0, last + 1)),
        ];
        for place in unnamed {
            entry.set(place);
            assert_eq!(entry.get(), Some(None), "alive all the same");
        }
        entry.clear();
        assert_eq!(entry.get(), None);
    }

    #[test]
    fn who_reads_while_an_entry_changes_finds_one_of_both() {
        let (entry, rounds) = (Entry::default(), 100_000);
        let places = [place(1, 5, 0), place(1022, 0x15_5555, 0x2aaa_aaaa)];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    entry.set(Some(places[round % 2]));
                }
            });
            for _ in 0..rounds {
                let found = entry.get();
                let is_whole = |place: Option<Place>| place.is_some_and(|it| places.contains(&it));
                assert!(found.is_none_or(is_whole), "{found:?}");
            }
        });
    }
}
