//! Which relayed transport addresses of this server are alive, and whose they are, for all shards
//! (requirement S1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::allocation_key::AllocationKey;
use super::elsewhere::Elsewhere;
use super::faces::{Face, Faces};
use super::place::Place;

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

/// The ports of one relay address. Shards write them when an allocation begins, moves or ends, and read them
/// without a lock for packets between two allocations of this server. A page is made when a port of it is
/// used first, and stays.
struct Ports([OnceLock<Box<Page>>; PAGES]);

impl Default for Ports {
    fn default() -> Self {
        Self([const { OnceLock::new() }; PAGES])
    }
}

impl Ports {
    /// The entry of `port`, if a port of its page was ever used.
    fn entry(&self, port: u16) -> Option<&Entry> {
        let port = usize::from(port);
        let page = self.0[port / PAGE].get()?;
        Some(&page[port % PAGE])
    }

    fn entry_for(&self, port: u16) -> &Entry {
        let port = usize::from(port);
        let page = self.0[port / PAGE]
            .get_or_init(|| Box::new([const { Entry(AtomicU64::new(0)) }; PAGE]));
        &page[port % PAGE]
    }

    /// Whose `port` is, if it is alive.
    fn get(&self, port: u16) -> Option<Option<Place>> {
        self.entry(port)?.get()
    }

    fn has(&self, port: u16) -> bool {
        self.get(port).is_some()
    }
}

/// The live relayed transport addresses of one process.
#[derive(Default)]
pub(super) struct LiveRelays {
    faces: Faces<Ports>,
    /// Those of the process beside this one.
    elsewhere: Elsewhere,
    /// How often those of this process have changed.
    changes: AtomicU64,
}

impl LiveRelays {
    /// Marks the relay bound at `local` and seen by peers at `public` as alive, and as that of `place`;
    /// of nobody who can be reached but by its socket, if there is none.
    pub(super) fn insert(&self, public: SocketAddr, local: IpAddr, place: Option<Place>) {
        if let Some(face) = self.faces.get_or_add(public.ip(), local) {
            face.ports.entry_for(public.port()).set(place);
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Marks it as gone.
    pub(super) fn remove(&self, public: SocketAddr, local: IpAddr) {
        let face = self.faces.get(public.ip(), local);
        if let Some(entry) = face.and_then(|face| face.ports.entry(public.port())) {
            entry.clear();
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Grows with every change to the relays of this process, once that is made.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
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
        let _ = self.faces.get_or_add(public, local);
    }

    /// The public and the local addresses of relays, now or earlier.
    pub(super) fn face_addresses(&self) -> Vec<(IpAddr, IpAddr)> {
        let faces = self.faces.iter();
        faces.map(|face| (face.public, face.local)).collect()
    }

    /// The relays of this process.
    pub(super) fn own(&self) -> Vec<(SocketAddr, IpAddr)> {
        let of_face = |face: &Face<Ports>| {
            let relay = |port| (SocketAddr::new(face.public, port), face.local);
            let ports = (0..=u16::MAX).filter(|port| face.ports.has(*port));
            ports.map(relay).collect::<Vec<_>>()
        };
        self.faces.iter().flat_map(of_face).collect()
    }

    /// Whether `public` is a relay of this process.
    pub(super) fn is_own(&self, public: SocketAddr) -> bool {
        let mut faces = self.faces.seen_at(public.ip());
        faces.any(|face| face.ports.has(public.port()))
    }

    /// Whether `ip` is the public address of relays, now or earlier.
    pub(super) fn is_relay_address(&self, ip: IpAddr) -> bool {
        self.faces.seen_at(ip).next().is_some()
    }

    /// The live relay whose relayed address is `public`.
    pub(super) fn find(&self, public: SocketAddr) -> Option<LiveRelay> {
        let port = public.port();
        let own = self.faces.seen_at(public.ip()).find_map(|face| {
            let (local, place) = (SocketAddr::new(face.local, port), face.ports.get(port)?);
            Some(LiveRelay { local, place })
        });
        own.or_else(|| {
            // Between the processes there is no short way.
            let local = self.elsewhere.local_of(public)?;
            Some(LiveRelay { local, place: None })
        })
    }

    /// The public face of the live relay that is bound at `local`.
    pub(super) fn public_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        let public = self.faces.public_of(local, Ports::has);
        public.or_else(|| self.elsewhere.public_of(local))
    }
}

impl fmt::Debug for LiveRelays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.faces.iter().map(|face| face.public);
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
        assert_eq!(live.changes(), 1);
        assert_eq!(live.find(public), Some(LiveRelay { local, place }));
        assert_eq!(live.public_of(local), Some(public));
        assert_eq!(live.find(local), None);
        for port in [50001, 1] {
            assert_eq!(live.find(SocketAddr::new(public.ip(), port)), None);
        }
        live.remove(public, local.ip());
        assert_eq!(live.changes(), 2);
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
