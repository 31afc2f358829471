//! Slots of allocations by five-tuple: the one look-up on a packet's way.
//!
//! An entry is a hash and a slot, eight bytes; the five-tuple itself is where the slot is. So the table
//! of ten thousand clients takes 128 kB and stays in the processor's cache, and growing it moves hashes,
//! not five-tuples.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::five_tuple::FiveTuple;

/// Entries of the smallest table; a power of two.
const LEAST: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Entry {
    const EMPTY: Self = Self {
        hash: 0,
        slot: u32::MAX,
    };

    fn is_empty(self) -> bool {
        self == Self::EMPTY
    }
}

/// Open addressing with linear probing: an entry lies where its hash says or behind, with no gap between.
#[derive(Debug)]
pub(super) struct ByClient {
    /// As many as a power of two, at most three quarters of them in use.
    entries: Box<[Entry]>,
    used: usize,
    hasher: FixedState,
}

impl ByClient {
    /// An empty table whose hashes nobody outside can predict.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: [Entry::EMPTY; LEAST].into(),
            used: 0,
            hasher: FixedState::with_seed(seed),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// The slot of `client`, as `is_of_client` recognises it among those whose hash is the same.
    pub(super) fn find(
        &self,
        client: &FiveTuple,
        is_of_client: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let place = self.place(self.hash(client), is_of_client)?;
        Some(self.entries[place].slot)
    }

    /// Adds a client that has no slot yet.
    pub(super) fn insert(&mut self, client: &FiveTuple, slot: u32) {
        debug_assert_ne!(slot, Entry::EMPTY.slot);
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        let hash = self.hash(client);
        self.put(Entry { hash, slot });
        self.used += 1;
    }

    /// Forgets `client`, whose slot was `slot`.
    pub(super) fn remove(&mut self, client: &FiveTuple, slot: u32) {
        let Some(place) = self.place(self.hash(client), |other| other == slot) else {
            return;
        };
        self.used -= 1;
        self.close_gap(place);
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of it is enough")]
    fn hash(&self, client: &FiveTuple) -> u32 {
        self.hasher.hash_one(client) as u32
    }

    /// The place in which an entry of `hash` wants to lie.
    const fn home(&self, hash: u32) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    const fn behind(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    fn place(&self, hash: u32, is_meant: impl Fn(u32) -> bool) -> Option<usize> {
        let mut place = self.home(hash);
        loop {
            let entry = self.entries[place];
            if entry.is_empty() {
                return None;
            }
            if entry.hash == hash && is_meant(entry.slot) {
                return Some(place);
            }
            place = self.behind(place);
        }
    }

    fn put(&mut self, entry: Entry) {
        let mut place = self.home(entry.hash);
        while !self.entries[place].is_empty() {
            place = self.behind(place);
        }
        self.entries[place] = entry;
    }

    fn grow(&mut self) {
        let larger = vec![Entry::EMPTY; self.entries.len() * 2].into();
        let entries = std::mem::replace(&mut self.entries, larger);
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            self.put(*entry);
        }
    }

    /// Empties `gap` and moves into it what would not be found behind it any more.
    fn close_gap(&mut self, mut gap: usize) {
        let last = self.entries.len() - 1;
        let mut place = gap;
        loop {
            place = self.behind(place);
            let entry = self.entries[place];
            if entry.is_empty() {
                break;
            }
            let from_home = place.wrapping_sub(self.home(entry.hash)) & last;
            let from_gap = place.wrapping_sub(gap) & last;
            if from_home >= from_gap {
                self.entries[gap] = entry;
                gap = place;
            }
        }
        self.entries[gap] = Entry::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::turn::five_tuple::Transport;
    use crate::turn::random::Random;

    fn client(number: u16) -> FiveTuple {
        FiveTuple {
            transport: Transport::Udp,
            client: SocketAddr::from(([192, 0, 2, 1], number)),
            server: SocketAddr::from(([192, 0, 2, 9], 3478)),
        }
    }

    /// What it finds, given who has each slot.
    fn find(table: &ByClient, slots: &[Option<u16>], number: u16) -> Option<u32> {
        table.find(&client(number), |slot| slots[slot as usize] == Some(number))
    }

    fn below(most: usize, random: &mut Random) -> u16 {
        u16::try_from(random.below(most)).unwrap()
    }

    #[test]
    fn whoever_comes_and_goes_is_found_and_nobody_else() {
        let mut random = Random::new([5; 32]);
        let mut table = ByClient::new(5);
        // A client's slot is its number.
        let mut slots: Vec<Option<u16>> = vec![None; 400];
        for round in 0..20_000 {
            let number = below(300, &mut random);
            let (slot, place) = (u32::from(number), usize::from(number));
            // Long stretches of mostly coming and of mostly going.
            let comes = random.below(10) < if round % 4000 < 2000 { 7 } else { 3 };
            match (slots[place], comes) {
                (None, true) => {
                    slots[place] = Some(number);
                    table.insert(&client(number), slot);
                }
                (Some(_), false) => {
                    table.remove(&client(number), slot);
                    slots[place] = None;
                }
                _ => {}
            }
            assert_eq!(table.len(), slots.iter().flatten().count());
            let asked = below(400, &mut random);
            let known = slots[usize::from(asked)].map(u32::from);
            assert_eq!(find(&table, &slots, asked), known);
        }
        for number in 0..400 {
            let known = slots[usize::from(number)].map(u32::from);
            assert_eq!(find(&table, &slots, number), known);
        }
    }

    #[test]
    fn clients_of_one_hash_are_told_apart() {
        let mut table = ByClient::new(5);
        let hash = u32::MAX;
        // At the end of the table, so that the others lie at its beginning.
        (0..5).for_each(|slot| table.put(Entry { hash, slot }));
        for slot in 0..5 {
            assert!(table.place(hash, |other| other == slot).is_some());
        }
        let second = table.place(hash, |slot| slot == 1).expect("a place");
        table.close_gap(second);
        assert_eq!(table.place(hash, |slot| slot == 1), None);
        for slot in [0, 2, 3, 4] {
            assert!(table.place(hash, |other| other == slot).is_some());
        }
    }
}
