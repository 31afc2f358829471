//! The shard's stream connections: by token, by five-tuple, by source and by deadline.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::StreamLimits;
use super::connection::Connection;
use super::token::{ConnectionId, MOST};
use crate::time::Instant;
use crate::transport::Sources;
use crate::turn::FiveTuple;

/// Descriptors of a connection more when what is inside its TLS session is lent: one end of a pair of sockets,
/// and what tells of the end. Each counts as a connection, for which one is reckoned.
const LENT: usize = 2;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    /// Its place among the deadlines; the true deadline is this one or later.
    due: Instant,
    /// Whom it is counted against.
    source: Option<IpAddr>,
    /// How many more connections it counts as.
    lent: usize,
}

/// Every open connection.
#[derive(Debug)]
pub(super) struct Connections {
    limits: StreamLimits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_five_tuple: HashMap<FiveTuple, ConnectionId, foldhash::fast::RandomState>,
    /// Counts of all shards.
    sources: Arc<Sources>,
    deadlines: BTreeSet<(Instant, ConnectionId)>,
    /// TLS handshakes as they began, with some that have ended.
    handshakes: VecDeque<ConnectionId>,
    handshaking: usize,
    /// How many more connections all count as.
    lent: usize,
}

impl Connections {
    pub(super) fn new(limits: StreamLimits, sources: Arc<Sources>) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_five_tuple: HashMap::default(),
            sources,
            deadlines: BTreeSet::new(),
            handshakes: VecDeque::new(),
            handshaking: 0,
            lent: 0,
        }
    }

    pub(super) const fn limits(&self) -> &StreamLimits {
        &self.limits
    }

    /// From now on `limits` hold; what a connection may hold back is as it was when it began.
    pub(super) const fn set_limits(&mut self, limits: StreamLimits) {
        self.limits = limits;
    }

    /// Whether a further connection from `client` is within the limits.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        self.has_room() && self.has_room_for(client)
    }

    /// Whether any further connection is within the limits.
    pub(super) fn has_room(&self) -> bool {
        self.taken() < self.limits.connections.min(MOST)
    }

    fn taken(&self) -> usize {
        self.by_five_tuple.len() + self.lent
    }

    /// Whether what is inside one of them may be lent to another process within the limits.
    pub(super) fn can_lend(&self) -> bool {
        self.taken() + LENT <= self.limits.connections
    }

    /// Counts what is inside a connection as lent, until it is closed.
    pub(super) fn note_lent(&mut self, id: ConnectionId) {
        if let Some(entry) = self.entry(id) {
            entry.lent += LENT;
            self.lent += LENT;
        }
    }

    fn has_room_for(&self, client: IpAddr) -> bool {
        self.sources.of(client) < self.limits.connections_per_source
    }

    /// Keeps `connection`, whose five-tuple no other one has. One without a name is counted against
    /// nobody.
    pub(super) fn insert(&mut self, connection: Connection) -> ConnectionId {
        let five_tuple = connection.five_tuple;
        let due = connection.deadline(&self.limits);
        let source = (!connection.is_nameless()).then(|| five_tuple.client.ip());
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        let id = ConnectionId {
            index,
            generation: slot.generation,
        };
        self.handshaking += usize::from(connection.is_handshaking());
        let lent = usize::from(connection.goodbye().is_some());
        self.lent += lent;
        slot.entry = Some(Entry {
            connection,
            due,
            source,
            lent,
        });
        self.deadlines.insert((due, id));
        self.by_five_tuple.insert(five_tuple, id);
        if let Some(source) = source {
            self.sources.enter(source);
        }
        id
    }

    /// Gives a connection another five-tuple, which no other one has, and returns the old one.
    pub(super) fn rename(&mut self, id: ConnectionId, five_tuple: FiveTuple) -> Option<FiveTuple> {
        let connection = self.get(id)?;
        let old = std::mem::replace(&mut connection.five_tuple, five_tuple);
        self.by_five_tuple.remove(&old);
        self.by_five_tuple.insert(five_tuple, id);
        Some(old)
    }

    /// Counts a connection that has got its name against its source; false when that has too many.
    pub(super) fn count(&mut self, id: ConnectionId) -> bool {
        let Some(client) = self.get(id).map(|one| one.five_tuple.client.ip()) else {
            return false;
        };
        if !self.has_room_for(client) {
            return false;
        }
        if let Some(entry) = self.entry(id)
            && entry.source.is_none()
        {
            entry.source = Some(client);
            self.sources.enter(client);
        }
        true
    }

    /// The connection that `id` names, if it is still open.
    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.entry(id).map(|entry| &mut entry.connection)
    }

    fn entry(&mut self, id: ConnectionId) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let current = slot.generation == id.generation;
        slot.entry.as_mut().filter(|_| current)
    }

    /// The connection of a client.
    pub(super) fn find(&self, five_tuple: &FiveTuple) -> Option<ConnectionId> {
        self.by_five_tuple.get(five_tuple).copied()
    }

    /// Some open connection.
    pub(super) fn any(&self) -> Option<ConnectionId> {
        self.by_five_tuple.values().next().copied()
    }

    /// Queues a handshake that begins, and returns the oldest one when there are too many.
    pub(super) fn begin_handshake(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        self.handshakes.push_back(id);
        if self.handshaking <= self.limits.handshakes {
            self.forget_ended_handshakes();
            return None;
        }
        while let Some(oldest) = self.handshakes.pop_front() {
            if self.is_handshaking(oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// Counts a handshake of a connection that was there before it.
    pub(super) fn enter_handshake(&mut self) {
        self.handshaking += 1;
    }

    /// Counts a handshake that was completed.
    pub(super) fn end_handshake(&mut self) {
        self.handshaking -= 1;
    }

    /// Keeps the queue from growing with handshakes that have ended.
    fn forget_ended_handshakes(&mut self) {
        if self.handshakes.len() > 2 * self.limits.handshakes {
            let mut handshakes = std::mem::take(&mut self.handshakes);
            handshakes.retain(|id| self.is_handshaking(*id));
            self.handshakes = handshakes;
        }
    }

    fn is_handshaking(&mut self, id: ConnectionId) -> bool {
        self.get(id)
            .is_some_and(|connection| connection.is_handshaking())
    }

    /// Forgets a connection; dropping it closes it.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let entry = self.entry(id)?;
        let due = entry.due;
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let Entry {
            connection,
            source,
            lent,
            ..
        } = slot.entry.take()?;
        self.lent -= lent;
        self.handshaking -= usize::from(connection.is_handshaking());
        self.free.push(id.index);
        self.deadlines.remove(&(due, id));
        self.by_five_tuple.remove(&connection.five_tuple);
        if let Some(source) = source {
            self.sources.leave(source);
        }
        Some(connection)
    }

    /// When the first deadline is to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// A connection that has been quiet for too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<ConnectionId> {
        while let Some((due, id)) = self.deadlines.first().copied() {
            if due > now {
                break;
            }
            let limits = self.limits;
            let deadline = self.get(id).map(|connection| connection.deadline(&limits));
            match deadline {
                Some(deadline) if deadline <= now => return Some(id),
                Some(deadline) => self.file(id, deadline),
                None => {
                    self.deadlines.pop_first();
                }
            }
        }
        None
    }

    /// Looks at a connection's deadline again after something happened. A deadline that moved away is
    /// left where it is filed until it comes up.
    pub(super) fn refile(&mut self, id: ConnectionId) {
        let limits = self.limits;
        if let Some(entry) = self.entry(id) {
            let deadline = entry.connection.deadline(&limits);
            if deadline < entry.due {
                self.file(id, deadline);
            }
        }
    }

    fn file(&mut self, id: ConnectionId, deadline: Instant) {
        if let Some(entry) = self.entry(id) {
            let due = std::mem::replace(&mut entry.due, deadline);
            self.deadlines.remove(&(due, id));
            self.deadlines.insert((deadline, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Role;
    use super::super::wire::Session;
    use super::*;
    use crate::turn::Transport;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    const START: Instant = Instant::from_nanos(1);

    fn limits() -> StreamLimits {
        StreamLimits {
            connections: 3,
            connections_per_source: 2,
            ..StreamLimits::default()
        }
    }

    fn open(connections: &mut Connections, client: &str) -> ConnectionId {
        open_as(connections, client, Role::Turn)
    }

    fn open_as(connections: &mut Connections, client: &str, role: Role) -> ConnectionId {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let stream = TcpStream::connect(server).unwrap();
        let five_tuple = FiveTuple {
            transport: Transport::Tcp,
            client: client.parse().unwrap(),
            server,
        };
        let limits = *connections.limits();
        connections.insert(Connection::new(
            stream,
            Session::Plain,
            role,
            five_tuple,
            START,
            &limits,
        ))
    }

    fn after(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn limits_hold_per_shard_and_per_source() {
        let mut connections = Connections::new(limits(), Arc::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        open(&mut connections, "[2001:db8::1]:1");
        let second = open(&mut connections, "[2001:db8::2]:1");
        assert!(!connections.admits(ip("2001:db8::3")));
        assert!(connections.admits(ip("2001:db8:0:1::3")));
        open(&mut connections, "192.0.2.1:1");
        assert!(!connections.admits(ip("192.0.2.9")));
        assert!(connections.remove(second).is_some());
        assert!(connections.admits(ip("2001:db8::3")));
        assert_eq!(connections.sources.of(ip("192.0.2.1")), 1);
    }

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut connections = Connections::new(limits(), Arc::default());
        let old = open(&mut connections, "192.0.2.1:1");
        assert!(connections.remove(old).is_some());
        let new = open(&mut connections, "192.0.2.1:2");
        assert_eq!(old.index, new.index);
        assert!(connections.get(old).is_none() && connections.remove(old).is_none());
        let five_tuple = connections.get(new).expect("open").five_tuple;
        assert_eq!(connections.find(&five_tuple), Some(new));
        assert_eq!(connections.any(), Some(new));
    }

    #[test]
    fn silence_is_noticed_in_time() {
        let mut connections = Connections::new(limits(), Arc::default());
        let id = open(&mut connections, "192.0.2.1:1");
        assert_eq!(connections.next_deadline(), Some(after(10)));
        assert_eq!(connections.overdue(after(9)), None);
        assert_eq!(connections.overdue(after(10)), Some(id));

        connections.get(id).expect("open").note_heard(after(10));
        assert_eq!(connections.overdue(after(69)), None);
        assert_eq!(connections.next_deadline(), Some(after(70)));
        assert_eq!(connections.overdue(after(70)), Some(id));
    }

    #[test]
    fn what_is_to_be_bound_has_only_so_much_time() {
        let mut connections = Connections::new(limits(), Arc::default());
        let id = open_as(&mut connections, "192.0.2.1:1", Role::Binding);
        for second in 1..10 {
            let connection = connections.get(id).expect("open");
            connection.note_heard(after(second));
            assert!(!connection.is_silent(after(second), &limits()));
            connections.refile(id);
            assert_eq!(connections.overdue(after(second)), None);
        }
        assert_eq!(connections.overdue(after(10)), Some(id));
        let connection = connections.get(id).expect("open");
        assert!(connection.is_silent(after(10), &limits()));
    }

    #[test]
    fn what_is_lent_counts_as_much_as_it_costs() {
        let limits = StreamLimits {
            connections: 5,
            connections_per_source: 5,
            ..StreamLimits::default()
        };
        let mut connections = Connections::new(limits, Arc::default());
        let [first, second, third] = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"]
            .map(|client| open(&mut connections, client));
        assert!(connections.can_lend());
        connections.note_lent(first);
        assert!(!connections.has_room() && !connections.can_lend());
        assert!(connections.remove(second).is_some());
        assert!(connections.has_room() && !connections.can_lend());
        assert!(connections.remove(third).is_some());
        assert!(connections.can_lend());
        assert!(connections.remove(first).is_some());
        assert_eq!(connections.lent, 0);
    }

    #[test]
    fn half_a_frame_brings_the_deadline_forward() {
        let mut connections = Connections::new(limits(), Arc::default());
        let id = open(&mut connections, "192.0.2.1:1");
        let connection = connections.get(id).expect("open");
        connection.note_heard(after(1));
        assert_eq!(connection.framer.next_frame(&mut &[0x40_u8][..]), Ok(None));
        connection.note_rest(true, after(2));
        connection.note_rest(false, after(8));
        connections.refile(id);
        assert_eq!(connections.overdue(after(11)), None);
        assert_eq!(connections.overdue(after(12)), Some(id));
        let limits = limits();
        let connection = connections.get(id).expect("open");
        assert!(connection.is_silent(after(12), &limits));
    }

    #[test]
    fn nothing_is_left_of_a_closed_connection() {
        let mut connections = Connections::new(limits(), Arc::default());
        for _ in 0..20 {
            let id = open(&mut connections, "192.0.2.1:1");
            assert!(connections.remove(id).is_some());
        }
        assert_eq!(connections.slots.len(), 1);
        assert_eq!(connections.next_deadline(), None);
        assert!(connections.sources.is_empty() && connections.by_five_tuple.is_empty());
    }
}
