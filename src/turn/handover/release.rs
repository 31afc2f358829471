//! How a server forgets what another process has taken over.

use super::Handover;
use super::record::{AwaitedRecord, Record, ReservationRecord};
use super::{read, record::ClientRecord};
use crate::turn::allocation_key::AllocationKey;
use crate::turn::awaited::Waiting;
use crate::turn::exchange::Action;
use crate::turn::moving::{Way, count_all};
use crate::turn::server::Server;
use crate::turn::stats::{AllocationEnd, Counter};

impl Server {
    /// What `handover` holds is another process's now. Forgets it without a word to clients; its sockets are
    /// to be closed here ([`Action::HoldRelay`] and then [`Action::DropReserved`], so that a poller lets go
    /// of a socket that lives on elsewhere). The relays are known as alive elsewhere until
    /// [`Shared::elsewhere`](crate::turn::Shared::elsewhere) replaces them.
    pub fn release(&mut self, handover: &Handover) {
        for (_, record) in &handover.records {
            match record {
                Record::Allocation(record) => {
                    self.release_allocation(AllocationKey::from_token(record.token));
                }
                Record::Reservation(record) => self.release_reservation(record),
                Record::Awaited(record) => self.release_client(record),
            }
        }
        self.prune_deadlines();
    }

    fn release_allocation(&mut self, key: AllocationKey) {
        let is_live = self.allocations.get(key).is_some_and(|a| a.is_live());
        if !is_live {
            return;
        }
        let Some(mut allocation) = self.allocations.remove(key) else {
            return;
        };
        for relay in allocation.relays.iter() {
            let local = relay.bind_address();
            self.actions.push_back(Action::HoldRelay { key, local });
            self.actions.push_back(Action::DropReserved { local });
            self.shared.live.depart(relay.public, relay.local);
            self.give_back_port(relay.public);
            let ended = Counter::AllocationsEnded(AllocationEnd::HandedOver);
            self.stats.increment(ended);
        }
        self.note_moved_away(key);
        count_all(&mut self.stats, &allocation, Way::Out);
        self.release_quota(&allocation);
        self.detach_meter(&mut allocation.meter);
        if let Some(id) = allocation.mobile {
            self.shared.mobility.end(id);
        }
    }

    fn release_reservation(&mut self, record: &ReservationRecord) {
        let token = read::token(&record.token).ok();
        let reservation = token.and_then(|token| self.shared.reservations.take(token));
        if let Some(reservation) = reservation {
            let local = reservation.relay.bind_address();
            self.actions.push_back(Action::DropReserved { local });
            self.give_back_port(reservation.relay.public);
            self.give_back_quota(&reservation.account, 1);
        }
    }

    fn release_client(&mut self, record: &AwaitedRecord) {
        let Ok(client) = ClientRecord::read(&record.from, "from") else {
            return;
        };
        let awaited = self.awaited.get(&client);
        if awaited.is_some_and(|awaited| awaited.state == Waiting::Client) {
            self.awaited.remove(&client);
        }
    }
}
