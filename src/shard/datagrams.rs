//! Datagrams of clients and peers, and what the core makes of a message.

use std::io;
use std::net::SocketAddr;

use super::event_loop::Shard;
use super::outbox::{Message, Relayed};
use super::token::Token;
use crate::net::{BATCH, Received, RelayError, Span, open_relay};
use crate::turn::{
    Action, AllocationKey, Direction, Event, Family, FiveTuple, Prefix, Reason, Transport, Verdict,
};

/// Batches that one pass receives from one listener.
const BATCHES: usize = 4;
/// Datagrams that one pass receives from one relay socket.
const DATAGRAMS: usize = 16;
/// The longest message that the core answers with.
const LONGEST_RESPONSE: usize = 65_552;

/// A verdict whose payload is a place instead of a borrow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    ToPeer(AllocationKey, SocketAddr, Span),
    ToClient(FiveTuple, Prefix, Span),
    /// Nothing to send, but it meant something: answered, parked, a keep-alive.
    Heard,
    Dropped,
}

impl Route {
    /// `place` tells where the payload lies.
    pub(super) fn of(verdict: &Verdict<'_>, place: impl FnOnce(&[u8]) -> Option<Span>) -> Self {
        match verdict {
            Verdict::ToPeer {
                from,
                peer,
                payload,
            } => place(payload).map_or(Self::Dropped, |span| Self::ToPeer(*from, *peer, span)),
            Verdict::ToClient {
                to,
                prefix,
                payload,
            } => place(payload).map_or(Self::Dropped, |span| Self::ToClient(*to, *prefix, span)),
            Verdict::Respond | Verdict::Park | Verdict::Discard(Reason::KeepAlive) => Self::Heard,
            Verdict::Discard(_) => Self::Dropped,
        }
    }
}

impl Shard {
    /// Serves a UDP listener. A batch costs more than a plain receive when one datagram waits, so the
    /// batch grows and shrinks with what comes.
    pub(super) fn receive_from_clients(&mut self, intake: usize) {
        let busy = self.note_wake(intake);
        for _ in 0..BATCHES {
            let wanted = self.intakes[intake].expected;
            self.make_room(wanted);
            let packets = self.buffers.free_packets().take(wanted);
            let listener = &self.intakes[intake].listener;
            let count = match listener.receive(&mut self.receiving, packets) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                // An error that a datagram left behind; reading it has cleared it.
                Err(_) => continue,
            };
            self.handle_batch(intake, count);
            let next = if count < wanted { count } else { wanted * 2 };
            self.intakes[intake].expected = next.clamp(1, BATCH);
            if count < wanted || wanted == 1 && !busy {
                return;
            }
        }
    }

    /// Tells whether the listener was ready in the last pass too.
    fn note_wake(&mut self, intake: usize) -> bool {
        let last = std::mem::replace(&mut self.intakes[intake].last_pass, self.pass);
        self.pass.wrapping_sub(last) == 1
    }

    fn handle_batch(&mut self, intake: usize, count: usize) {
        let address = self.intakes[intake].listener.address();
        for i in 0..count {
            if let Some(received) = self.receiving.get(i) {
                let ip = received.to.unwrap_or(address.ip());
                let server = SocketAddr::new(ip, address.port());
                self.handle_client_datagram(i, &received, server);
            }
        }
        self.buffers.take(count);
    }

    fn handle_client_datagram(&mut self, slot: usize, received: &Received, server: SocketAddr) {
        self.reserve();
        let from = FiveTuple {
            transport: Transport::Udp,
            client: received.from,
            server,
        };
        let packet = self.buffers.packet(slot, received.length);
        let verdict = self.server.handle_client(self.now, from, packet);
        let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
        self.follow(route);
    }

    /// Serves a relay socket.
    pub(super) fn receive_from_peers(&mut self, key: AllocationKey, family: Family) {
        let mut busy = false;
        for i in 0..DATAGRAMS {
            self.make_room(1);
            let Some(relay) = self.relays.get(key, family) else {
                return;
            };
            let Some(room) = self.buffers.free_packets().next() else {
                return;
            };
            match relay.socket.recv_from(room) {
                Ok((length, peer)) => {
                    busy = busy || relay.is_busy(self.pass);
                    self.handle_peer_datagram(key, peer, length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if i == 1 {
                        relay.had_only_one();
                    }
                    return;
                }
                Err(_) => {}
            }
            if !busy {
                return;
            }
        }
    }

    fn handle_peer_datagram(&mut self, key: AllocationKey, peer: SocketAddr, length: usize) {
        self.reserve();
        let payload = self.buffers.packet(0, length);
        let verdict = self.server.handle_peer(self.now, key, peer, payload);
        let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
        if matches!(route, Route::ToClient(..)) {
            self.buffers.take(1);
        }
        self.follow(route);
    }

    /// Queues what the core decided, and does what it asks for.
    pub(super) fn follow(&mut self, route: Route) {
        match route {
            Route::ToPeer(from, peer, span) => self.queue_to_peer(from, peer, span),
            Route::ToClient(to, prefix, span) => self.queue_to_client(to, &prefix, span),
            Route::Heard | Route::Dropped => {}
        }
        self.drain();
    }

    fn queue_to_peer(&mut self, from: AllocationKey, peer: SocketAddr, span: Span) {
        self.outbox.push(Message {
            via: Token::Relay(from, Family::of(peer.ip())),
            to: peer,
            source: None,
            span,
            relayed: Some(Relayed {
                direction: Direction::ToPeer,
                bytes: span.len(),
            }),
        });
    }

    fn queue_to_client(&mut self, to: FiveTuple, prefix: &Prefix, payload: Span) {
        let relayed = Relayed {
            direction: Direction::ToClient,
            bytes: payload.len(),
        };
        let span = self
            .buffers
            .enclose(payload, prefix.as_bytes(), prefix.padding());
        if !self.queue_for_client(to, span, Some(relayed)) {
            let stats = self.server.stats_mut();
            stats.relay_failed(relayed.direction, relayed.bytes, Reason::ClientBacklog);
        }
    }

    /// Queues a message; false when there is no way to the client.
    fn queue_for_client(&mut self, to: FiveTuple, span: Span, relayed: Option<Relayed>) -> bool {
        let Some((via, source)) = self.way_to(&to) else {
            tracing::trace!(client = %to.client, "no way to the client");
            return false;
        };
        self.outbox.push(Message {
            via,
            to: to.client,
            source,
            span,
            relayed,
        });
        true
    }

    fn way_to(&self, to: &FiveTuple) -> Option<(Token, Option<std::net::IpAddr>)> {
        if to.transport == Transport::Tcp {
            let id = self.connections.find(to)?;
            return Some((Token::Connection(id), None));
        }
        let exact = |intake: &super::event_loop::Intake| intake.listener.address() == to.server;
        let serves = |intake: &super::event_loop::Intake| intake.listener.serves(to.server);
        let place = self.intakes.iter().position(exact);
        let place = place.or_else(|| self.intakes.iter().position(serves))?;
        let source = self.intakes[place].listener.source(to.server.ip());
        Some((Token::Listener(place), source))
    }

    /// Does what the core asks for and queues its responses. After each of its `handle_*`.
    ///
    /// Sockets close before the response goes: a client that reads it finds the port free.
    pub(super) fn drain(&mut self) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::OpenRelay { key, local } => {
                    self.queue_responses();
                    self.open_relay(key, local);
                }
                Action::CloseRelay { key, family } => {
                    // What it still has to send goes first.
                    self.flush();
                    self.relays.remove(key, family);
                }
            }
        }
        self.queue_responses();
    }

    fn queue_responses(&mut self) {
        loop {
            self.reserve();
            let Some((to, response)) = self.server.poll_response() else {
                return;
            };
            if let Some(span) = self.buffers.copy(&[response]) {
                self.queue_for_client(to, span, None);
            }
        }
    }

    fn open_relay(&mut self, key: AllocationKey, local: SocketAddr) {
        let family = Family::of(local.ip());
        let event = match self.bind_relay(key, local, family) {
            Ok(()) => Event::RelayOpened { key, family },
            Err(error) => {
                self.warn_of(error, local);
                let retry = error == RelayError::InUse;
                Event::RelayFailed { key, family, retry }
            }
        };
        self.server.handle_event(self.now, event);
    }

    fn bind_relay(
        &mut self,
        key: AllocationKey,
        local: SocketAddr,
        family: Family,
    ) -> Result<(), RelayError> {
        if !super::relays::Relays::can_hold(key) {
            return Err(RelayError::Exhausted);
        }
        let socket = open_relay(local, self.relay_buffer)?;
        let token = Token::Relay(key, family).to_bits();
        self.poller
            .add(&socket, token, crate::net::Interest::Read)?;
        self.relays.insert(key, family, socket);
        Ok(())
    }

    fn warn_of(&mut self, error: RelayError, local: SocketAddr) {
        if error == RelayError::InUse {
            tracing::debug!(shard = self.index, %local, "relay port in use");
        } else if self.warnings.allows(self.now.instant) {
            tracing::warn!(shard = self.index, "cannot open a relay socket: {error}");
        }
    }

    /// Makes sure that one more message and one more copy find room.
    pub(super) fn reserve(&mut self) {
        if self.outbox.is_full() || self.buffers.copy_room() < LONGEST_RESPONSE {
            self.flush();
        }
    }

    /// Makes sure that `slots` slots are free. Only between packets: it gives all of them back.
    pub(super) fn make_room(&mut self, slots: usize) {
        if self.buffers.free() < slots {
            self.flush();
            self.buffers.reset();
        }
    }
}
