//! The mobile allocations of all shards, by ticket (RFC 8016).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::allocation::Allocation;
use super::five_tuple::{Family, FiveTuple};
use super::mobile_id::MobileId;
use super::owner::Owner;
use super::place::Place;
use super::ticket::Ticket;
use crate::time::Instant;

/// What all shards know of a mobile allocation.
#[derive(Clone, Debug)]
pub(super) struct Mobile {
    pub(super) place: Place,
    /// Who made it; nobody else's ticket is good.
    pub(super) owner: Owner,
    /// Where its client was last heard.
    pub(super) client: FiveTuple,
    /// When each of its families ends.
    pub(super) until: [Option<Instant>; 2],
}

/// A mobile allocation and its tickets.
#[derive(Debug)]
struct Entry {
    mobile: Mobile,
    /// The one that its client has.
    ticket: Ticket,
    /// The one that was issued after it. Its client may not have got it: both are good until the client
    /// is heard where it got it, or uses it.
    offered: Option<Ticket>,
    /// Where its client is awaited.
    next: Option<FiveTuple>,
}

/// The tickets that a mobile allocation has, and what comes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tickets {
    pub(super) ticket: Ticket,
    pub(super) offered: Option<Ticket>,
    pub(super) next: Option<FiveTuple>,
}

/// A Refresh with a ticket that passed every check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// The ticket of the request.
    pub(super) used: Ticket,
    /// The ticket of the response.
    pub(super) fresh: Ticket,
    /// Where the request came from.
    pub(super) to: FiveTuple,
    /// Which family it was for; none for all.
    pub(super) family: Option<Family>,
    pub(super) expires: Instant,
}

/// What requests lock when they have to do with mobile allocations; the relay path never comes here.
#[derive(Default)]
pub(super) struct Mobility(Mutex<Table>);

#[derive(Default)]
struct Table {
    ids: u64,
    by_ticket: BTreeMap<Ticket, MobileId>,
    entries: BTreeMap<MobileId, Entry>,
    /// Allocations between two shards, by their new five-tuple.
    moving: Vec<(FiveTuple, Box<Allocation>)>,
}

impl Mobility {
    /// Adds an allocation that `ticket` is good for from now on; none when the ticket is taken.
    pub(super) fn insert(&self, mobile: Mobile, ticket: Ticket) -> Option<MobileId> {
        let mut table = self.lock();
        if table.by_ticket.contains_key(&ticket) {
            return None;
        }
        let id = MobileId(table.ids);
        table.ids += 1;
        table.by_ticket.insert(ticket, id);
        let entry = Entry {
            mobile,
            ticket,
            offered: None,
            next: None,
        };
        table.entries.insert(id, entry);
        Some(id)
    }

    /// Adds an allocation that another process knows by `id`; false when the id or a ticket is taken.
    pub(super) fn adopt(&self, id: MobileId, mobile: Mobile, tickets: &Tickets) -> bool {
        let mut table = self.lock();
        let all = [Some(tickets.ticket), tickets.offered];
        let is_taken = |ticket| table.by_ticket.contains_key(ticket);
        if table.entries.contains_key(&id) || all.iter().flatten().any(is_taken) {
            return false;
        }
        for ticket in all.into_iter().flatten() {
            table.by_ticket.insert(ticket, id);
        }
        let entry = Entry {
            mobile,
            ticket: tickets.ticket,
            offered: tickets.offered,
            next: tickets.next,
        };
        table.entries.insert(id, entry);
        true
    }

    /// The id that the next allocation gets.
    pub(super) fn next_id(&self) -> u64 {
        self.lock().ids
    }

    /// Gives no id below `id` from now on: another process has given them.
    pub(super) fn go_on_from(&self, id: u64) {
        let mut table = self.lock();
        table.ids = table.ids.max(id);
    }

    /// What is known of an allocation, and its tickets; none when it was deleted.
    pub(super) fn get(&self, id: MobileId) -> Option<(Mobile, Tickets)> {
        let table = self.lock();
        let entry = table.entries.get(&id)?;
        let tickets = Tickets {
            ticket: entry.ticket,
            offered: entry.offered,
            next: entry.next,
        };
        Some((entry.mobile.clone(), tickets))
    }

    /// The allocation that `ticket` is good for at `now`.
    pub(super) fn find(&self, ticket: Ticket, now: Instant) -> Option<(MobileId, Mobile)> {
        let table = self.lock();
        let id = *table.by_ticket.get(&ticket)?;
        let mobile = &table.entries.get(&id)?.mobile;
        let lives = mobile.until.iter().flatten().any(|until| *until > now);
        lives.then(|| (id, mobile.clone()))
    }

    /// The ticket that the client of the allocation has.
    pub(super) fn ticket(&self, id: MobileId) -> Option<Ticket> {
        self.lock().entries.get(&id).map(|entry| entry.ticket)
    }

    /// Awaits the client on another five-tuple; where the allocation is, or none when the ticket is no
    /// longer good.
    pub(super) fn offer(&self, id: MobileId, offer: &Offer) -> Option<Place> {
        let mut table = self.lock();
        let Table {
            by_ticket, entries, ..
        } = &mut *table;
        if by_ticket.get(&offer.used) != Some(&id) || by_ticket.contains_key(&offer.fresh) {
            return None;
        }
        let entry = entries.get_mut(&id)?;
        if let Some(offered) = entry.offered {
            let stale = if offered == offer.used {
                std::mem::replace(&mut entry.ticket, offered)
            } else {
                offered
            };
            by_ticket.remove(&stale);
        }
        by_ticket.insert(offer.fresh, id);
        entry.offered = Some(offer.fresh);
        entry.next = Some(offer.to);
        entry.mobile.set_until(offer.family, offer.expires);
        Some(entry.mobile.place)
    }

    /// Where the allocation is whose client is awaited on `client`.
    pub(super) fn awaited(&self, id: MobileId, client: &FiveTuple) -> Option<Place> {
        let table = self.lock();
        let entry = table.entries.get(&id)?;
        (entry.next.as_ref() == Some(client)).then_some(entry.mobile.place)
    }

    /// Awaits the client on `client` no longer. Its tickets stay good.
    pub(super) fn withdraw(&self, id: MobileId, client: &FiveTuple) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.next.take_if(|next| next == client);
        }
    }

    /// The allocation is at `place` and its client was heard on `client`: only the ticket that was issued
    /// there is good. Returns when its families end, or none when it was deleted on the way.
    pub(super) fn settle(
        &self,
        id: MobileId,
        place: Place,
        client: FiveTuple,
    ) -> Option<[Option<Instant>; 2]> {
        let mut table = self.lock();
        let Table {
            by_ticket, entries, ..
        } = &mut *table;
        let entry = entries.get_mut(&id)?;
        entry.mobile.place = place;
        entry.mobile.client = client;
        if entry.next == Some(client) {
            entry.next = None;
            if let Some(offered) = entry.offered.take() {
                let stale = std::mem::replace(&mut entry.ticket, offered);
                by_ticket.remove(&stale);
            }
        }
        Some(entry.mobile.until)
    }

    /// The allocation belongs to another access token.
    pub(super) fn set_owner(&self, id: MobileId, owner: Owner) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.mobile.owner = owner;
        }
    }

    /// Sets when the allocation ends, all of it or one family.
    pub(super) fn set_until(&self, id: MobileId, family: Option<Family>, until: Instant) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.mobile.set_until(family, until);
        }
    }

    /// When the families of an allocation end whose time seems to have come. What a ticket has prolonged
    /// lives on; nothing prolongs any more what ends.
    pub(super) fn expire(&self, id: MobileId, now: Instant) -> [Option<Instant>; 2] {
        let mut table = self.lock();
        let until = table.entries.get(&id).map(|entry| entry.mobile.until);
        let until = until.unwrap_or_default();
        if until.iter().flatten().all(|until| *until <= now) {
            table.remove(id);
        }
        until
    }

    /// Forgets one family of a dual allocation.
    pub(super) fn end_family(&self, id: MobileId, family: Family) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.mobile.until[family as usize] = None;
        }
    }

    /// Forgets an allocation; its tickets are good for nothing.
    pub(super) fn end(&self, id: MobileId) {
        self.lock().remove(id);
    }

    /// Keeps an allocation until the shard of its new five-tuple collects it.
    pub(super) fn deposit(&self, client: FiveTuple, allocation: Box<Allocation>) {
        self.lock().moving.push((client, allocation));
    }

    /// The allocation that is to be `client`'s.
    pub(super) fn collect(&self, client: &FiveTuple) -> Option<Box<Allocation>> {
        let mut table = self.lock();
        let moving = &mut table.moving;
        let place = moving.iter().position(|(to, _)| to == client)?;
        Some(moving.swap_remove(place).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        let table = self.lock();
        table.entries.is_empty() && table.by_ticket.is_empty() && table.moving.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, id: MobileId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.by_ticket.remove(&entry.ticket);
            entry.offered.map(|offered| self.by_ticket.remove(&offered));
        }
    }
}

impl Mobile {
    fn set_until(&mut self, family: Option<Family>, until: Instant) {
        for each in Family::ALL {
            if family.is_none_or(|family| family == each) {
                let place = &mut self.until[each as usize];
                *place = place.map(|_| until);
            }
        }
    }
}

impl fmt::Debug for Mobility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mobility({} allocations)", self.lock().entries.len())
    }
}
