//! How many allocations there are, by user and by source, over all shards (RFC 8656 §7.2, S15).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
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

/// Counts by shares. Requests lock it; the relay path never comes here.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    own: Counts,
    /// Those of the processes beside this one, while one takes the place of another.
    elsewhere: Counts,
}

/// Allocations of each user and each source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) people: BTreeMap<Person, u32>,
    pub(super) sources: BTreeMap<IpAddr, u32>,
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
        Ok(())
    }

    /// Counts one more, whatever the limit: it is there already.
    pub(super) fn charge(&self, account: &Account) {
        let own = &mut self.lock().own;
        own.add_person(account.person.clone(), 1);
        own.add_source(account.source, 1);
    }

    /// Counts one less.
    pub(super) fn give_back(&self, person: &Person, source: IpAddr) {
        let own = &mut self.lock().own;
        own.total = own.total.saturating_sub(1);
        release(&mut own.people, person);
        release(&mut own.sources, &source_prefix(source));
    }

    /// Counts the allocation of `account` at the source of `client`, whatever the limit: it is there
    /// already.
    pub(super) fn follow(&self, account: &mut Account, client: &FiveTuple) {
        let new = client.client.ip();
        let old = std::mem::replace(&mut account.source, new);
        let own = &mut self.lock().own;
        release(&mut own.sources, &source_prefix(old));
        own.add_source(new, 1);
    }

    /// What is counted of this process.
    pub(super) fn own(&self) -> Counts {
        self.lock().own.clone()
    }

    /// From now on `counts` are those of the other processes.
    pub(super) fn set_elsewhere(&self, counts: Counts) {
        self.lock().elsewhere = counts;
    }

    /// Whether nothing is counted of this process.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().own == Counts::default()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    use super::*;

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
        assert_eq!(quota.own().people.get(&alice), Some(&2));
    }
}
