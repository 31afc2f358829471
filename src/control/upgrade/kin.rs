//! The relays of this process and of those beside it, which stay for their clients over streams or have
//! taken over.
//!
//! Processes stand in a row: each knows the one before and the one after it, and tells either of its own
//! relays and of those on the other side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::turn::{RelaySet, Shared};

/// Everybody who relays on this host.
#[derive(Debug)]
pub(in crate::control) struct Kin {
    shared: Arc<Shared>,
    /// What is known of each side.
    sides: Mutex<BTreeMap<Side, RelaySet>>,
    /// Processes that were here before and still serve.
    older: AtomicUsize,
}

/// Where another process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// It was here before.
    Older,
    /// It has taken over.
    Newer,
}

impl Kin {
    /// Nobody but this process, with the relays of `shared`.
    pub(in crate::control) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            sides: Mutex::default(),
            older: AtomicUsize::new(0),
        }
    }

    /// How many processes were here before and still serve.
    pub(in crate::control) fn older(&self) -> u64 {
        self.older.load(Ordering::Acquire) as u64
    }

    /// There is a process that was here before.
    pub(super) fn meet_older(&self) {
        self.older.fetch_add(1, Ordering::AcqRel);
    }

    /// What a process on `side` is told: the relays of all others.
    pub(super) fn beyond(&self, side: Side) -> RelaySet {
        let mut relays = self.shared.relays();
        let sides = self.sides.lock().unwrap_or_else(PoisonError::into_inner);
        let others = sides.iter().filter(|(other, _)| **other != side);
        others.for_each(|(_, known)| relays.extend(known));
        relays
    }

    /// These live on `side`, and no others.
    pub(super) fn note(&self, side: Side, relays: RelaySet) {
        let mut sides = self.sides.lock().unwrap_or_else(PoisonError::into_inner);
        sides.insert(side, relays);
        let mut all = RelaySet::default();
        sides.values().for_each(|known| all.extend(known));
        self.shared.elsewhere(&all);
    }

    /// The process on `side` has ended.
    pub(super) fn forget(&self, side: Side) {
        self.note(side, RelaySet::default());
        if side == Side::Older {
            self.older.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays(address: &str) -> RelaySet {
        let set = format!("{{\"udp\":[[\"{address}\",\"192.0.2.1\"]]}}");
        RelaySet::from_bytes(set.as_bytes()).expect("a set")
    }

    #[test]
    fn each_side_is_told_of_the_other() {
        let kin = Kin::new(Arc::default());
        let (old, new) = (relays("192.0.2.1:50000"), relays("192.0.2.1:50001"));
        kin.meet_older();
        kin.note(Side::Older, old.clone());
        assert!(kin.beyond(Side::Older).is_empty());
        assert_eq!(kin.beyond(Side::Newer), old);
        kin.note(Side::Newer, new.clone());
        assert_eq!(kin.beyond(Side::Older), new);
        assert_eq!(kin.older(), 1);
        kin.forget(Side::Older);
        assert!(kin.beyond(Side::Newer).is_empty());
        assert_eq!(kin.older(), 0);
    }
}
