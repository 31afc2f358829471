//! The first ClientHello of DTLS 1.3 clients that were asked for a cookie.

use std::collections::{HashMap, VecDeque};

use super::hello::Hello;
use crate::turn::FiveTuple;

/// The longest ClientHello that is kept, in bytes: what fits an ordinary datagram.
const LONGEST: usize = 1500;

/// A client and the random of its ClientHello: what somebody else says in its name replaces nothing.
type Key = (FiveTuple, [u8; 32]);

/// A table of fixed size: the oldest goes.
#[derive(Debug)]
pub(super) struct FirstHellos {
    capacity: usize,
    /// Each with its number in the order.
    records: HashMap<Key, (u64, Box<[u8]>), foldhash::fast::RandomState>,
    /// Those that were taken are still in it.
    order: VecDeque<(u64, Key)>,
    next: u64,
}

impl FirstHellos {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            records: HashMap::default(),
            order: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) const fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Keeps the record of a client's `hello`; false when it is too long.
    pub(super) fn keep(&mut self, client: FiveTuple, hello: &Hello<'_>) -> bool {
        self.keep_record((client, *hello.random), hello.record)
    }

    fn keep_record(&mut self, key: Key, record: &[u8]) -> bool {
        if record.len() > LONGEST || self.capacity == 0 {
            return false;
        }
        if let Some((_, kept)) = self.records.get_mut(&key) {
            *kept = record.into();
            return true;
        }
        self.next += 1;
        self.records.insert(key, (self.next, record.into()));
        self.order.push_back((self.next, key));
        while self.order.len() > self.capacity {
            self.drop_oldest();
        }
        true
    }

    /// The record of a client's ClientHello with `random`, which is forgotten.
    pub(super) fn take(&mut self, client: FiveTuple, random: &[u8; 32]) -> Option<Box<[u8]>> {
        let taken = self.records.remove(&(client, *random));
        taken.map(|(_, record)| record)
    }

    fn drop_oldest(&mut self) {
        let Some((number, key)) = self.order.pop_front() else {
            return;
        };
        // It may have been taken, and the client have come again.
        let is_it = |(kept, _): &(u64, Box<[u8]>)| *kept == number;
        if self.records.get(&key).is_some_and(is_it) {
            self.records.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Transport;

    const RANDOM: [u8; 32] = [7; 32];

    fn client(port: u16) -> FiveTuple {
        FiveTuple {
            transport: Transport::Dtls,
            client: ([192, 0, 2, 1], port).into(),
            server: ([198, 51, 100, 1], 3478).into(),
        }
    }

    #[test]
    fn the_oldest_goes_and_nothing_grows() {
        let mut hellos = FirstHellos::new(3);
        for port in 1..=10 {
            assert!(hellos.keep_record((client(port), RANDOM), b"hello"));
            assert!(hellos.keep_record((client(port), RANDOM), b"again"));
        }
        assert_eq!((hellos.records.len(), hellos.order.len()), (3, 3));
        assert_eq!(hellos.take(client(7), &RANDOM), None);
        assert_eq!(
            hellos.take(client(8), &RANDOM).as_deref(),
            Some(&b"again"[..])
        );
        assert_eq!(hellos.take(client(8), &RANDOM), None);
        for port in 1..=10 {
            hellos.keep_record((client(port), RANDOM), b"x");
            hellos.take(client(port), &RANDOM);
        }
        assert!(hellos.order.len() <= 3 && hellos.records.is_empty());
        assert!(!hellos.keep_record((client(1), RANDOM), &[0; LONGEST + 1]));
    }

    #[test]
    fn a_client_that_comes_again_is_not_taken_for_its_old_self() {
        let mut hellos = FirstHellos::new(2);
        hellos.keep_record((client(1), RANDOM), b"old");
        hellos.take(client(1), &RANDOM);
        hellos.keep_record((client(1), RANDOM), b"new");
        hellos.keep_record((client(2), RANDOM), b"other");
        assert_eq!(
            hellos.take(client(1), &RANDOM).as_deref(),
            Some(&b"new"[..])
        );
    }

    #[test]
    fn a_hello_in_the_name_of_a_client_replaces_nothing() {
        let mut hellos = FirstHellos::new(2);
        hellos.keep_record((client(1), RANDOM), b"own");
        hellos.keep_record((client(1), [8; 32]), b"forged");
        let own = hellos.take(client(1), &RANDOM);
        assert_eq!(own.as_deref(), Some(&b"own"[..]));
    }
}
