//! How allocations begin: their relay sockets are opened, and the port above reserved (RFC 8656 §7.2).

use super::allocation::{Allocation, Neighbour, State};
use super::allocation_key::AllocationKey;
use super::exchange::Action;
use super::five_tuple::Family;
use super::ports::Parity;
use super::relay::{MAX_TRIES, Relay, Socket};
use super::reply::{Missing, Refusal};
use super::reservation::{HELD, Reservation, Token};
use super::server::Server;
use super::stats::Counter;
use crate::time::{Instant, Now};

impl Server {
    /// A relay socket is bound.
    pub(super) fn relay_opened(&mut self, now: Now, key: AllocationKey, family: Family) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.is_live() {
            return;
        }
        let state = allocation.state;
        if let Some(relay) = allocation.relays.get_mut(family) {
            relay.socket = Socket::Open;
        }
        let are_open = allocation.relays.are_open();
        match state {
            State::Opening => self.begin(now, key),
            State::Arriving if are_open => self.land(key),
            State::HandedOver if are_open => self.take_over(key),
            State::Arriving | State::HandedOver | State::Live => {}
        }
    }

    /// When all sockets are bound the allocation begins to live and its client learns of it.
    fn begin(&mut self, now: Now, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if !allocation.relays.are_open() {
            return;
        }
        allocation.state = State::Live;
        let lifetime = allocation.origin.lifetime;
        let transport = allocation.client.transport;
        for relay in allocation.relays.iter() {
            let family = relay.family();
            self.stats
                .increment(Counter::AllocationsCreated(transport, family));
            self.stats
                .increment(Counter::Allocations(transport, family));
            self.stats.increment(Counter::RelayPorts);
            tracing::debug!(
                client = %allocation.client.client,
                user = ?allocation.owner.username,
                relayed = %relay.public,
                "allocation begun"
            );
        }
        self.announce_here(key);
        self.reserve_neighbour(now.instant, key);
        self.issue_ticket(key);
        self.set_expiry(key, None, now.instant + lifetime);
        self.answer_allocate(key);
    }

    /// A relay socket could not be bound: another port, or without this family, or 508.
    pub(super) fn relay_failed(
        &mut self,
        now: Now,
        key: AllocationKey,
        family: Family,
        retry: bool,
    ) {
        self.stats.increment(Counter::RelayFailures);
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        match allocation.state {
            State::Opening => {}
            State::Arriving => return self.lose(key),
            State::HandedOver | State::Live => return self.lose_family(key, family),
        }
        let neighbour = allocation.origin.neighbour;
        let Some(failed) = allocation.relays.get(family).copied() else {
            return;
        };
        let Socket::Opening { tries } = failed.socket else {
            return;
        };
        let again = retry && tries + 1 < MAX_TRIES;
        // The failed port goes back only after the next one is drawn.
        let next = if again {
            self.take_port(failed.local, parity_of(&failed, neighbour))
        } else {
            None
        };
        self.give_back_ports(&failed, neighbour);
        match next {
            Some(relay) => self.try_again(key, relay, tries + 1),
            None => self.do_without(now, key, family),
        }
    }

    fn try_again(&mut self, key: AllocationKey, mut relay: Relay, tries: u8) {
        relay.socket = Socket::Opening { tries };
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if let Some(place) = allocation.relays.get_mut(relay.family()) {
            *place = relay;
        }
        let local = relay.bind_address();
        self.actions.push_back(match allocation.origin.neighbour {
            Neighbour::Wanted => Action::OpenPair { key, local },
            _ if allocation.is_tcp() => Action::OpenTcpRelay { key, local },
            Neighbour::None | Neighbour::Reserved(_) => Action::OpenRelay { key, local },
        });
    }

    /// There is no socket of `family`: half of a dual allocation is better than nothing.
    fn do_without(&mut self, now: Now, key: AllocationKey, family: Family) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.relays.remove(family).is_none() {
            return self.give_up(now, key);
        }
        allocation.origin.missing = Some(Missing {
            family,
            unsupported: false,
        });
        self.begin(now, key);
    }

    /// Answers the parked Allocate with 508.
    fn give_up(&mut self, now: Now, key: AllocationKey) {
        let Some(allocation) = self.allocations.remove(key) else {
            return;
        };
        self.release_quota(&allocation);
        let reply = allocation.origin.reply(allocation.client);
        let signature = allocation.signature();
        self.refuse(
            now,
            &reply,
            &Refusal::InsufficientCapacity,
            Some(&signature),
        );
    }

    /// Gives back the port of a relay, and that above it which was being bound with it.
    pub(super) fn give_back_ports(&mut self, relay: &Relay, neighbour: Neighbour) {
        self.give_back_port(relay.public);
        if neighbour == Neighbour::Wanted {
            self.give_back_port(relay.next().public);
        }
    }

    /// Puts the port above, whose socket is bound, under a token.
    fn reserve_neighbour(&mut self, now: Instant, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.origin.neighbour != Neighbour::Wanted {
            return;
        }
        let Some(reservation) = reservation(allocation, now) else {
            return;
        };
        let token = loop {
            let token = Token(self.random.bytes());
            if self.shared.reservations.insert(token, reservation.clone()) {
                break token;
            }
        };
        allocation.origin.neighbour = Neighbour::Reserved(token);
        self.reserved.push_back((reservation.expires, token));
        self.deadlines
            .push(reservation.expires, AllocationKey::RESERVATIONS);
    }

    /// Ends the reservations that nobody has redeemed in time.
    pub(super) fn expire_reservations(&mut self, now: Instant) {
        while let Some((_, token)) = self.reserved.front().filter(|(at, _)| *at <= now).copied() {
            self.reserved.pop_front();
            if let Some(Reservation { relay, account, .. }) = self.shared.reservations.take(token) {
                let local = relay.bind_address();
                self.actions.push_back(Action::DropReserved { local });
                self.give_back_port(relay.public);
                self.give_back_quota(&account, 1);
            }
        }
    }
}

/// The reservation of the port above the allocation's.
fn reservation(allocation: &Allocation, now: Instant) -> Option<Reservation> {
    let relay = allocation.relays.iter().next()?;
    Some(Reservation {
        relay: relay.next(),
        account: allocation.account.clone(),
        expires: now + HELD,
    })
}

/// What was at least asked for when the port of `relay` was drawn.
fn parity_of(relay: &Relay, neighbour: Neighbour) -> Parity {
    match neighbour {
        Neighbour::Wanted => Parity::Pair,
        Neighbour::None | Neighbour::Reserved(_) => Parity::of(relay.public.port()),
    }
}
