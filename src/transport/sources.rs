//! How many connections each source has, over all shards (requirement S15).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::turn::source_prefix;

/// Counts by source: an IPv4 address, or the /64 of an IPv6 one. What begins or ends a connection locks
/// it; packets never come here.
#[derive(Debug, Default)]
pub struct Sources(Mutex<HashMap<IpAddr, usize>>);

impl Sources {
    /// How many the source of `client` has.
    pub fn of(&self, client: IpAddr) -> usize {
        let counts = self.lock();
        counts.get(&source_prefix(client)).copied().unwrap_or(0)
    }

    /// Counts one more.
    pub fn enter(&self, client: IpAddr) {
        *self.lock().entry(source_prefix(client)).or_default() += 1;
    }

    /// Counts one less.
    pub fn leave(&self, client: IpAddr) {
        let (mut counts, source) = (self.lock(), source_prefix(client));
        match counts.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&source)),
        }
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_64_are_one_source_and_nothing_is_left() {
        let sources = Sources::default();
        let [one, neighbour, other] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|ip| ip.parse().unwrap());
        sources.enter(one);
        sources.enter(neighbour);
        assert_eq!((sources.of(one), sources.of(other)), (2, 0));
        sources.leave(one);
        assert_eq!(sources.of(neighbour), 1);
        sources.leave(neighbour);
        sources.leave(neighbour);
        assert!(sources.is_empty());
    }
}
