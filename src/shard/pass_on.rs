//! Connections that go on to an upstream.

use std::io;
use std::net::TcpStream;

use super::connection::Role;
use super::event_loop::Shard;
use super::joined::Side;
use super::passage::Passage;
use super::pipe::{Most, Tools};
use super::token::{ConnectionId, Token};
use super::wire::{End, Session, Wire};
use crate::config::UpstreamAddress;
use crate::net::{Interest, Readiness, connect_outcome, connect_tcp, connect_unix};
use crate::transport::ProxyHeader;
use crate::turn::{ConnectionEnd, Counter, PassOutcome};

impl Shard {
    /// Has the connection go on to an upstream, with what was heard of it.
    pub(super) fn pass_on(&mut self, id: ConnectionId, upstream: usize) {
        if let Err(error) = self.begin_passage(id, upstream) {
            self.fail_passage(id, upstream, PassOutcome::Unreachable, &error);
        }
    }

    fn begin_passage(&mut self, id: ConnectionId, place: usize) -> io::Result<()> {
        let now = self.now.instant;
        let most = Most::each(self.connections.limits().pipe_bytes);
        let upstream = self.upstreams.get(place).ok_or(io::ErrorKind::NotFound)?;
        let Some(connection) = self.connections.get(id) else {
            return Ok(());
        };
        let Role::Unknown(greeting) = &connection.role else {
            return Ok(());
        };
        let far = Wire::new(connect(&upstream.to)?, Session::Plain);
        let token = Token::Far(id).to_bits();
        self.poller.add(&far, token, Interest::Write)?;
        let (connects, idles) = (upstream.connect_timeout, upstream.idle_after);
        let mut passage = Passage::new(place, far, now, connects, idles);
        if upstream.proxy_protocol {
            let five_tuple = &connection.five_tuple;
            let header = ProxyHeader::Client {
                source: five_tuple.client,
                destination: greeting.reached.unwrap_or(five_tuple.server),
            };
            passage.push(&header.to_bytes());
        }
        passage.push(greeting.heard());
        connection.role = Role::Passing(Box::new(passage));
        self.server.stats_mut().increment(Counter::Passing);
        tracing::debug!(
            shard = self.index,
            client = %connection.five_tuple.client,
            upstream = %upstream.to,
            "connection passed on"
        );
        if let Some((near, passage)) = connection.passing() {
            passage.watch(id, near, most, &self.poller)?;
        }
        self.connections.refile(id);
        Ok(())
    }

    /// Closes a connection whose upstream is not there.
    fn fail_passage(
        &mut self,
        id: ConnectionId,
        upstream: usize,
        outcome: PassOutcome,
        why: &dyn std::fmt::Display,
    ) {
        self.server.stats_mut().increment(Counter::Passed(outcome));
        if self.upstream_warnings.allows(self.now.instant)
            && let Some(upstream) = self.upstreams.get(upstream)
        {
            tracing::warn!(
                shard = self.index,
                "cannot connect to the upstream {}: {why}; its connections are closed until it is \
                 there again",
                upstream.to
            );
        }
        self.doomed.push((id, ConnectionEnd::Upstream));
    }

    /// Serves the other end of what a client's connection is joined with.
    pub(super) fn serve_far(&mut self, id: ConnectionId, ready: Readiness) {
        match self.connections.get(id).map(|one| one.passing().is_some()) {
            Some(true) => self.serve_upstream(id, ready),
            _ => self.serve_joined(id, Side::Far, ready),
        }
    }

    /// Serves the client's side of a connection that goes on to an upstream.
    pub(super) fn serve_passage(&mut self, id: ConnectionId, ready: Readiness) {
        let Some((near, passage)) = self.connections.get(id).and_then(|one| one.passing()) else {
            return;
        };
        let is_over = passage.connecting_to().is_some() && ready.ended;
        if ready.ended {
            passage.note_gone(Token::Connection(id), near, &self.poller);
        }
        if is_over {
            self.doomed.push((id, ConnectionEnd::Closed));
        } else {
            self.carry(id);
        }
    }

    fn serve_upstream(&mut self, id: ConnectionId, ready: Readiness) {
        let now = self.now.instant;
        let Some((near, passage)) = self.connections.get(id).and_then(|one| one.passing()) else {
            return;
        };
        if let Some(upstream) = passage.connecting_to() {
            if let Err(error) = passage.far.outcome(connect_outcome) {
                return self.fail_passage(id, upstream, PassOutcome::Unreachable, &error);
            }
            passage.connected(now);
            let connected = Counter::Passed(PassOutcome::Connected);
            self.server.stats_mut().increment(connected);
        }
        if ready.ended {
            passage.note_gone(Token::Far(id), near, &self.poller);
        }
        self.carry(id);
    }

    /// The client of a connection that goes on to an upstream has said all; false when it does not.
    pub(super) fn end_passage(&mut self, id: ConnectionId, end: End) -> bool {
        let Some((_, passage)) = self.connections.get(id).and_then(|one| one.passing()) else {
            return false;
        };
        passage.near_ended(end);
        self.carry(id);
        true
    }

    /// Carries what can be carried.
    pub(super) fn carry(&mut self, id: ConnectionId) {
        self.make_room(1);
        let most = Most::each(self.connections.limits().pipe_bytes);
        let Some((near, passage)) = self.connections.get(id).and_then(|one| one.passing()) else {
            return;
        };
        let Some(room) = self.buffers.free_packets().next() else {
            return;
        };
        let mut tools = Tools {
            room,
            scratch: &mut self.tls_scratch,
            most,
        };
        let is_done = passage.pump(self.now.instant, near, &mut tools);
        let sent = near.take_sent();
        if is_done || passage.watch(id, near, most, &self.poller).is_err() {
            self.doomed.push((id, ConnectionEnd::Closed));
        }
        if let Some(connection) = self.connections.get(id) {
            let bytes = Counter::ConnectionBytes(connection.five_tuple.transport);
            self.server.stats_mut().add(bytes, sent);
        }
        self.connections.refile(id);
    }

    /// Closes a connection to an upstream that has taken too long for something; false when it goes to
    /// none.
    pub(super) fn close_if_stuck(&mut self, id: ConnectionId) -> bool {
        let Some((_, passage)) = self.connections.get(id).and_then(|one| one.passing()) else {
            return false;
        };
        if let Some(upstream) = passage.connecting_to() {
            self.fail_passage(id, upstream, PassOutcome::Timeout, &"it does not answer");
            self.close(id, ConnectionEnd::Upstream);
        } else {
            self.close(id, ConnectionEnd::Silent);
        }
        true
    }
}

fn connect(to: &UpstreamAddress) -> io::Result<TcpStream> {
    match to {
        UpstreamAddress::Tcp(address) => connect_tcp(*address),
        UpstreamAddress::Unix(path) => connect_unix(path),
    }
}
