//! How allocations go on when the sockets come that another process had.

use crate::turn::allocation::State;
use crate::turn::allocation_key::AllocationKey;
use crate::turn::five_tuple::Family;
use crate::turn::moving::{Way, count_all};
use crate::turn::server::Server;
use crate::turn::stats::{AllocationEnd, Counter};

impl Server {
    /// The sockets are here: the allocation is live.
    pub(in crate::turn) fn take_over(&mut self, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        allocation.state = State::Live;
        count_all(&mut self.stats, allocation, Way::In);
        for relay in allocation.relays.iter() {
            self.stats.increment(Counter::AllocationsTakenOver);
            tracing::debug!(
                client = %allocation.client.client,
                user = ?allocation.owner.username,
                relayed = %relay.public,
                "allocation taken over"
            );
        }
        let next = allocation.next_expiry();
        if let Some(allocation) = self.allocations.get(key) {
            // What waits in its sockets comes first.
            self.announce(allocation, None);
        }
        self.schedule(key, next);
    }

    /// A socket that another process had cannot be had: what the others carry goes on.
    pub(in crate::turn) fn lose_family(&mut self, key: AllocationKey, family: Family) {
        let state = self.allocations.get(key).map(|allocation| allocation.state);
        if state == Some(State::HandedOver) {
            self.take_over(key);
        }
        self.end_family(key, family, AllocationEnd::Lost);
    }
}
