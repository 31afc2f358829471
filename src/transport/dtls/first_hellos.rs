//! The first ClientHello of DTLS 1.3 clients that were asked for a cookie.

use std::collections::{HashMap, VecDeque};

use crate::turn::FiveTuple;

/// The longest ClientHello that is kept, in bytes: what fits an ordinary datagram.
const LONGEST: usize = 1500;

/// A table of fixed size: the oldest goes.
#[derive(Debug)]
pub(super) struct FirstHellos {
    capacity: usize,
    /// Each with its number in the order.
    records: HashMap<FiveTuple, (u64, Box<[u8]>), foldhash::fast::RandomState>,
    /// Those that were taken are still in it.
    order: VecDeque<(u64, FiveTuple)>,
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

    /// Keeps the `record` of a client; false when it is too long.
    pub(super) fn keep(&mut self, client: FiveTuple, record: &[u8]) -> bool {
        if record.len() > LONGEST || self.capacity == 0 {
            return false;
        }
        if let Some((_, kept)) = self.records.get_mut(&client) {
            *kept = record.into();
            return true;
        }
        self.next += 1;
        self.records.insert(client, (self.next, record.into()));
        self.order.push_back((self.next, client));
        while self.order.len() > self.capacity {
            self.drop_oldest();
        }
        true
    }

    /// The record of a client, which is forgotten.
    pub(super) fn take(&mut self, client: &FiveTuple) -> Option<Box<[u8]>> {
        self.records.remove(client).map(|(_, record)| record)
    }

    fn drop_oldest(&mut self) {
        let Some((number, client)) = self.order.pop_front() else {
            return;
        };
        // It may have been taken, and the client have come again.
        let is_it = |(kept, _): &(u64, Box<[u8]>)| *kept == number;
        if self.records.get(&client).is_some_and(is_it) {
            self.records.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Transport;

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
            assert!(hellos.keep(client(port), b"hello"));
            assert!(hellos.keep(client(port), b"again"));
        }
        assert_eq!((hellos.records.len(), hellos.order.len()), (3, 3));
        assert_eq!(hellos.take(&client(7)), None);
        assert_eq!(hellos.take(&client(8)).as_deref(), Some(&b"again"[..]));
        assert_eq!(hellos.take(&client(8)), None);
        for port in 1..=10 {
            hellos.keep(client(port), b"x");
            hellos.take(&client(port));
        }
        assert!(hellos.order.len() <= 3 && hellos.records.is_empty());
        assert!(!hellos.keep(client(1), &[0; LONGEST + 1]));
    }

    #[test]
    fn a_client_that_comes_again_is_not_taken_for_its_old_self() {
        let mut hellos = FirstHellos::new(2);
        hellos.keep(client(1), b"old");
        hellos.take(&client(1));
        hellos.keep(client(1), b"new");
        hellos.keep(client(2), b"other");
        assert_eq!(hellos.take(&client(1)).as_deref(), Some(&b"new"[..]));
    }
}
