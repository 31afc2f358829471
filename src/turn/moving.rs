//! How an allocation follows its client to another five-tuple (RFC 8016 §3.2).
//!
//! A Refresh with a ticket has the client awaited where it came from; the allocation stays where it is and
//! the old five-tuple is served. When the client is heard on the new one the allocation moves there, from
//! another shard by letter: its state by the table that the shards share, its sockets held in between.
//! Packets that come meanwhile are parked.

use super::allocation::{Allocation, State};
use super::allocation_key::AllocationKey;
use super::awaited::{Awaited, Heard, Waiting};
use super::exchange::Action;
use super::five_tuple::{FiveTuple, Transport};
use super::letter::Letter;
use super::mobile_id::MobileId;
use super::mobility::Mobile;
use super::outcome::{Reason, Verdict};
use super::owner::Owner;
use super::place::Place;
use super::relay::{Relay, Socket};
use super::server::Server;
use super::stats::{AllocationEnd, Counter, Stats};
use super::ticket::Ticket;
use crate::time::{Instant, Now};

impl Server {
    /// Handles a packet that found no allocation, once more if its client is awaited.
    pub(super) fn hear_packet<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        packet: &'p [u8],
    ) -> Result<Verdict<'p>, Reason> {
        match self.hear(now, &from, packet) {
            Heard::Here => self.decide(now, from, packet),
            Heard::Parked => Ok(Verdict::Park),
            Heard::Full => Err(Reason::AnswerPending),
            Heard::Nobody => Err(Reason::NoAllocation),
        }
    }

    /// Gives an allocation that has just begun a ticket, if its client asked for one.
    pub(super) fn issue_ticket(&mut self, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if !allocation.origin.mobile {
            return;
        }
        let mut until = [None; 2];
        for relay in allocation.relays.iter() {
            until[relay.family() as usize] = Some(Instant::FAR_FUTURE);
        }
        let mobile = Mobile {
            place: Place {
                shard: self.shard,
                key,
            },
            owner: allocation.owner.clone(),
            client: allocation.client,
            until,
        };
        while allocation.mobile.is_none() {
            let ticket = Ticket::new(self.random.bytes());
            allocation.mobile = self.shared.mobility.insert(mobile.clone(), ticket);
        }
    }

    /// A client without an allocation says something: if it is awaited, its allocation moves here.
    pub(super) fn hear(&mut self, now: Now, from: &FiveTuple, packet: &[u8]) -> Heard {
        let Some(awaited) = self.awaited.get_mut(from) else {
            return Heard::Nobody;
        };
        match awaited.state {
            Waiting::Nothing { .. } => return Heard::Nobody,
            Waiting::Allocation => return awaited.park(packet),
            Waiting::Client => {}
        }
        let Some(place) = self.shared.mobility.awaited(awaited.id, from) else {
            self.awaited.remove(from);
            return Heard::Nobody;
        };
        if place.shard == self.shard {
            return self.move_here(now, place.key, *from);
        }
        awaited.state = Waiting::Allocation;
        let heard = awaited.park(packet);
        let letter = Letter::Claim {
            key: place.key,
            client: *from,
            by: self.shard,
        };
        self.post(place.shard, letter);
        heard
    }

    fn post(&mut self, shard: u16, letter: Letter) {
        self.actions.push_back(Action::Post { shard, letter });
    }

    /// Tells the shard of an allocation what became of it, or does it here.
    pub(super) fn tell(&mut self, now: Now, shard: u16, letter: Letter) {
        if shard == self.shard {
            self.letter(now, letter);
        } else {
            self.post(shard, letter);
        }
    }

    /// Handles what another shard says.
    pub(super) fn letter(&mut self, now: Now, letter: Letter) {
        match letter {
            Letter::Claim { key, client, by } => self.hand_over(now, key, client, by),
            Letter::Arrived { client } => self.arrive(client),
            Letter::Gone { client } => self.handle_parked_of(&client, true),
            Letter::Renew {
                key,
                family,
                expires,
            } => self.set_expiry(key, family, expires),
            Letter::Delete { key, family } => match family {
                Some(family) => self.end_family(key, family, AllocationEnd::Deleted),
                None => self.end(key, AllocationEnd::Deleted),
            },
        }
    }

    /// Moves an allocation of this shard to `client`.
    fn move_here(&mut self, now: Now, key: AllocationKey, client: FiveTuple) -> Heard {
        self.awaited.remove(&client);
        let Some(id) = self.mobile_id(key, now.instant) else {
            return Heard::Nobody;
        };
        let Some(old) = self.allocations.rename(key, client) else {
            return Heard::Nobody;
        };
        if let Some(allocation) = self.allocations.get_mut(key) {
            self.shared.quota.follow(&mut allocation.account, &client);
            count_relays(&mut self.stats, allocation, old.transport, Way::Out);
            count_relays(&mut self.stats, allocation, client.transport, Way::In);
        }
        self.settle_move(key, id, client);
        Heard::Here
    }

    /// The mobile allocation of `key`, if it lives.
    fn mobile_id(&self, key: AllocationKey, now: Instant) -> Option<MobileId> {
        let allocation = self.allocations.get(key)?;
        let lives = allocation.is_live() && allocation.expires > now;
        allocation.mobile.filter(|_| lives)
    }

    /// The client is heard on its new five-tuple: it has no other one.
    fn settle_move(&mut self, key: AllocationKey, id: MobileId, client: FiveTuple) {
        let place = Place {
            shard: self.shard,
            key,
        };
        let until = self.shared.mobility.settle(id, place, client);
        self.stats.increment(Counter::AllocationsMoved);
        tracing::debug!(shard = self.shard, "allocation moved");
        match until {
            Some(until) => self.adopt_expiry(key, until),
            None => self.end(key, AllocationEnd::Deleted),
        }
    }

    /// Gives an allocation to the shard `by`, where its client is.
    fn hand_over(&mut self, now: Now, key: AllocationKey, client: FiveTuple, by: u16) {
        let here = Place {
            shard: self.shard,
            key,
        };
        let id = self.mobile_id(key, now.instant);
        let place = id.and_then(|id| self.shared.mobility.awaited(id, &client));
        let allocation = place
            .filter(|place| *place == here)
            .and_then(|_| self.allocations.remove(key));
        let Some(mut allocation) = allocation else {
            return self.post(by, Letter::Gone { client });
        };
        for relay in allocation.relays.iter() {
            let local = relay.bind_address();
            self.actions.push_back(Action::HoldRelay { key, local });
        }
        self.announce(&allocation, None);
        self.note_moved_away(key);
        count_all(&mut self.stats, &allocation, Way::Out);
        self.detach_meter(&mut allocation.meter);
        self.prune_deadlines();
        self.shared.mobility.deposit(client, allocation);
        self.post(by, Letter::Arrived { client });
    }

    /// Takes in an allocation from another shard.
    fn arrive(&mut self, client: FiveTuple) {
        let Some(mut allocation) = self.shared.mobility.collect(&client) else {
            return self.handle_parked_of(&client, false);
        };
        allocation.client = client;
        self.shared.quota.follow(&mut allocation.account, &client);
        let (peers, live) = (&self.policy.peers, &self.shared.live);
        // The policy may have changed on the way.
        let judge = |peer| peers.permit(peer, live).ok();
        allocation.permissions.judge_anew(judge);
        allocation.state = State::Arriving;
        allocation.scheduled = Instant::FAR_FUTURE;
        for relay in allocation.relays.iter_mut() {
            relay.socket = Socket::LAST_TRY;
        }
        let locals = allocation.relays.each(Relay::bind_address);
        if let Some(other) = self.allocations.key(&client) {
            self.end(other, AllocationEnd::Lost);
        }
        let key = self.allocations.insert(*allocation);
        for local in locals.into_iter().flatten() {
            self.actions.push_back(Action::OpenReserved { key, local });
        }
    }

    /// The sockets of an allocation from another shard are here: it goes on.
    pub(super) fn land(&mut self, key: AllocationKey) {
        let Some((id, client)) = self.settle_in(key) else {
            return;
        };
        self.settle_move(key, id, client);
        self.handle_parked_of(&client, false);
    }

    /// A socket of an allocation from another shard cannot be had.
    pub(super) fn lose(&mut self, key: AllocationKey) {
        let Some((_, client)) = self.settle_in(key) else {
            return;
        };
        self.end(key, AllocationEnd::Lost);
        self.handle_parked_of(&client, false);
    }

    fn settle_in(&mut self, key: AllocationKey) -> Option<(MobileId, FiveTuple)> {
        let allocation = self.allocations.get_mut(key)?;
        allocation.state = State::Live;
        count_all(&mut self.stats, allocation, Way::In);
        Some((allocation.mobile?, allocation.client))
    }

    /// Packets may come the short way to an allocation of this shard: nothing that they could overtake waits
    /// in its sockets.
    pub(super) fn announce_here(&self, key: AllocationKey) {
        let place = Place {
            shard: self.shard,
            key,
        };
        let allocation = self.allocations.get(key);
        if let Some(allocation) = allocation.filter(|allocation| allocation.is_live()) {
            self.announce(allocation, Some(place));
        }
    }

    /// Lets all shards know where the relays of an allocation are; without a place, that packets for them
    /// are to wait in their sockets.
    pub(super) fn announce(&self, allocation: &Allocation, place: Option<Place>) {
        let live = self.shared.live_relays(allocation.is_tcp());
        for relay in allocation.relays.iter() {
            live.insert(relay.public, relay.local, place);
        }
    }

    /// Has the packets handled that waited for the allocation of `client`.
    fn handle_parked_of(&mut self, client: &FiveTuple, again: bool) {
        let Some(awaited) = self.awaited.get_mut(client) else {
            return;
        };
        awaited.state = Waiting::Nothing { again };
        // The last time it finds none.
        for _ in 0..=awaited.parked.len() {
            let client = *client;
            self.actions.push_back(Action::HandleParked { client });
        }
    }

    /// Whether an allocation is there that awaits `client`.
    pub(super) fn is_awaited(&self, client: &FiveTuple) -> bool {
        let awaited = self.awaited.get(client);
        awaited.is_some_and(|awaited| self.stands(client, awaited))
    }

    /// Whose allocation awaits `client`.
    pub(super) fn awaited_owner(&self, client: &FiveTuple) -> Option<&Owner> {
        let awaited = self.awaited.get(client)?;
        self.stands(client, awaited).then_some(&awaited.owner)
    }

    fn stands(&self, client: &FiveTuple, awaited: &Awaited) -> bool {
        self.shared.mobility.awaited(awaited.id, client).is_some()
    }

    /// The connection on which a client was awaited is closed.
    pub(super) fn await_no_more(&mut self, client: &FiveTuple) {
        let awaited = self.awaited.get(client);
        let awaited = awaited.filter(|awaited| awaited.state == Waiting::Client);
        if let Some(id) = awaited.map(|awaited| awaited.id) {
            self.shared.mobility.withdraw(id, client);
            self.awaited.remove(client);
        }
    }

    /// The next packet that waited for the allocation of `client`.
    pub(super) fn parked_packet(&mut self, client: &FiveTuple) -> Option<Box<[u8]>> {
        let awaited = self.awaited.get_mut(client)?;
        let Waiting::Nothing { again } = awaited.state else {
            return None;
        };
        let packet = awaited.parked.pop_front();
        match packet {
            Some(_) => {}
            None if again => awaited.state = Waiting::Client,
            None => self.awaited.remove(client),
        }
        packet
    }
}

/// Which way an allocation passes the gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

pub(super) fn count_all(stats: &mut Stats, allocation: &Allocation, way: Way) {
    count_relays(stats, allocation, allocation.client.transport, way);
    let ports = allocation.relays.iter().count();
    count(stats, Counter::RelayPorts, ports, way);
    count(
        stats,
        Counter::Permissions,
        allocation.permissions.len(),
        way,
    );
    count(stats, Counter::Channels, allocation.channels.len(), way);
}

fn count_relays(stats: &mut Stats, allocation: &Allocation, transport: Transport, way: Way) {
    for relay in allocation.relays.iter() {
        count(
            stats,
            Counter::Allocations(transport, relay.family()),
            1,
            way,
        );
    }
}

fn count(stats: &mut Stats, gauge: Counter, amount: usize, way: Way) {
    match way {
        Way::In => stats.add(gauge, amount as u64),
        Way::Out => stats.subtract(gauge, amount as u64),
    }
}
