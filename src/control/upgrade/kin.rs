//! The relays of this process and of those beside it, which stay for their clients over streams or have
//! taken over.
//!
//! Processes stand in a row: each knows the one before and the one after it, and tells either of its own
//! relays and of those on the other side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::turn::{RelaySet, Shared};

/// Everybody who relays on this host.
#[derive(Debug)]
pub(in crate::control) struct Kin {
    shared: Arc<Shared>,
    /// What is known of each side.
    sides: Mutex<Sides>,
    /// How often that has changed.
    noted: AtomicU64,
    /// Processes that were here before and still serve.
    older: AtomicUsize,
}

type Sides = BTreeMap<Side, RelaySet>;

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
            noted: AtomicU64::new(0),
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
        let sides = self.sides();
        others(&sides, side).for_each(|known| relays.extend(known));
        relays
    }

    /// The same, and not how many allocations there are of whom.
    pub(super) fn beyond_uncounted(&self, side: Side) -> RelaySet {
        let mut relays = self.shared.uncounted_relays();
        let sides = self.sides();
        others(&sides, side).for_each(|known| relays.extend_uncounted(known));
        relays
    }

    /// A number that changes with every change to what is [`beyond`](Self::beyond), once that is made.
    pub(super) fn changes(&self) -> u64 {
        let noted = self.noted.load(Ordering::Acquire);
        self.shared.changes().wrapping_add(noted)
    }

    /// These live on `side`, and no others.
    pub(super) fn note(&self, side: Side, relays: RelaySet) {
        let mut sides = self.sides();
        sides.insert(side, relays);
        self.noted.fetch_add(1, Ordering::Release);
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

    fn sides(&self) -> MutexGuard<'_, Sides> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of all sides but `side`.
fn others(sides: &Sides, side: Side) -> impl Iterator<Item = &RelaySet> {
    let others = sides.iter().filter(move |(other, _)| **other != side);
    others.map(|(_, known)| known)
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

    #[test]
    fn what_is_noted_is_a_change() {
        let kin = Kin::new(Arc::default());
        let before = kin.changes();
        drop((
            kin.beyond(Side::Older),
            kin.beyond_uncounted(Side::Newer),
            kin.older(),
        ));
        assert_eq!(kin.changes(), before);
        kin.note(Side::Older, relays("192.0.2.1:50000"));
        assert_ne!(kin.changes(), before);
    }

    #[test]
    fn relays_are_told_without_counts_too() {
        let kin = Kin::new(Arc::default());
        let relay = "[[\"192.0.2.1:50000\",\"192.0.2.1\"]]";
        let counted = format!("{{\"udp\":{relay},\"sources\":[[\"192.0.2.9\",1]]}}");
        let counted = RelaySet::from_bytes(counted.as_bytes()).expect("a set");
        kin.note(Side::Older, counted.clone());
        assert_eq!(kin.beyond(Side::Newer), counted);
        assert_eq!(kin.beyond_uncounted(Side::Newer), relays("192.0.2.1:50000"));
    }
}
