//! What arrives on stream connections, and how they end.

use super::connection::Role;
use super::dispatch::Route;
use super::event_loop::Shard;
use super::flush::update_interest;
use super::joined::Side;
use super::token::ConnectionId;
use super::turned::Turned;
use super::wire::{Arrival, End};
use crate::net::Readiness;
use crate::transport::{Frame, Framer, Garbled};
use crate::turn::{
    ConnectionEnd, Counter, Direction, Event, Eviction, FiveTuple, HandshakeFailure, PeerEnd,
    Reason,
};

/// The most bytes of half a message that are kept for a client without an allocation; no request of
/// an honest one is as long.
const STRANGERS_SHARE: usize = 4096;

/// What was found in the bytes of one read.
#[derive(Debug, Default)]
struct Found {
    /// A whole frame.
    any: bool,
    /// A frame that meant something.
    heard: bool,
    /// A payload that is queued where it arrived.
    queued: bool,
    garbled: bool,
    /// What stands behind the ConnectionBind request that succeeded.
    rest: Option<Vec<u8>>,
}

impl Shard {
    pub(super) fn serve_connection(&mut self, id: ConnectionId, ready: Readiness) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.joined.is_some() {
            return self.serve_joined(id, Side::Near, ready);
        }
        if connection.passing().is_some() {
            return self.serve_passage(id, ready);
        }
        if ready.writable {
            self.write_backlog(id);
        }
        if ready.readable {
            self.read_connection(id);
        }
    }

    fn write_backlog(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let stats = self.server.stats_mut();
        let written = connection.write_backlog(&mut self.tls_scratch, self.now.instant, stats);
        let written = written.and_then(|()| update_interest(connection, &self.poller, id));
        let (transport, sent) = (connection.five_tuple.transport, connection.take_sent());
        let stats = self.server.stats_mut();
        stats.add(Counter::ConnectionBytes(transport), sent);
        if let Err(end) = written {
            self.doomed.push((id, end));
        }
    }

    fn read_connection(&mut self, id: ConnectionId) {
        self.make_room(1);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some(room) = self.buffers.free_packets().next() else {
            return;
        };
        let arrival = connection.read(room);
        self.handle_arrival(id, arrival);
    }

    /// Handles what a read brought into the next free slot.
    pub(super) fn handle_arrival(&mut self, id: ConnectionId, arrival: Arrival) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let watched = update_interest(connection, &self.poller, id);
        let is_turn = matches!(connection.role, Role::Turn);
        if arrival.established {
            let client = connection.five_tuple.client;
            self.connections.end_handshake();
            let stats = self.server.stats_mut();
            stats.subtract(Counter::TlsHandshaking, 1);
            stats.increment(Counter::TlsHandshakes);
            tracing::debug!(shard = self.index, %client, "TLS handshake complete");
        }
        let rest = if !is_turn {
            self.handle_others(id, arrival.length)
        } else if arrival.length > 0 {
            self.handle_bytes(id, arrival.length)
        } else {
            None
        };
        if let Some(rest) = rest {
            return self.begin_relaying(id, &rest, arrival.end);
        }
        if arrival.end.is_some_and(|end| !self.end_passage(id, end)) || watched.is_err() {
            let end = arrival.end.map_or(ConnectionEnd::Closed, End::reason);
            self.doomed.push((id, end));
        }
    }

    /// Handles what is in the next free slot, of a connection that is not simply a client's; returns what
    /// `handle_bytes` does.
    fn handle_others(&mut self, id: ConnectionId, length: usize) -> Option<Vec<u8>> {
        match self.connections.get(id)?.role {
            Role::Unknown(_) => self.hear(id, length),
            Role::Binding if length > 0 => self.handle_binding(id, length),
            Role::Turn | Role::Binding | Role::Passing(_) => None,
        }
    }

    /// Handles the frames in the next free slot. What stands behind a request that made it a data
    /// connection is returned.
    pub(super) fn handle_bytes(&mut self, id: ConnectionId, length: usize) -> Option<Vec<u8>> {
        let connection = self.connections.get(id)?;
        let five_tuple = connection.five_tuple;
        let mut framer = std::mem::take(&mut connection.framer);
        let found = self.handle_frames(five_tuple, &mut framer, length);
        if found.queued {
            self.buffers.take(1);
        }
        let is_stranger = || !self.server.has_allocation(&five_tuple);
        if found.garbled || framer.waiting() > STRANGERS_SHARE && is_stranger() {
            self.doomed.push((id, ConnectionEnd::Garbled));
        }
        let now = self.now.instant;
        if let Some(connection) = self.connections.get(id) {
            connection.framer = framer;
            connection.note_rest(found.any, now);
            if found.heard {
                connection.note_heard(now);
            }
            self.connections.refile(id);
        }
        found.rest
    }

    fn handle_frames(&mut self, from: FiveTuple, framer: &mut Framer, length: usize) -> Found {
        let mut found = Found::default();
        let mut done = 0;
        loop {
            self.reserve();
            let mut input = &self.buffers.packet(0, length)[done..];
            let frame = framer.next_frame(&mut input);
            done = length - input.len();
            let route = match frame {
                Ok(Some(Frame::Whole(bytes))) => {
                    let frame = self.buffers.locate(bytes).unwrap_or_default();
                    let verdict = self.server.handle_client(self.now, from, bytes);
                    let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
                    self.buffers.claim(frame);
                    route
                }
                Ok(Some(Frame::Held(bytes))) => {
                    let verdict = self.server.handle_client(self.now, from, bytes);
                    Route::of(&verdict, |payload| self.buffers.keep(payload))
                }
                Ok(None) => return found,
                Err(Garbled) => {
                    found.garbled = true;
                    return found;
                }
            };
            found.any = true;
            found.heard |= !matches!(route, Route::Dropped);
            found.queued |= matches!(route, Route::ToPeer(..) | Route::ToRelay(..));
            self.follow_frame(route);
            if let Some(turned) = self.turned.take() {
                let behind = self.buffers.packet(0, length)[done..].to_vec();
                match turned {
                    Turned::Joined => found.rest = Some(behind),
                    Turned::Formers(request) if self.hand_back(from, &request, &behind) => {}
                    Turned::Formers(_) => continue,
                }
                return found;
            }
        }
    }

    /// Follows what came of a message that did not arrive in a slot of its own.
    pub(super) fn follow_frame(&mut self, route: Route) {
        if let Route::ToClient(_, _, payload) = route {
            // There is no head room between the frames of a stream, and nothing that needs it.
            let stats = self.server.stats_mut();
            stats.relay_failed(Direction::ToClient, payload.len(), Reason::SendFailed);
            return self.drain();
        }
        self.follow(route);
    }

    /// Closes a connection that has been quiet for too long, unless its allocation lives.
    pub(super) fn close_if_quiet(&mut self, id: ConnectionId) {
        if self.close_if_stuck(id) {
            return;
        }
        let now = self.now.instant;
        let limits = *self.connections.limits();
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if let Some(joined) = &mut connection.joined {
            if joined.is_paused() {
                return self.pump(id);
            }
            joined.end.get_or_insert(PeerEnd::Idle);
            return self.close(id, ConnectionEnd::PeerGone);
        }
        let silent = connection.is_silent(now, &limits);
        if !silent && self.server.has_allocation(&connection.five_tuple) {
            connection.note_heard(now);
        } else {
            self.close(id, ConnectionEnd::Silent);
        }
    }

    /// Closes a connection now.
    pub(super) fn close(&mut self, id: ConnectionId, end: ConnectionEnd) {
        let Some(mut connection) = self.connections.remove(id) else {
            return;
        };
        let client = connection.five_tuple;
        let (transport, unsent) = (client.transport, connection.unsent_media());
        let (end, failure) = connection.name_end(end);
        if end != ConnectionEnd::HandedBack {
            connection.say_goodbye();
        }
        let passed = u64::from(connection.passing().is_some());
        if let Some(joined) = connection.joined.take() {
            self.disjoin(&joined, end);
        }
        drop(connection);
        let stats = self.server.stats_mut();
        stats.add(Counter::BacklogEvicted(Eviction::Closed), unsent as u64);
        stats.subtract(Counter::Connections(transport), 1);
        stats.subtract(Counter::Passing, passed);
        stats.increment(Counter::ConnectionsClosed(transport, end));
        if let Some(failure) = failure {
            stats.subtract(Counter::TlsHandshaking, 1);
            stats.increment(Counter::TlsHandshakesFailed(failure));
        }
        self.server
            .handle_event(self.now, Event::ClientGone { client });
        self.drain();
        tracing::debug!(
            shard = self.index,
            client = %client.client,
            transport = ?transport,
            end = failure.map_or(end.label(), HandshakeFailure::label),
            "connection closed"
        );
    }
}
