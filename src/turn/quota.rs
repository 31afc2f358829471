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
pub(super) struct Quota(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    people: BTreeMap<Person, u32>,
    sources: BTreeMap<IpAddr, u32>,
}

impl Quota {
    /// Counts one more allocation of `person` from `source`.
    pub(super) fn take(
        &self,
        person: &Person,
        source: IpAddr,
        limits: &Limits,
    ) -> Result<(), Exceeded> {
        let source = source_prefix(source);
        let mut counts = self.lock();
        let by_user = counts.people.get(person).copied().unwrap_or(0);
        let by_source = counts.sources.get(&source).copied().unwrap_or(0);
        if counts.total >= limits.allocations {
            return Err(Exceeded::Server);
        }
        if by_user >= limits.allocations_per_user || by_source >= limits.allocations_per_source {
            return Err(Exceeded::Share);
        }
        counts.total += 1;
        counts.people.insert(person.clone(), by_user + 1);
        counts.sources.insert(source, by_source + 1);
        Ok(())
    }

    /// Counts one more, whatever the limit: it is there already.
    pub(super) fn charge(&self, account: &Account) {
        let mut counts = self.lock();
        counts.total += 1;
        *counts.people.entry(account.person.clone()).or_default() += 1;
        *counts
            .sources
            .entry(source_prefix(account.source))
            .or_default() += 1;
    }

    /// Counts one less.
    pub(super) fn give_back(&self, person: &Person, source: IpAddr) {
        let mut counts = self.lock();
        counts.total = counts.total.saturating_sub(1);
        release(&mut counts.people, person);
        release(&mut counts.sources, &source_prefix(source));
    }

    /// Counts the allocation of `account` at the source of `client`, whatever the limit: it is there
    /// already.
    pub(super) fn follow(&self, account: &mut Account, client: &FiveTuple) {
        let new = client.client.ip();
        let old = std::mem::replace(&mut account.source, new);
        let mut counts = self.lock();
        release(&mut counts.sources, &source_prefix(old));
        *counts.sources.entry(source_prefix(new)).or_default() += 1;
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        let counts = self.lock();
        counts.total == 0 && counts.people.is_empty() && counts.sources.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
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
}
