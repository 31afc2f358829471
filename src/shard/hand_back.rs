//! Client data connections of TCP allocations that stay in the process from which another one took over
//! (RFC 6062 §5.4).
//!
//! They are made where the listening sockets are now, to the new process. It hands those back whose
//! ConnectionBind names an id of the old one: the connection itself, or, when TLS is around it, one end of a
//! pair of sockets, whose other end it joins with the session. Who the client is, the old one asks, which
//! has the allocation.

use std::io;
use std::net::TcpStream;

use super::bind_way::BindWay;
use super::connection::{Connection, Role};
use super::dispatch::Route;
use super::event_loop::Shard;
use super::passage::Passage;
use super::token::{ConnectionId, Token};
use super::wire::{Arrival, Session, Wire};
use crate::net::{Interest, Waker, stream_pair};
use crate::turn::{ConnectionEnd, Counter, FiveTuple};

/// Connections that one pass takes back.
const CONNECTIONS: usize = 16;

impl Shard {
    /// Hands the connection of `client` back with its `request`, and what it said behind that; tells whether
    /// it is gone. If it cannot be, the request is answered here.
    pub(super) fn hand_back(&mut self, client: FiveTuple, request: &[u8], behind: &[u8]) -> bool {
        self.queue_responses();
        self.flush();
        let handed = self.try_hand_back(&client, &[request, behind].concat());
        self.note_way(&handed);
        let Err(error) = handed else {
            tracing::debug!(shard = self.index, client = %client.client, "connection handed back");
            return true;
        };
        tracing::trace!(shard = self.index, %error, "a connection cannot be handed back");
        let verdict = self.server.handle_kept(self.now, client, request);
        let route = Route::of(&verdict, |_| None);
        self.follow_frame(route);
        false
    }

    fn try_hand_back(&mut self, client: &FiveTuple, said: &[u8]) -> io::Result<()> {
        let id = self.connections.find(client);
        let connection = id.and_then(|id| Some((id, self.connections.get(id)?)));
        let (id, connection) = connection.ok_or(io::ErrorKind::NotConnected)?;
        if connection.has_tls() {
            self.lend_inside(id, client, said)
        } else if connection.has_backlog() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            self.hand_over(id, client, said)
        }
    }

    /// Gives the process before this one the connection.
    fn hand_over(&mut self, id: ConnectionId, client: &FiveTuple, said: &[u8]) -> io::Result<()> {
        let way = self.former.binds.as_mut();
        let parts = self.connections.get(id).zip(way);
        let (connection, way) = parts.ok_or(io::ErrorKind::NotConnected)?;
        way.send(client, said, &*connection, connection.goodbye())?;
        // It lives on elsewhere, so that closing it alone does not take it from the poller.
        if let Err(error) = self.poller.remove(&*connection) {
            tracing::debug!(shard = self.index, %error, "cannot let go of a connection");
        }
        self.close(id, ConnectionEnd::HandedBack);
        Ok(())
    }

    /// Lends it what is inside the session of the connection: one end of a pair, whose other end is joined
    /// with the connection.
    fn lend_inside(&mut self, id: ConnectionId, client: &FiveTuple, said: &[u8]) -> io::Result<()> {
        if !self.connections.can_lend() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let way = self.former.binds.as_mut();
        let way = way.ok_or(io::ErrorKind::NotConnected)?;
        let ((ours, theirs), goodbye) = (stream_pair()?, Waker::new()?);
        let token = Token::Far(id).to_bits();
        self.poller.add(&ours, token, Interest::Read)?;
        way.send(client, said, &theirs, Some(&goodbye))?;
        self.join_back(id, Wire::new(ours, Session::Inward(goodbye)));
        Ok(())
    }

    /// Joins a connection with what leads to the process before this one, which the poller watches.
    fn join_back(&mut self, id: ConnectionId, far: Wire) {
        self.connections.note_lent(id);
        let idle_after = self.connections.limits().idle_after;
        if let Some(connection) = self.connections.get(id) {
            let early = connection.take_backlog();
            let passage = Passage::back(far, &early, self.now.instant, idle_after);
            connection.role = Role::Passing(Box::new(passage));
            self.server.stats_mut().increment(Counter::Passing);
        }
        self.carry(id);
    }

    /// Notes it when the other process has gone.
    fn note_way(&mut self, handed: &io::Result<()>) {
        let error = handed.as_ref().err().map(io::Error::kind);
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
                    let (from, said) = (one.from, one.said.to_vec());
                    let (stream, session) = (one.stream, one.session);
                    self.admit_back(from, stream, session, &said);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::InvalidData => {}
                    io::ErrorKind::Other => return self.pause_taking_back(),
                    _ => {
                        let binds = self.successor.binds.take();
                        return self.lose(binds);
                    }
                },
            }
        }
    }

    /// No descriptor is left: what is on the way waits there, and is not spoken of until it can be taken.
    fn pause_taking_back(&mut self) {
        self.pause_accepting();
        if let Some(way) = &mut self.successor.binds {
            way.rests = true;
            if let Err(error) = self.poller.remove(&*way) {
                tracing::debug!(shard = self.index, %error, "cannot pause a passage");
            }
        }
    }

    /// Goes on after a pause.
    pub(super) fn resume_taking_back(&mut self) {
        let poller = &self.poller;
        let is_lost = |way: &mut BindWay| {
            let rested = std::mem::take(&mut way.rests);
            rested
                && poller
                    .add(&*way, Token::Bindings.to_bits(), Interest::Read)
                    .inspect_err(|error| tracing::debug!(%error, "a passage is lost"))
                    .is_err()
        };
        self.successor.binds.take_if(is_lost);
    }

    fn admit_back(&mut self, from: FiveTuple, stream: TcpStream, session: Session, said: &[u8]) {
        let is_admitted = self.connections.admits(from.client.ip());
        let opened = self.enter(from.transport, is_admitted, |shard| {
            let (now, limits) = (shard.now.instant, shard.connections.limits());
            let role = Role::Binding;
            let connection = Connection::new(stream, session, role, from, now, limits);
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
}
