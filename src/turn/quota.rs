//! How many allocations there are, by user and by source, over all shards (RFC 8656 §7.2, S15).

use std::collections::BTreeMap;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::five_tuple::FiveTuple;
use super::owner::Person;
use super::policy::Limits;
use super::reservation::Account;

/// Why an allocation may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// The user or the source has its share: 486.
    Share,
    /// The server is full: 508.
    Server,
}

/// How many counts are copied while requests wait.
const SLICE: usize = 128;

/// Counts by shares. Requests lock it; the relay path never comes here.
#[derive(Debug, Default)]
pub(super) struct Quota {
    ledger: Mutex<Ledger>,
    /// How often this process's own counts have changed.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Ledger {
    own: Counts,
    /// Those of the processes beside this one, while one takes the place of another.
    elsewhere: Counts,
}

/// Allocations of each user and each source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    people: BTreeMap<Person, u32>,
    sources: BTreeMap<IpAddr, u32>,
    total: u32,
}

impl Counts {
    /// Counts `number` allocations of `person`.
    pub(super) fn add_person(&mut self, person: Person, number: u32) {
        self.total = self.total.saturating_add(number);
        let count = self.people.entry(person).or_default();
        *count = count.saturating_add(number);
    }

    /// Counts the same ones at their `source`.
    pub(super) fn add_source(&mut self, source: IpAddr, number: u32) {
        let count = self.sources.entry(source_prefix(source)).or_default();
        *count = count.saturating_add(number);
    }

    fn of_person(&self, person: &Person) -> u32 {
        self.people.get(person).copied().unwrap_or(0)
    }

    fn at_source(&self, source: IpAddr) -> u32 {
        self.sources.get(&source).copied().unwrap_or(0)
    }
}

impl Quota {
    /// Counts one more allocation of `person` from `source`.
    pub(super) fn take(
        &self,
        person: &Person,
        source: IpAddr,
        limits: &Limits,
    ) -> Result<(), Exceeded> {
        let prefix = source_prefix(source);
        let mut ledger = self.lock();
        let sum = |count: fn(&Counts, &Person, IpAddr) -> u32| {
            let beside = count(&ledger.elsewhere, person, prefix);
            count(&ledger.own, person, prefix).saturating_add(beside)
        };
        let by_user = sum(|counts, person, _| counts.of_person(person));
        let by_source = sum(|counts, _, source| counts.at_source(source));
        if sum(|counts, _, _| counts.total) >= limits.allocations {
            return Err(Exceeded::Server);
        }
        if by_user >= limits.allocations_per_user || by_source >= limits.allocations_per_source {
            return Err(Exceeded::Share);
        }
        ledger.own.add_person(person.clone(), 1);
        ledger.own.add_source(source, 1);
        self.note_change();
        Ok(())
    }

    /// Counts one more, whatever the limit: it is there already.
    pub(super) fn charge(&self, account: &Account) {
        let own = &mut self.lock().own;
        own.add_person(account.person.clone(), 1);
        own.add_source(account.source, 1);
        self.note_change();
    }

    /// Counts one less.
    pub(super) fn give_back(&self, person: &Person, source: IpAddr) {
        let own = &mut self.lock().own;
        own.total = own.total.saturating_sub(1);
        release(&mut own.people, person);
        release(&mut own.sources, &source_prefix(source));
        self.note_change();
    }

    /// Counts the allocation of `account` at the source of `client`, whatever the limit: it is there
    /// already.
    pub(super) fn follow(&self, account: &mut Account, client: &FiveTuple) {
        let new = client.client.ip();
        let old = std::mem::replace(&mut account.source, new);
        let own = &mut self.lock().own;
        release(&mut own.sources, &source_prefix(old));
        own.add_source(new, 1);
        self.note_change();
    }

    /// Grows with every change to what is counted of this process, once that is made.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// How many allocations of this process each user has. No request waits for the whole, which is of one
    /// moment only when nothing has [changed](Self::changes) meanwhile.
    pub(super) fn people(&self) -> Vec<(Person, u32)> {
        in_slices(|last| slice(&self.lock().own.people, last))
    }

    /// How many each source has, likewise.
    pub(super) fn sources(&self) -> Vec<(IpAddr, u32)> {
        in_slices(|last| slice(&self.lock().own.sources, last))
    }

    /// From now on `counts` are those of the other processes.
    pub(super) fn set_elsewhere(&self, counts: Counts) {
        let old = mem::replace(&mut self.lock().elsewhere, counts);
        // It may be large: no request waits for that.
        drop(old);
    }

    /// Whether nothing is counted of this process.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().own == Counts::default()
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of what `next` gives, which is told what came last.
fn in_slices<K>(next: impl Fn(Option<&K>) -> Vec<(K, u32)>) -> Vec<(K, u32)> {
    let mut all = Vec::new();
    loop {
        let slice = next(all.last().map(|(key, _)| key));
        if slice.is_empty() {
            return all;
        }
        all.extend(slice);
    }
}

/// The counts after that of `last`, or a part of them.
fn slice<K: Ord + Clone>(counts: &BTreeMap<K, u32>, last: Option<&K>) -> Vec<(K, u32)> {
    let after = (last.map_or(Unbounded, Excluded), Unbounded);
    let copy = |(key, count): (&K, &u32)| (key.clone(), *count);
    counts.range(after).take(SLICE).map(copy).collect()
}

fn release<K: Ord>(map: &mut BTreeMap<K, u32>, key: &K) {
    match map.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(map.remove(key)),
    }
}

/// Whom limits on one source count: an IPv4 address, or the /64 of an IPv6 one (requirement S15).
pub fn source_prefix(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::turn::five_tuple::Transport;

    #[test]
    fn counts_users_sources_and_all() {
        let quota = Quota::default();
        let limits = Limits {
            allocations: 3,
            allocations_per_user: 2,
            allocations_per_source: 2,
            ..Limits::default()
        };
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "2001:db8:1::1".parse().unwrap();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Person::User(name.into()));
        assert_eq!(quota.take(&alice, one, &limits), Ok(()));
        assert_eq!(quota.take(&bob, neighbour, &limits), Ok(()));
        assert_eq!(quota.take(&carol, one, &limits), Err(Exceeded::Share));
        assert_eq!(quota.take(&alice, other, &limits), Ok(()));
        assert_eq!(quota.take(&alice, other, &limits), Err(Exceeded::Server));
        quota.give_back(&bob, neighbour);
        assert_eq!(quota.take(&alice, other, &limits), Err(Exceeded::Share));
        quota.give_back(&alice, one);
        quota.give_back(&alice, other);
        assert!(quota.is_empty());
    }

    #[test]
    fn those_of_other_processes_count_until_they_are_told_anew() {
        let quota = Quota::default();
        let limits = Limits {
            allocations: 4,
            allocations_per_user: 3,
            allocations_per_source: 3,
            ..Limits::default()
        };
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let [alice, bob] = ["alice", "bob"].map(|name| Person::User(name.into()));
        let mut elsewhere = Counts::default();
        elsewhere.add_person(alice.clone(), 2);
        elsewhere.add_source(one, 2);
        quota.set_elsewhere(elsewhere);
        assert!(quota.is_empty());
        assert_eq!(quota.take(&alice, one, &limits), Ok(()));
        assert_eq!(quota.take(&alice, other, &limits), Err(Exceeded::Share));
        assert_eq!(quota.take(&bob, one, &limits), Err(Exceeded::Share));
        assert_eq!(quota.take(&bob, other, &limits), Ok(()));
        assert_eq!(quota.take(&bob, other, &limits), Err(Exceeded::Server));
        quota.set_elsewhere(Counts::default());
        assert_eq!(quota.take(&alice, one, &limits), Ok(()));
        assert!(quota.people().contains(&(alice, 2)));
    }

    #[test]
    fn counts_are_copied_in_slices_and_completely() {
        let (quota, limits) = (Quota::default(), Limits::default());
        let hosts = 0..u32::try_from(2 * SLICE + 1).unwrap();
        let person = |host: u32| Person::User(format!("user {host:05}").into());
        let source = |host: u32| IpAddr::from(host.to_be_bytes());
        for host in hosts.clone() {
            assert_eq!(quota.take(&person(host), source(host), &limits), Ok(()));
        }
        assert_eq!(slice(&quota.lock().own.people, None).len(), SLICE);
        assert_eq!(slice(&quota.lock().own.sources, None).len(), SLICE);
        let people: Vec<_> = hosts.clone().map(|host| (person(host), 1)).collect();
        let sources: Vec<_> = hosts.map(|host| (source(host), 1)).collect();
        assert_eq!((quota.people(), quota.sources()), (people, sources));
    }

    #[test]
    fn every_change_and_nothing_else_is_one() {
        let (quota, limits) = (Quota::default(), Limits::default());
        let full = Limits {
            allocations: 0,
            ..limits
        };
        let client: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let alice = Person::User("alice".into());
        let mut account = Account {
            person: alice.clone(),
            source: client.ip(),
        };
        let mut seen = quota.changes();
        let mut has_changed = || mem::replace(&mut seen, quota.changes()) != quota.changes();
        quota.take(&alice, client.ip(), &limits).unwrap();
        assert!(has_changed());
        quota.charge(&account);
        assert!(has_changed());
        let moved = FiveTuple {
            client: "192.0.2.2:1".parse().unwrap(),
            server: "192.0.2.3:3478".parse().unwrap(),
            transport: Transport::Udp,
        };
        quota.follow(&mut account, &moved);
        assert!(has_changed());
        quota.give_back(&alice, client.ip());
        assert!(has_changed());
        quota.take(&alice, client.ip(), &full).unwrap_err();
        quota.set_elsewhere(Counts::default());
        drop((quota.people(), quota.sources(), quota.is_empty()));
        assert!(!has_changed());
    }
}
