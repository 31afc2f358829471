//! Peer data connections: those of one allocation, and the table in which any shard finds those of all
//! (RFC 6062 §5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bandwidth::StreamMeter;
use super::five_tuple::Family;
use super::owner::Owner;
use super::peer_connection_id::PeerConnectionId;
use super::random::Random;
use super::reply::{Reply, Signature};
use crate::time::Instant;

/// How long a peer may take to answer (RFC 6062 §5.2: at least 30 seconds).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer data connection waits for its ConnectionBind (RFC 6062 §5.2, §5.3).
pub(super) const BIND_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a peer data connection has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The peer has not answered; what the Connect request is answered by.
    Connecting(Box<(Reply, Signature)>),
    /// It waits for its ConnectionBind.
    Waiting,
    /// It was bound when somebody looked.
    Bound,
}

/// A peer data connection of one allocation.
#[derive(Clone, Debug)]
pub(super) struct PeerConnection {
    pub(super) id: PeerConnectionId,
    /// The peer, as the client knows it.
    pub(super) peer: SocketAddr,
    pub(super) stage: Stage,
    /// When it is to be looked at.
    pub(super) deadline: Instant,
}

/// The peer data connections of one allocation, few as they are.
#[derive(Debug, Default)]
pub(super) struct PeerConnections {
    all: Vec<PeerConnection>,
    /// What they are measured by together.
    pub(super) meter: Arc<StreamMeter>,
}

impl PeerConnections {
    pub(super) fn push(&mut self, connection: PeerConnection) {
        self.all.push(connection);
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is one with `peer`.
    pub(super) fn has_peer(&self, peer: SocketAddr) -> bool {
        self.all.iter().any(|connection| connection.peer == peer)
    }

    pub(super) fn get_mut(&mut self, id: PeerConnectionId) -> Option<&mut PeerConnection> {
        self.all.iter_mut().find(|connection| connection.id == id)
    }

    pub(super) fn remove(&mut self, id: PeerConnectionId) -> Option<PeerConnection> {
        let place = self.all.iter().position(|connection| connection.id == id)?;
        Some(self.all.swap_remove(place))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeerConnectionId> {
        self.all.iter().map(|connection| connection.id)
    }

    /// Takes out those for which `is_meant` holds.
    pub(super) fn take(
        &mut self,
        is_meant: impl Fn(&PeerConnection) -> bool,
    ) -> Vec<PeerConnection> {
        self.all.extract_if(.., |one| is_meant(one)).collect()
    }

    /// Forgets those that have ended where they were bound.
    pub(super) fn forget_ended(&mut self, directory: &Directory) {
        self.all.retain(|connection| directory.has(connection.id));
    }

    /// When the next one is to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.all.iter().map(|connection| connection.deadline).min()
    }
}

impl PeerConnection {
    pub(super) fn family(&self) -> Family {
        Family::of(self.peer.ip())
    }
}

/// Why a peer data connection cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbindable {
    /// There is none of this id that waits.
    Unknown,
    /// It is another user's.
    Foreign,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    meter: Arc<StreamMeter>,
    /// The client's end of the control connection.
    control: SocketAddr,
    /// Until when it can be bound; none while the peer has not answered.
    waits_until: Option<Instant>,
    /// The shard of the client data connection.
    bound_at: Option<u16>,
}

/// Which of the processes that took over from one another this one is. A byte is enough to tell those that
/// serve at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) number: u8,
    /// How many before it may still serve.
    pub(super) older: u8,
}

impl Generation {
    /// That of the process that takes over from this one.
    pub(super) const fn next(self) -> Self {
        Self {
            number: self.number.wrapping_add(1),
            older: self.older.saturating_add(1),
        }
    }

    /// Whether one before it has given out `id`, and may still serve.
    const fn follows(self, id: PeerConnectionId) -> bool {
        let ago = self.number.wrapping_sub(id.generation());
        ago != 0 && ago <= self.older
    }
}

/// The peer data connections of all shards: a ConnectionBind may arrive at any. Requests lock it; what
/// is relayed never comes here.
#[derive(Debug, Default)]
pub(super) struct Directory {
    table: Mutex<BTreeMap<PeerConnectionId, Entry>>,
    generation: Mutex<Generation>,
}

impl Directory {
    /// Enters a connection of an allocation of `owner`, whose client is at `control` and which is
    /// measured by `meter`, under an id that is free.
    pub(super) fn enter(
        &self,
        owner: &Owner,
        control: SocketAddr,
        meter: Arc<StreamMeter>,
        random: &mut Random,
    ) -> PeerConnectionId {
        let generation = self.generation().number;
        let mut all = self.lock();
        let id = loop {
            let id = PeerConnectionId::new(generation, u32::from_be_bytes(random.bytes()));
            if !all.contains_key(&id) {
                break id;
            }
        };
        let entry = Entry {
            owner: owner.clone(),
            meter,
            control,
            waits_until: None,
            bound_at: None,
        };
        all.insert(id, entry);
        id
    }

    /// The peer is connected: `id` can be bound until then.
    pub(super) fn offer(&self, id: PeerConnectionId, until: Instant) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.waits_until = Some(until);
        }
    }

    /// Binds `id` to a client data connection of `owner` at `shard`; what it is measured by.
    pub(super) fn bind(
        &self,
        id: PeerConnectionId,
        owner: &Owner,
        shard: u16,
        now: Instant,
    ) -> Result<Arc<StreamMeter>, Unbindable> {
        let mut all = self.lock();
        let entry = all.get_mut(&id).filter(|entry| {
            entry.bound_at.is_none() && entry.waits_until.is_some_and(|until| until > now)
        });
        let entry = entry.ok_or(Unbindable::Unknown)?;
        if !entry.owner.is(owner) {
            return Err(Unbindable::Foreign);
        }
        entry.bound_at = Some(shard);
        Ok(Arc::clone(&entry.meter))
    }

    /// The client's end of the control connection of the allocation that `id` belongs to.
    pub(super) fn control(&self, id: PeerConnectionId) -> Option<SocketAddr> {
        self.lock().get(&id).map(|entry| entry.control)
    }

    /// Whether `id` is entered.
    pub(super) fn has(&self, id: PeerConnectionId) -> bool {
        self.lock().contains_key(&id)
    }

    /// Strikes `id` out unless it is bound; tells whether it was there.
    pub(super) fn expire(&self, id: PeerConnectionId) -> bool {
        let mut all = self.lock();
        let waits = all.get(&id).is_some_and(|entry| entry.bound_at.is_none());
        waits && all.remove(&id).is_some()
    }

    /// From now on `id` is of an allocation of `owner`.
    pub(super) fn set_owner(&self, id: PeerConnectionId, owner: &Owner) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.owner = owner.clone();
        }
    }

    /// Strikes `id` out; the shard where it was bound, or none within when it was not.
    pub(super) fn withdraw(&self, id: PeerConnectionId) -> Option<Option<u16>> {
        self.lock().remove(&id).map(|entry| entry.bound_at)
    }

    /// Strikes `id` out if it is bound at `shard`, where it has ended.
    pub(super) fn ended(&self, id: PeerConnectionId, shard: u16) {
        let mut all = self.lock();
        let is_bound = all
            .get(&id)
            .is_some_and(|entry| entry.bound_at == Some(shard));
        if is_bound {
            all.remove(&id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Which process this is.
    pub(super) fn generation(&self) -> Generation {
        *self.lock_generation()
    }

    /// This process has taken over from one of `generation`.
    pub(super) fn come_after(&self, generation: Generation) {
        *self.lock_generation() = generation.next();
    }

    /// Nobody serves any more from whom this process has taken over.
    pub(super) fn forget_older(&self) {
        self.lock_generation().older = 0;
    }

    /// Whether `id` was given out by a process before this one that may still serve.
    pub(super) fn is_older(&self, id: PeerConnectionId) -> bool {
        self.generation().follows(id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerConnectionId, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_generation(&self) -> MutexGuard<'_, Generation> {
        let generation = self.generation.lock();
        generation.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::PasswordAlgorithm;
    use crate::turn::keys::StoredKey;
    use crate::turn::owner::Proof;

    const NOW: Instant = Instant::from_nanos(1);

    fn owner(name: &str) -> Owner {
        let key = StoredKey::derive(PasswordAlgorithm::Md5, name, "realm", "password");
        Owner {
            username: name.into(),
            proof: Proof::Password { key, expires: None },
        }
    }

    fn enter(directory: &Directory, control: SocketAddr, random: &mut Random) -> PeerConnectionId {
        directory.enter(&owner("alice"), control, Arc::default(), random)
    }

    #[test]
    fn a_connection_is_bound_once_in_time_by_its_user() {
        let directory = Directory::default();
        let control = SocketAddr::from(([192, 0, 2, 1], 7));
        let id = enter(&directory, control, &mut Random::new([7; 32]));
        assert_eq!(directory.control(id), Some(control));
        let bind = |name, now| directory.bind(id, &owner(name), 3, now).map(drop);
        let end = NOW + BIND_TIMEOUT;
        assert_eq!(bind("alice", NOW), Err(Unbindable::Unknown));
        directory.offer(id, end);
        assert_eq!(bind("bob", NOW), Err(Unbindable::Foreign));
        assert_eq!(bind("alice", end), Err(Unbindable::Unknown));
        assert_eq!(bind("alice", NOW), Ok(()));
        assert_eq!(bind("alice", NOW), Err(Unbindable::Unknown));
        assert!(!directory.expire(id) && directory.has(id));
        directory.ended(id, 2);
        assert!(directory.has(id));
        directory.ended(id, 3);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_connection_follows_its_allocation_to_another_owner() {
        let directory = Directory::default();
        let control = SocketAddr::from(([192, 0, 2, 1], 7));
        let id = enter(&directory, control, &mut Random::new([7; 32]));
        directory.offer(id, NOW + BIND_TIMEOUT);
        directory.set_owner(id, &owner("bob"));
        let bind = |name| directory.bind(id, &owner(name), 3, NOW).map(drop);
        assert_eq!(bind("alice"), Err(Unbindable::Foreign));
        assert_eq!(bind("bob"), Ok(()));
    }

    #[test]
    fn an_id_tells_which_process_gave_it_out() {
        let control = SocketAddr::from(([192, 0, 2, 1], 7));
        let mut random = Random::new([7; 32]);
        let processes = [(); 4].map(|()| Directory::default());
        for (new, old) in processes.iter().skip(1).zip(&processes) {
            new.come_after(old.generation());
        }
        let ids = processes
            .each_ref()
            .map(|one| enter(one, control, &mut random));
        let older = |process: &Directory| ids.map(|id| process.is_older(id));
        assert_eq!(older(&processes[0]), [false; 4]);
        assert_eq!(older(&processes[2]), [true, true, false, false]);
        processes[2].forget_older();
        assert_eq!(older(&processes[2]), [false; 4]);
        let last = Directory::default();
        last.come_after(processes[2].generation());
        assert_eq!(older(&last), [false, false, true, false]);
    }

    #[test]
    fn generations_are_told_apart_when_the_byte_is_used_up() {
        let id = |number| PeerConnectionId::new(number, 7);
        let generation = Generation {
            number: u8::MAX,
            older: 1,
        };
        let next = generation.next();
        let older = [253, 254, 255, 0, 1].map(|number| next.follows(id(number)));
        assert_eq!(older, [false, true, true, false, false]);
    }

    #[test]
    fn who_strikes_out_learns_where_it_was_bound() {
        let directory = Directory::default();
        let mut random = Random::new([7; 32]);
        let control = SocketAddr::from(([192, 0, 2, 1], 7));
        let [free, bound] = [0; 2].map(|_| enter(&directory, control, &mut random));
        directory.offer(bound, NOW + BIND_TIMEOUT);
        assert!(directory.bind(bound, &owner("alice"), 1, NOW).is_ok());
        assert_eq!(directory.withdraw(bound), Some(Some(1)));
        assert_eq!(directory.withdraw(bound), None);
        assert!(directory.expire(free) && !directory.expire(free));
    }
}
