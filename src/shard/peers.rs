//! Peers over TCP: connections from and to relayed transport addresses, and how they are joined with those
//! of clients (RFC 6062 §5).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::event_loop::Shard;
use super::greet::canonical;
use super::joined::{Joined, Side};
use super::mailbox::Message;
use super::pipe::{Moved, Tools};
use super::tcp_relays::TcpSocket;
use super::token::{ConnectionId, Token};
use super::turned::Turned;
use super::wire::{End, Session, Wire};
use crate::net::{
    Fault, Interest, Readiness, RelayError, connect_from, connect_outcome, listen_for_peers,
    prepare_connection,
};
use crate::turn::{
    AllocationKey, ConnectionEnd, Counter, Direction, Event, Family, FiveTuple, PeerConnectionId,
    PeerEnd, Transport,
};

/// Peers that one pass accepts at one relayed address.
const ACCEPTS: usize = 16;

impl Shard {
    pub(super) fn listen_for_peers(
        &mut self,
        key: AllocationKey,
        local: SocketAddr,
    ) -> Result<(), RelayError> {
        let listener = listen_for_peers(local)?;
        let token = Token::Tcp(self.tcp_relays.next()).to_bits();
        self.poller.add(&listener, token, Interest::Read)?;
        let family = Family::of(local.ip());
        self.tcp_relays.insert_listener(key, family, listener);
        Ok(())
    }

    /// Serves a listener for peers, or a connection that is being opened.
    pub(super) fn serve_tcp_relay(&mut self, number: u64) {
        match self.tcp_relays.get(number) {
            Some(TcpSocket::Listener(key, _)) => self.accept_peers(*key, number),
            Some(TcpSocket::Opening(key, id, stream)) => {
                let (key, connection) = (*key, *id);
                let outcome = connect_outcome(stream);
                self.peer_answered(key, connection, outcome);
            }
            None => {}
        }
    }

    fn accept_peers(&mut self, key: AllocationKey, number: u64) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listener(number) else {
                return;
            };
            match listener.accept() {
                Ok((stream, peer)) => self.peer_arrived(key, stream, canonical(peer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if Fault::of(&error) == Fault::Exhausted => {
                    return self.pause_accepting();
                }
                // That connection died before it was accepted; the next may be well.
                Err(_) => {}
            }
        }
    }

    fn listener(&self, number: u64) -> Option<&TcpListener> {
        match self.tcp_relays.get(number)? {
            TcpSocket::Listener(_, listener) => Some(listener),
            TcpSocket::Opening(..) => None,
        }
    }

    fn peer_arrived(&mut self, key: AllocationKey, stream: TcpStream, peer: SocketAddr) {
        if prepare_connection(&stream).is_err() {
            return;
        }
        let id = self.server.handle_peer_connection(self.now, key, peer);
        if let Some(id) = id {
            // Nothing is read from it until it is bound: the kernel keeps what the peer says.
            self.held.hold_peer(id, stream);
        }
        self.drain();
    }

    /// Begins to connect to `peer` from the relayed address at `local`.
    pub(super) fn connect_peer(
        &mut self,
        key: AllocationKey,
        connection: PeerConnectionId,
        local: SocketAddr,
        peer: SocketAddr,
    ) {
        let token = Token::Tcp(self.tcp_relays.next()).to_bits();
        let opening = connect_from(local, peer).and_then(|stream| {
            self.poller.add(&stream, token, Interest::ReadWrite)?;
            Ok(stream)
        });
        match opening {
            Ok(stream) => self.tcp_relays.insert_opening(key, connection, stream),
            Err(error) => self.peer_answered(key, connection, Err(error)),
        }
    }

    fn peer_answered(
        &mut self,
        key: AllocationKey,
        connection: PeerConnectionId,
        outcome: io::Result<()>,
    ) {
        self.queue_responses();
        let stream = self.tcp_relays.remove_opening(connection);
        let event = match (outcome, stream) {
            (Ok(()), Some(stream)) => {
                // It waits unread, and is watched where it is bound.
                let _ = self.poller.remove(&stream);
                self.held.hold_peer(connection, stream);
                Event::PeerConnected { key, connection }
            }
            (Ok(()), None) => return,
            (Err(error), _) => {
                tracing::trace!(shard = self.index, %error, "peer not reached");
                Event::PeerFailed { key, connection }
            }
        };
        self.server.handle_event(self.now, event);
        self.drain();
    }

    /// Joins the client's connection with the peer's, behind the response that waits.
    pub(super) fn join(&mut self, client: FiveTuple, id: PeerConnectionId) {
        self.queue_responses();
        self.flush();
        let Some(place) = self.connections.find(&client) else {
            return self.peer_ended(id, PeerEnd::Reset);
        };
        let token = Token::Far(place).to_bits();
        let stream = self.held.take_peer(id).filter(|stream| {
            let watched = self.poller.add(stream, token, Interest::Read);
            watched.is_ok()
        });
        let parts = stream.zip(self.connections.get(place));
        let Some((stream, connection)) = parts else {
            self.doomed.push((place, ConnectionEnd::PeerGone));
            return self.peer_ended(id, PeerEnd::Reset);
        };
        let far = Wire::new(stream, Session::Plain);
        let early = connection.take_backlog();
        connection.joined = Some(Box::new(Joined::new(id, far, &early, self.now.instant)));
        self.joined.insert(id, place);
        self.turned = Some(Turned::Joined);
        self.server.stats_mut().increment(Counter::PeerConnections);
        tracing::debug!(shard = self.index, client = %client.client, "peer data connection joined");
    }

    /// Relays what the client said behind its ConnectionBind, and the end of it if that is known.
    pub(super) fn begin_relaying(&mut self, id: ConnectionId, early: &[u8], end: Option<End>) {
        let joined = self.connections.get(id).and_then(|one| one.joined.as_mut());
        if let Some(joined) = joined {
            joined.push(early, end);
        }
        self.pump(id);
    }

    /// Serves one end of two connections that are joined.
    pub(super) fn serve_joined(&mut self, id: ConnectionId, side: Side, ready: Readiness) {
        let Some((near, joined)) = self.connections.get(id).and_then(|one| one.parts()) else {
            return;
        };
        joined.note(side, ready, near, &self.poller);
        self.pump(id);
    }

    /// Carries what can be carried between the two ends, and the limits on bandwidth let through.
    pub(super) fn pump(&mut self, id: ConnectionId) {
        self.make_room(1);
        self.pay(id, Moved::default());
        let limits = *self.connections.limits();
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let transport = connection.five_tuple.transport;
        let Some((near, joined)) = connection.parts() else {
            return;
        };
        let Some(room) = self.buffers.free_packets().next() else {
            return;
        };
        let mut tools = Tools {
            room,
            scratch: &mut self.tls_scratch,
            most: joined.most(limits.pipe_bytes),
        };
        let moved = joined.pump(self.now.instant, near, &mut tools);
        self.count_moved(moved, transport);
        self.pay(id, moved);
        self.look_after(id);
        self.connections.refile(id);
    }

    /// Asks for the bandwidth of what has moved, and of what is owed from before.
    fn pay(&mut self, id: ConnectionId, moved: Moved) {
        let joined = self.connections.get(id).and_then(|one| one.joined.as_mut());
        let Some(joined) = joined else {
            return;
        };
        let (server, now) = (&mut self.server, self.now);
        let mut pay = |direction, bytes| {
            if bytes == 0 || server.admits_stream(now, joined.id, direction, bytes) {
                0
            } else {
                bytes
            }
        };
        let owed = Moved {
            to_far: pay(Direction::ToPeer, joined.owed.to_far + moved.to_far),
            to_near: pay(Direction::ToClient, joined.owed.to_near + moved.to_near),
        };
        joined.owe(owed, now.instant);
    }

    /// Has the poller tell of what is waited for now; what has ended is closed.
    fn look_after(&mut self, id: ConnectionId) {
        let limits = *self.connections.limits();
        let parts = self.connections.get(id).and_then(|one| one.parts());
        let Some((near, joined)) = parts else {
            return;
        };
        let most = joined.most(limits.pipe_bytes);
        let watched = joined.watch(id, near, &self.poller, most);
        let broken = watched.err().map(|_| PeerEnd::Reset);
        if let Some(end) = joined.outcome().or(broken) {
            joined.end.get_or_insert(end);
            self.doomed.push((id, ConnectionEnd::PeerGone));
        }
    }

    fn count_moved(&mut self, moved: Moved, transport: Transport) {
        let stats = self.server.stats_mut();
        stats.add(Counter::ConnectionBytes(transport), moved.to_near as u64);
        let directions = [
            (Direction::ToPeer, moved.to_far),
            (Direction::ToClient, moved.to_near),
        ];
        for (direction, bytes) in directions {
            stats.add(Counter::RelayedBytes(direction), bytes as u64);
        }
    }

    /// Closes a peer data connection wherever it is.
    pub(super) fn close_peer(&mut self, id: PeerConnectionId, shard: u16) {
        let shard = usize::from(shard);
        if shard == self.index {
            self.close_peer_here(id);
        } else {
            self.mail.send(shard, Message::ClosePeer(id));
        }
    }

    /// Closes one of this shard's: being opened, waiting or joined.
    pub(super) fn close_peer_here(&mut self, id: PeerConnectionId) {
        drop(self.tcp_relays.remove_opening(id));
        drop(self.held.take_peer(id));
        let Some(place) = self.joined.get(&id).copied() else {
            return;
        };
        let joined = self
            .connections
            .get(place)
            .and_then(|one| one.joined.as_mut());
        if let Some(joined) = joined {
            joined.end.get_or_insert(PeerEnd::AllocationGone);
        }
        self.doomed.push((place, ConnectionEnd::PeerGone));
    }

    /// Accounts for what was joined with a client's connection that is closed.
    pub(super) fn disjoin(&mut self, joined: &Joined, how: ConnectionEnd) {
        self.joined.remove(&joined.id);
        self.server
            .stats_mut()
            .subtract(Counter::PeerConnections, 1);
        let end = match how {
            ConnectionEnd::Shutdown => PeerEnd::Shutdown,
            _ => joined.end.unwrap_or(PeerEnd::Reset),
        };
        self.peer_ended(joined.id, end);
    }

    fn peer_ended(&mut self, connection: PeerConnectionId, end: PeerEnd) {
        let event = Event::PeerClosed { connection, end };
        self.server.handle_event(self.now, event);
        tracing::debug!(
            shard = self.index,
            end = end.label(),
            "peer data connection ended"
        );
    }
}
