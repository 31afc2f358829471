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
        let way = self.former.binds.as_mut();
        let parts = connection.zip(way).ok_or(io::ErrorKind::NotConnected)?;
        let ((id, connection), way) = parts;
        if connection.has_tls() {
            let far = lend_inside(connection, way, said)?;
            self.join_back(id, far)
        } else if connection.has_backlog() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            way.send(client, said, &*connection, connection.goodbye())?;
            // It lives on elsewhere, so that closing it alone does not take it from the poller.
            self.poller.remove(&*connection)?;
            self.close(id, ConnectionEnd::HandedBack);
            Ok(())
        }
    }

    /// Joins a connection with what leads to the process before this one.
    fn join_back(&mut self, id: ConnectionId, far: Wire) -> io::Result<()> {
        let token = Token::Far(id).to_bits();
        self.poller.add(&far, token, Interest::Read)?;
        let idle_after = self.connections.limits().idle_after;
        if let Some(connection) = self.connections.get(id) {
            let early = connection.take_backlog();
            let passage = Passage::back(far, &early, self.now.instant, idle_after);
            connection.role = Role::Passing(Box::new(passage));
            self.server.stats_mut().increment(Counter::Passing);
        }
        self.carry(id);
        Ok(())
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
                    io::ErrorKind::Other => self.pause_accepting(),
                    _ => return self.lose_binds(),
                },
            }
        }
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

    fn lose_binds(&mut self) {
        if let Some(way) = self.successor.binds.take()
            && let Err(error) = self.poller.remove(&way)
        {
            tracing::debug!(shard = self.index, %error, "cannot let go of a passage");
        }
    }
}

/// Lends the other process what is inside the session of a connection: one end of a pair, whose other end is
/// returned.
fn lend_inside(connection: &Connection, way: &mut BindWay, said: &[u8]) -> io::Result<Wire> {
    let ((ours, theirs), goodbye) = (stream_pair()?, Waker::new()?);
    way.send(&connection.five_tuple, said, &theirs, Some(&goodbye))?;
    Ok(Wire::new(ours, Session::Inward(goodbye)))
}
