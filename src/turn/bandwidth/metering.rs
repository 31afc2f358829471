//! Who is measured: the users of a shard, and what all shards know of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bucket::SharedBucket;
use super::fair_share::FairShare;
use super::lease::Lease;
use super::{Bandwidth, Packet, bytes_per_second};
use crate::time::Instant;
use crate::turn::outcome::Reason;
use crate::turn::owner::Person;

/// How often a shard looks at the share of a user, and tells what passed.
const GLANCE: Duration = Duration::from_millis(10);

/// Where a shard keeps what it measures of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::turn) struct UserPlace(usize);

/// What the shards of a process measure together.
#[derive(Debug, Default)]
pub(in crate::turn) struct SharedMeters {
    users: Mutex<BTreeMap<Person, Arc<UserBuckets>>>,
    /// By direction.
    total: [SharedBucket; 2],
    /// By direction.
    fair: [FairShare; 2],
}

/// A user's buckets, by direction.
type UserBuckets = [SharedBucket; 2];

impl SharedMeters {
    /// Whether nobody is measured.
    pub(in crate::turn) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    fn user(&self, person: &Person) -> Arc<UserBuckets> {
        let mut users = self.lock();
        Arc::clone(users.entry(person.clone()).or_default())
    }

    /// Forgets a user whom no other shard measures.
    fn release(&self, person: &Person, buckets: Arc<UserBuckets>) {
        let mut users = self.lock();
        drop(buckets);
        if users
            .get(person)
            .is_some_and(|kept| Arc::strong_count(kept) == 1)
        {
            users.remove(person);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Person, Arc<UserBuckets>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct User {
    person: Person,
    buckets: Arc<UserBuckets>,
    /// By direction.
    leases: [Lease; 2],
    /// Allocations of theirs at this shard.
    allocations: usize,
}

/// The share as a shard last saw it, and what it has not told of yet.
#[derive(Debug, Default)]
struct Glance {
    fair: u64,
    passed: u64,
    next: Instant,
}

/// What one shard measures.
#[derive(Debug, Default)]
pub(in crate::turn) struct Metering {
    users: Vec<Option<User>>,
    free: Vec<usize>,
    by_person: BTreeMap<Person, UserPlace>,
    /// By direction.
    total: [Lease; 2],
    /// By direction.
    glances: [Glance; 2],
}

impl Metering {
    /// Measures one more allocation of `person`.
    pub(in crate::turn) fn attach(&mut self, person: &Person, shared: &SharedMeters) -> UserPlace {
        let place = self.by_person.get(person).copied();
        let place = place.unwrap_or_else(|| self.add(person, shared));
        if let Some(user) = &mut self.users[place.0] {
            user.allocations += 1;
        }
        place
    }

    fn add(&mut self, person: &Person, shared: &SharedMeters) -> UserPlace {
        let user = User {
            person: person.clone(),
            buckets: shared.user(person),
            leases: Default::default(),
            allocations: 0,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.users.push(None);
            self.users.len() - 1
        });
        self.users[index] = Some(user);
        self.by_person.insert(person.clone(), UserPlace(index));
        UserPlace(index)
    }

    /// Measures one allocation of the user less.
    pub(in crate::turn) fn detach(&mut self, place: UserPlace, shared: &SharedMeters) {
        let Some(slot) = self.users.get_mut(place.0) else {
            return;
        };
        if let Some(user) = slot {
            user.allocations -= 1;
        }
        if let Some(user) = slot.take_if(|user| user.allocations == 0) {
            self.by_person.remove(&user.person);
            self.free.push(place.0);
            shared.release(&user.person, user.buckets);
        }
    }

    /// Whether a packet of the user at `place` is within the user's limit, the user's share and the
    /// whole server's limit.
    pub(super) fn measure(
        &mut self,
        place: UserPlace,
        packet: &Packet,
        limits: &Bandwidth,
        shared: &SharedMeters,
    ) -> Result<(), Reason> {
        let direction = packet.direction as usize;
        let total = limits.total.map(bytes_per_second);
        let fair = total.map(|total| self.share(packet, total, shared));
        let (rate, reason) = match (limits.per_user.map(bytes_per_second), fair) {
            (Some(own), Some(fair)) if fair < own => (fair, Reason::FairShare),
            (Some(own), _) => (own, Reason::UserBandwidth),
            (None, fair) => (fair.unwrap_or(u64::MAX), Reason::FairShare),
        };
        let Some(user) = self.users.get_mut(place.0).and_then(Option::as_mut) else {
            return Err(Reason::NoAllocation);
        };
        let (lease, bucket) = (&mut user.leases[direction], &user.buckets[direction]);
        if !lease.take(bucket, packet.bytes, rate, packet.at) {
            return Err(reason);
        }
        let Some(total) = total else {
            return Ok(());
        };
        self.glances[direction].passed += packet.bytes;
        let (lease, bucket) = (&mut self.total[direction], &shared.total[direction]);
        if lease.take(bucket, packet.bytes, total, packet.at) {
            Ok(())
        } else {
            Err(Reason::TotalBandwidth)
        }
    }

    /// The share of a user, in bytes per second.
    fn share(&mut self, packet: &Packet, total: u64, shared: &SharedMeters) -> u64 {
        let direction = packet.direction as usize;
        let (glance, fair) = (&mut self.glances[direction], &shared.fair[direction]);
        if packet.at >= glance.next {
            fair.note(std::mem::take(&mut glance.passed));
            glance.fair = fair.rate(total, packet.at);
            glance.next = packet.at + GLANCE;
        }
        glance.fair
    }
}
