//! Out of a server: what another process takes over, as records.

use super::Handover;
use super::bytes::Bytes;
use super::record::{
    AllocationRecord, AwaitedRecord, FORMAT, Head, MobileRecord, NonceRecord, Record,
    ReservationRecord,
};
use crate::time::{Instant, Now};
use crate::turn::allocation::Allocation;
use crate::turn::allocation_key::AllocationKey;
use crate::turn::awaited::{Awaited, Waiting};
use crate::turn::five_tuple::{FiveTuple, Transport};
use crate::turn::mobile_id::MobileId;
use crate::turn::mobility::{Mobile, Tickets};
use crate::turn::relay::Relay;
use crate::turn::server::Server;

impl Server {
    /// All that another process needs to go on with the allocations of clients over plain UDP, as they are
    /// at `now`. Changes nothing: when the other process fails, this one goes on. Deliver the letters of
    /// all shards before: what is between two shards stays.
    pub fn export(&self, now: Now) -> Handover {
        let (key, clock_ms) = self.nonces.parts(now.instant);
        let generation = self.shared.peers.generation();
        let head = Head {
            format: FORMAT,
            shard: self.shard,
            shards: self.shards,
            nonces: NonceRecord {
                key: Bytes::of(key),
                clock_ms,
            },
            mobile_ids: self.shared.mobility.next_id(),
            generation: generation.number,
            older: generation.older,
            faces: self.shared.faces(),
        };
        let allocations = self.exported_allocations(now.instant);
        let reservations = self.exported_reservations(now.instant);
        let records = allocations
            .chain(reservations)
            .chain(self.exported_clients());
        Handover {
            head,
            records: (2..).zip(records).collect(),
            unread: Vec::new(),
        }
    }

    fn exported_allocations(&self, now: Instant) -> impl Iterator<Item = Record> {
        let all = self.allocations.iter();
        let records = all.filter_map(move |(key, allocation)| self.written(key, allocation, now));
        records.map(|record| Record::Allocation(Box::new(record)))
    }

    fn written(
        &self,
        key: AllocationKey,
        allocation: &Allocation,
        now: Instant,
    ) -> Option<AllocationRecord> {
        let is_here = allocation.is_live() && !allocation.is_tcp();
        if !is_here || allocation.client.transport != Transport::Udp {
            return None;
        }
        let Some(id) = allocation.mobile else {
            let until = |relay: &Relay| Some(relay.expires);
            return AllocationRecord::of(key, allocation, until, now);
        };
        // A ticket may have prolonged or deleted it at another shard.
        let (mobile, tickets) = self.departing(id)?;
        let until = |relay: &Relay| mobile.until[relay.family() as usize];
        let record = AllocationRecord::of(key, allocation, until, now)?;
        Some(AllocationRecord {
            mobile: Some(MobileRecord::of(id, &tickets)),
            ..record
        })
    }

    /// A mobile allocation whose client is, and is awaited, on nothing but plain UDP.
    fn departing(&self, id: MobileId) -> Option<(Mobile, Tickets)> {
        let is_udp = |client: FiveTuple| client.transport == Transport::Udp;
        let found = self.shared.mobility.get(id);
        found.filter(|(mobile, tickets)| is_udp(mobile.client) && tickets.next.is_none_or(is_udp))
    }

    fn exported_reservations(&self, now: Instant) -> impl Iterator<Item = Record> {
        self.reserved.iter().filter_map(move |(_, token)| {
            let reservation = self.shared.reservations.get(*token, now)?;
            let record = ReservationRecord::of(*token, &reservation, now)?;
            Some(Record::Reservation(record))
        })
    }

    fn exported_clients(&self) -> impl Iterator<Item = Record> {
        let all = self.awaited.iter();
        let departing = all.filter(|(client, awaited)| self.departs(client, awaited));
        departing.map(|(client, awaited)| Record::Awaited(AwaitedRecord::of(client, awaited)))
    }

    fn departs(&self, client: &FiveTuple, awaited: &Awaited) -> bool {
        let departing = self.departing(awaited.id);
        let is_awaited = departing.is_some_and(|(_, tickets)| tickets.next == Some(*client));
        is_awaited && awaited.state == Waiting::Client
    }
}
