//! Accepting stream connections.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::connection::{Connection, Role};
use super::event_loop::Shard;
use super::greet::canonical;
use super::greeting::Greeting;
use super::token::{ConnectionId, Token};
use super::upstreams::Serves;
use super::wire::Session;
use crate::net::{Fault, Interest, prepare_connection};
use crate::transport::TlsSession;
use crate::turn::{ConnectionEnd, Counter, FiveTuple, Transport};

/// Connections that one pass accepts from one listener.
const ACCEPTS: usize = 64;
/// How long nothing is accepted after descriptors ran out; the listener stays ready all the while.
const PAUSE: Duration = Duration::from_millis(500);

impl Shard {
    pub(super) fn accept_connections(&mut self, listener: usize) {
        for _ in 0..ACCEPTS {
            let Some(acceptor) = self.acceptors.listeners.get(listener) else {
                return;
            };
            let serves = acceptor.serves;
            match acceptor.listener.accept() {
                Ok((stream, client)) => self.admit(serves, stream, canonical(client)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if Fault::of(&error) == Fault::Exhausted => {
                    return self.pause_accepting();
                }
                // That connection died before it was accepted; the next may be well.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, serves: Serves, stream: TcpStream, client: SocketAddr) {
        // Whom a balancer's connections are counted against, it has yet to tell.
        let is_admitted = if self.is_balancer(client.ip()) {
            self.connections.has_room()
        } else {
            self.connections.admits(client.ip())
        };
        self.enter(serves.transport(), is_admitted, |shard| {
            shard.open(serves, stream, client)
        });
    }

    /// Opens a connection if it is within the limits, and counts what comes of it.
    pub(super) fn enter(
        &mut self,
        transport: Transport,
        is_admitted: bool,
        open: impl FnOnce(&mut Self) -> io::Result<ConnectionId>,
    ) -> Option<ConnectionId> {
        let stats = self.server.stats_mut();
        stats.increment(Counter::ConnectionsAccepted(transport));
        if !is_admitted {
            let refused = ConnectionEnd::Refused;
            stats.increment(Counter::ConnectionsClosed(transport, refused));
            return None;
        }
        stats.increment(Counter::Connections(transport));
        let opened = open(self).ok();
        if opened.is_none() {
            let stats = self.server.stats_mut();
            stats.subtract(Counter::Connections(transport), 1);
            stats.increment(Counter::ConnectionsClosed(transport, ConnectionEnd::Closed));
        }
        opened
    }

    fn open(
        &mut self,
        serves: Serves,
        stream: TcpStream,
        client: SocketAddr,
    ) -> io::Result<ConnectionId> {
        let transport = serves.transport();
        let (role, session) = self.begin(serves, client)?;
        let five_tuple = FiveTuple {
            transport,
            client,
            server: canonical(stream.local_addr()?),
        };
        prepare_connection(&stream)?;
        let (now, limits) = (self.now.instant, self.connections.limits());
        let connection = Connection::new(stream, session, role, five_tuple, now, limits);
        self.keep(connection)
    }

    /// Keeps a connection, and has the poller tell of it.
    pub(super) fn keep(&mut self, connection: Connection) -> io::Result<ConnectionId> {
        let five_tuple = connection.five_tuple;
        // The kernel knows that the older connection has ended; its event is still on the way.
        if let Some(older) = self.connections.find(&five_tuple) {
            self.close(older, ConnectionEnd::Closed);
        }
        let id = self.connections.insert(connection);
        let Some(connection) = self.connections.get(id) else {
            return Ok(id);
        };
        let is_handshaking = connection.is_handshaking();
        let token = Token::Connection(id).to_bits();
        if let Err(error) = self.poller.add(&*connection, token, Interest::Read) {
            self.connections.remove(id);
            return Err(error);
        }
        tracing::debug!(shard = self.index, client = %five_tuple.client, "connection accepted");
        if is_handshaking {
            self.begin_handshake(id);
        }
        Ok(id)
    }

    /// Too many handshakes at once end the oldest: an honest client needs a few round trips.
    pub(super) fn begin_handshake(&mut self, id: ConnectionId) {
        self.server.stats_mut().increment(Counter::TlsHandshaking);
        if let Some(oldest) = self.connections.begin_handshake(id) {
            self.close(oldest, ConnectionEnd::Refused);
        }
    }

    /// What a new connection is, and in what its bytes are wrapped, as far as its listener tells.
    fn begin(&self, serves: Serves, client: SocketAddr) -> io::Result<(Role, Session)> {
        let header_first = self.is_balancer(client.ip());
        if header_first || serves.is_both() || self.upstreams.concern(serves) {
            let greeting = Greeting::new(serves, header_first);
            return Ok((Role::Unknown(Box::new(greeting)), Session::Plain));
        }
        if !serves.tls {
            return Ok((Role::Turn, Session::Plain));
        }
        let servers = self.tls.as_ref();
        let session = servers.map(|servers| TlsSession::new(servers.turn()));
        match session {
            Some(Ok(session)) => Ok((Role::Turn, Session::Tls(Box::new(session)))),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn pause_accepting(&mut self) {
        let now = self.now.instant;
        self.acceptors.paused_until = Some(now + PAUSE);
        self.watch_acceptors(Interest::Nothing);
        if self.accept_warnings.allows(now) {
            tracing::warn!(
                shard = self.index,
                "no file descriptor is left, so that connections must wait; raise the limit on \
                 open files (`ulimit -n`, under systemd: LimitNOFILE)"
            );
        }
    }

    pub(super) fn resume_accepting(&mut self) {
        let now = self.now.instant;
        if self
            .acceptors
            .paused_until
            .is_some_and(|until| until <= now)
        {
            self.acceptors.paused_until = None;
            self.watch_acceptors(Interest::Read);
            self.resume_taking_back();
        }
    }

    fn watch_acceptors(&self, interest: Interest) {
        for (i, acceptor) in self.acceptors.listeners.iter().enumerate() {
            let token = Token::Acceptor(i).to_bits();
            if let Err(error) = self.poller.modify(&acceptor.listener, token, interest) {
                tracing::debug!(shard = self.index, %error, "cannot watch a listener");
            }
        }
        for (number, listener) in self.tcp_relays.listeners() {
            let token = Token::Tcp(number).to_bits();
            if let Err(error) = self.poller.modify(listener, token, interest) {
                tracing::debug!(shard = self.index, %error, "cannot watch a relay");
            }
        }
    }
}
