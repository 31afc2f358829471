//! Client data connections of TCP allocations that stay in the process from which another one took over
//! (RFC 6062 §5.4).
//!
//! They are made where the listening sockets are now, to the new process. It hands those back whose
//! ConnectionBind names an id of the old one: the connection itself, or, when TLS is around it, one end of a
//! pair of sockets, whose other end it joins with the session. Who the client is, the old one asks, which
//! has the allocation.

use std::io;
use std::net::TcpStream;

use super::connection::{Connection, Role};
use super::dispatch::Route;
use super::event_loop::Shard;
use super::passage::Passage;
use super::token::{ConnectionId, Token};
use super::wire::{Arrival, Session, Wire};
use crate::net::{Interest, stream_pair};
use crate::turn::{ConnectionEnd, Counter, FiveTuple, Transport};

/// Connections that one pass takes back.
const CONNECTIONS: usize = 16;

impl Shard {
    /// Hands the connection of `client` back with its `request`, and what it said behind that; tells whether
    /// it is gone. If it cannot be, the request is answered here.
    pub(super) fn hand_back(&mut self, client: FiveTuple, request: &[u8], behind: &[u8]) -> bool {
        self.queue_responses();
        self.flush();
        let said = [request, behind].concat();
        let handed = self
            .connections
            .find(&client)
            .map(|id| match client.transport {
                Transport::Tls => self.hand_back_session(id, &said),
                _ => self.hand_back_socket(id, &said),
            });
        if let Some(Ok(())) = handed {
            tracing::debug!(shard = self.index, client = %client.client, "connection handed back");
            return true;
        }
        if let Some(Err(error)) = handed {
            tracing::debug!(shard = self.index, %error, "a connection cannot be handed back");
        }
        let verdict = self.server.handle_kept(self.now, client, request);
        let route = Route::of(&verdict, |_| None);
        self.follow_frame(route);
        false
    }

    fn hand_back_socket(&mut self, id: ConnectionId, said: &[u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get(id) else {
            return Ok(());
        };
        if connection.has_backlog() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let way = self.former.binds.as_mut();
        let way = way.ok_or(io::ErrorKind::NotConnected)?;
        let sent = way.send(&connection.five_tuple, said, &*connection);
        // It lives on elsewhere, so that closing it alone does not take it from the poller.
        let let_go = sent.and_then(|()| self.poller.remove(&*connection));
        self.note_way(&let_go);
        let_go.map(|()| self.close(id, ConnectionEnd::HandedBack))
    }

    fn hand_back_session(&mut self, id: ConnectionId, said: &[u8]) -> io::Result<()> {
        let limits = *self.connections.limits();
        let Some(connection) = self.connections.get(id) else {
            return Ok(());
        };
        let way = self.former.binds.as_mut();
        let way = way.ok_or(io::ErrorKind::NotConnected)?;
        let (ours, theirs) = stream_pair()?;
        let far = Wire::new(ours, Session::Plain);
        self.poller
            .add(&far, Token::Far(id).to_bits(), Interest::Read)?;
        let sent = way.send(&connection.five_tuple, said, &theirs);
        if sent.is_ok() {
            let early = connection.take_backlog();
            let passage = Passage::back(far, &early, self.now.instant, limits.idle_after);
            connection.role = Role::Passing(Box::new(passage));
            self.server.stats_mut().increment(Counter::Passing);
            self.carry(id);
        }
        self.note_way(&sent);
        sent
    }

    /// Notes it when the other process has gone.
    fn note_way(&mut self, sent: &io::Result<()>) {
        let error = sent.as_ref().err().map(io::Error::kind);
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if error.is_some_and(|error| gone.contains(&error)) {
            self.former.binds = None;
            self.server.forget_formers();
        }
    }

    /// Takes the connections that the process that took over hands back.
    pub(super) fn take_back(&mut self) {
        for _ in 0..CONNECTIONS {
            let Some(way) = &mut self.successor.binds else {
                return;
            };
            match way.receive() {
                Ok(one) => {
                    let (from, stream, said) = (one.from, one.stream, one.said.to_vec());
                    self.admit_back(from, stream, &said);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::InvalidData => {}
                    io::ErrorKind::Other => self.pause_accepting(),
                    _ => return self.lose_binds(),
                },
            }
        }
    }

    fn admit_back(&mut self, from: FiveTuple, stream: TcpStream, said: &[u8]) {
        let is_admitted = self.connections.admits(from.client.ip());
        let opened = self.enter(from.transport, is_admitted, |shard| {
            let (now, limits) = (shard.now.instant, shard.connections.limits());
            let role = Role::Binding;
            let connection = Connection::new(stream, Session::Plain, role, from, now, limits);
            shard.keep(connection)
        });
        let Some(id) = opened else {
            return;
        };
        self.make_room(1);
        let Some(room) = self.buffers.free_packets().next() else {
            return;
        };
        room[..said.len()].copy_from_slice(said);
        let arrival = Arrival {
            length: said.len(),
            ..Arrival::default()
        };
        self.handle_arrival(id, arrival);
    }

    /// Handles the frames of a connection that was handed back: with an allocation of its own it would be no
    /// data connection.
    pub(super) fn handle_binding(&mut self, id: ConnectionId, length: usize) -> Option<Vec<u8>> {
        let rest = self.handle_bytes(id, length);
        let client = self.connections.get(id)?.five_tuple;
        if self.server.has_allocation(&client) {
            self.doomed.push((id, ConnectionEnd::Garbled));
        }
        rest
    }

    fn lose_binds(&mut self) {
        if let Some(way) = self.successor.binds.take()
            && let Err(error) = self.poller.remove(&way)
        {
            tracing::debug!(shard = self.index, %error, "cannot let go of a passage");
        }
    }
}
