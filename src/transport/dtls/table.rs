//! The clients that have returned their cookie: by five-tuple, by source, by deadline, by age.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::session::Session;
use crate::time::Instant;
use crate::transport::sources::Sources;
use crate::turn::FiveTuple;

/// Names an entry while it is there.
pub(super) type Place = usize;

/// A client's sessions.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) client: FiveTuple,
    /// The one that is established.
    pub(super) open: Option<Session>,
    /// A handshake, beside the established session or without one.
    half: Option<(u64, Session)>,
    /// Its place among the deadlines; the true deadline is this one or later.
    due: Instant,
}

impl Entry {
    pub(super) fn half(&mut self) -> Option<&mut Session> {
        self.half.as_mut().map(|(_, session)| session)
    }

    fn deadline(&self, idle_after: Duration) -> Instant {
        let half = self.half.as_ref().map(|(_, session)| session.timer);
        let open = self.open.as_ref();
        let open = open.map(|session| session.timer.min(session.heard + idle_after));
        let first = half.into_iter().chain(open).min();
        first.unwrap_or(Instant::FAR_FUTURE)
    }
}

/// Every session.
#[derive(Debug)]
pub(super) struct Table {
    idle_after: Duration,
    entries: Vec<Option<Entry>>,
    free: Vec<Place>,
    by_client: HashMap<FiveTuple, Place, foldhash::fast::RandomState>,
    /// Counts of all shards.
    sources: Arc<Sources>,
    deadlines: BTreeSet<(Instant, Place)>,
    /// Handshakes in the order in which they began.
    halves: BTreeMap<u64, Place>,
    next: u64,
}

impl Table {
    pub(super) fn new(idle_after: Duration, sources: Arc<Sources>) -> Self {
        Self {
            idle_after,
            entries: Vec::new(),
            free: Vec::new(),
            by_client: HashMap::default(),
            sources,
            deadlines: BTreeSet::new(),
            halves: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) const fn set_idle_after(&mut self, idle_after: Duration) {
        self.idle_after = idle_after;
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Handshakes that go on.
    pub(super) fn halves(&self) -> usize {
        self.halves.len()
    }

    /// Clients of the same source: an IPv4 address, an IPv6 /64.
    pub(super) fn of_source(&self, client: IpAddr) -> usize {
        self.sources.of(client)
    }

    pub(super) fn find(&self, client: &FiveTuple) -> Option<Place> {
        self.by_client.get(client).copied()
    }

    pub(super) fn get(&mut self, place: Place) -> Option<&mut Entry> {
        self.entries.get_mut(place)?.as_mut()
    }

    /// Some client.
    pub(super) fn any(&self) -> Option<Place> {
        self.by_client.values().next().copied()
    }

    /// Keeps a handshake of a client that has no other.
    pub(super) fn begin(&mut self, client: FiveTuple, session: Session) {
        let place = self.find(&client).unwrap_or_else(|| self.add(client));
        self.next += 1;
        let number = self.next;
        self.halves.insert(number, place);
        if let Some(entry) = self.get(place) {
            entry.half = Some((number, session));
        }
        self.refile(place);
    }

    /// Takes the handshake out.
    pub(super) fn take_half(&mut self, place: Place) -> Option<Session> {
        let (number, session) = self.get(place)?.half.take()?;
        self.halves.remove(&number);
        Some(session)
    }

    /// The client whose handshake has gone on for longest.
    pub(super) fn oldest_half(&self) -> Option<Place> {
        self.halves.first_key_value().map(|(_, place)| *place)
    }

    fn add(&mut self, client: FiveTuple) -> Place {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        let due = Instant::FAR_FUTURE;
        self.entries[place] = Some(Entry {
            client,
            open: None,
            half: None,
            due,
        });
        self.deadlines.insert((due, place));
        self.by_client.insert(client, place);
        self.sources.enter(client.client.ip());
        place
    }

    /// Forgets a client without sessions; otherwise sees to its deadline.
    pub(super) fn settle(&mut self, place: Place) {
        let Some(entry) = self.get(place) else {
            return;
        };
        if entry.open.is_some() || entry.half.is_some() {
            return self.refile(place);
        }
        let (client, due) = (entry.client, entry.due);
        self.entries[place] = None;
        self.free.push(place);
        self.deadlines.remove(&(due, place));
        self.by_client.remove(&client);
        self.sources.leave(client.client.ip());
    }

    /// When the first deadline is to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let (due, _) = self.deadlines.first()?;
        (*due < Instant::FAR_FUTURE).then_some(*due)
    }

    /// A client whose deadline has passed. It is to be settled.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Place> {
        while let Some((due, place)) = self.deadlines.first().copied() {
            if due > now {
                break;
            }
            let idle_after = self.idle_after;
            match self.get(place).map(|entry| entry.deadline(idle_after)) {
                Some(deadline) if deadline <= now => return Some(place),
                Some(deadline) => self.file(place, deadline),
                None => {
                    self.deadlines.pop_first();
                }
            }
        }
        None
    }

    /// A deadline that moved away is left where it is filed until it comes up.
    fn refile(&mut self, place: Place) {
        let idle_after = self.idle_after;
        if let Some(entry) = self.get(place) {
            let deadline = entry.deadline(idle_after);
            if deadline < entry.due {
                self.file(place, deadline);
            }
        }
    }

    fn file(&mut self, place: Place, deadline: Instant) {
        if let Some(entry) = self.get(place) {
            let due = std::mem::replace(&mut entry.due, deadline);
            self.deadlines.remove(&(due, place));
            self.deadlines.insert((deadline, place));
        }
    }
}
