//! Which relays of this host are whose, and how many allocations users have, told from process to process.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::problem::HandoverError;
use super::record::{FaceRecord, PersonRecord};
use crate::turn::ports::Parity;
use crate::turn::quota::Counts;
use crate::turn::server::Shared;

/// Live relayed transport addresses of one process, and how many allocations they are of each user and each
/// source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaySet {
    #[serde(default)]
    pub(super) udp: Vec<LiveRelay>,
    #[serde(default)]
    pub(super) tcp: Vec<LiveRelay>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    people: Vec<(PersonRecord, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<(IpAddr, u32)>,
}

/// What peers see, and the address that the socket is bound to, on the same port.
pub(super) type LiveRelay = (SocketAddr, IpAddr);

impl RelaySet {
    /// What [`from_bytes`](Self::from_bytes) reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, in this version of the program or another one.
    ///
    /// # Errors
    /// [`HandoverError::Head`]: it is no such set.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HandoverError> {
        serde_json::from_slice(bytes).map_err(|_| HandoverError::Head)
    }

    /// Adds what is in `other`.
    pub fn extend(&mut self, other: &Self) {
        self.extend_uncounted(other);
        self.people.extend(other.people.iter().cloned());
        self.sources.extend(&other.sources);
    }

    /// Adds the relays of `other`, and not how many allocations they are of whom.
    pub fn extend_uncounted(&mut self, other: &Self) {
        self.udp.extend(&other.udp);
        self.tcp.extend(&other.tcp);
    }

    /// A person that this version cannot read is not counted.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (person, number) in &self.people {
            if let Ok(person) = person.read() {
                counts.add_person(person, *number);
            }
        }
        for (source, number) in &self.sources {
            counts.add_source(*source, *number);
        }
        counts
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.udp.len() + self.tcp.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shared {
    /// The live relays of this process.
    pub fn relays(&self) -> RelaySet {
        let of_person = |(person, number)| (PersonRecord::of(&person), number);
        RelaySet {
            people: self.quota.people().into_iter().map(of_person).collect(),
            sources: self.quota.sources(),
            ..self.uncounted_relays()
        }
    }

    /// The live relays of this process alone: their allocations are counted where they are about to be.
    pub fn uncounted_relays(&self) -> RelaySet {
        RelaySet {
            udp: self.live.own(),
            tcp: self.live_tcp.own(),
            ..RelaySet::default()
        }
    }

    /// A number that changes with every change to [`relays`](Self::relays), once that is made: whoever asks
    /// for it first and then for the relays misses none.
    pub fn changes(&self) -> u64 {
        let relays = self.live.changes().wrapping_add(self.live_tcp.changes());
        relays.wrapping_add(self.quota.changes())
    }

    /// From now on these are the live relays of the other process: peers like our own relays, whose packets
    /// travel through the kernel, and whose ports are taken. Its allocations count against quotas. Replaces
    /// what was told before.
    pub fn elsewhere(&self, relays: &RelaySet) {
        self.live.set_elsewhere(&relays.udp);
        self.live_tcp.set_elsewhere(&relays.tcp);
        self.quota.set_elsewhere(relays.counts());
    }

    /// Whether the port, or one of the pair that it begins, is taken by the process beside this one.
    pub(in crate::turn) fn is_elsewhere(&self, public: IpAddr, port: u16, parity: Parity) -> bool {
        let ports = [Some(port), (parity == Parity::Pair).then_some(port | 1)];
        let is_taken = |port| {
            let public = SocketAddr::new(public, port);
            self.live.is_elsewhere(public) || self.live_tcp.is_elsewhere(public)
        };
        ports.into_iter().flatten().any(is_taken)
    }

    /// The faces of relays over UDP, now or earlier.
    pub(super) fn faces(&self) -> Vec<FaceRecord> {
        let faces = self.live.face_addresses().into_iter();
        faces
            .map(|(public, local)| FaceRecord { public, local })
            .collect()
    }
}
