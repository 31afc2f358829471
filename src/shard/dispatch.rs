//! What the core decides, and what it asks for.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::event_loop::{Intake, Shard};
use super::failure::reason;
use super::mailbox::Message as Mailed;
use super::outbox::{Message, Relayed};
use super::relays::Relays;
use super::token::Token;
use super::turned::Turned;
use crate::net::{Interest, RelayError, Span, open_relay};
use crate::turn::{
    Action, AllocationKey, Direction, Event, Family, FiveTuple, Hop, Prefix, Reason, Transport,
    Verdict,
};

/// A verdict whose payload is a place instead of a borrow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    ToPeer(AllocationKey, SocketAddr, Span),
    ToPeerUnfragmented(AllocationKey, SocketAddr, Span),
    ToRelay(Hop, Span),
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
            Verdict::ToPeerUnfragmented {
                from,
                peer,
                payload,
            } => place(payload).map_or(Self::Dropped, |span| {
                Self::ToPeerUnfragmented(*from, *peer, span)
            }),
            Verdict::ToRelay { hop, payload } => {
                place(payload).map_or(Self::Dropped, |span| Self::ToRelay(*hop, span))
            }
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
    /// Queues what the core decided, and does what it asks for.
    pub(super) fn follow(&mut self, route: Route) {
        self.queue(route);
        self.drain();
    }

    fn queue(&mut self, route: Route) {
        match route {
            Route::ToPeer(from, peer, span) => self.queue_to_peer(from, peer, span),
            Route::ToPeerUnfragmented(from, peer, span) => {
                self.send_unfragmented(from, peer, span);
            }
            Route::ToRelay(hop, span) => self.follow_hop(&hop, span),
            Route::ToClient(to, prefix, span) => self.queue_to_client(to, &prefix, span),
            Route::Heard | Route::Dropped => {}
        }
    }

    pub(super) fn queue_to_peer(&mut self, from: AllocationKey, peer: SocketAddr, span: Span) {
        self.outbox.push(Message {
            via: Token::Relay(from, Family::of(peer.ip())),
            to: peer,
            source: None,
            head: Span::default(),
            span,
            relayed: Some(Relayed {
                direction: Direction::ToPeer,
                bytes: span.len(),
            }),
        });
    }

    /// Sends at once, behind what is queued: the DF bit is an option of the socket.
    fn send_unfragmented(&mut self, from: AllocationKey, peer: SocketAddr, span: Span) {
        self.flush();
        let Some(relay) = self.relays.get(from, Family::of(peer.ip())) else {
            let stats = self.server.stats_mut();
            return stats.relay_failed(Direction::ToPeer, span.len(), Reason::SendFailed);
        };
        let bytes = self.buffers.bytes(span);
        if let Err(error) = relay.send_unfragmented(peer, bytes) {
            let stats = self.server.stats_mut();
            stats.relay_failed(Direction::ToPeer, span.len(), reason(&error));
        }
    }

    pub(super) fn queue_to_client(&mut self, to: FiveTuple, prefix: &Prefix, payload: Span) {
        let relayed = Relayed {
            direction: Direction::ToClient,
            bytes: payload.len(),
        };
        let Some((head, span)) = self.lay_out(&to, prefix, payload) else {
            let stats = self.server.stats_mut();
            return stats.relay_failed(relayed.direction, relayed.bytes, Reason::SendFailed);
        };
        if to.transport == Transport::Dtls {
            return self.queue_sealed(to, span, relayed);
        }
        if !self.queue_for_client(to, (head, span), Some(relayed)) {
            let stats = self.server.stats_mut();
            stats.relay_failed(relayed.direction, relayed.bytes, Reason::ClientBacklog);
        }
    }

    /// Puts `prefix` before `payload`, and padding behind it: where it lies, or, when others are around it,
    /// apart from it, or in a copy of it.
    fn lay_out(&mut self, to: &FiveTuple, prefix: &Prefix, payload: Span) -> Option<(Span, Span)> {
        let (head, padding) = (prefix.as_bytes(), prefix.padding());
        if let Some(whole) = self.buffers.enclose(payload, head, padding) {
            return Some((Span::default(), whole));
        }
        if to.transport == Transport::Udp && padding == 0 {
            return self.buffers.copy(&[head]).map(|head| (head, payload));
        }
        let whole = self.buffers.gather(payload, head, padding)?;
        Some((Span::default(), whole))
    }

    /// Queues a message, whose head may lie apart; false when there is no way to the client.
    pub(super) fn queue_for_client(
        &mut self,
        to: FiveTuple,
        (head, span): (Span, Span),
        relayed: Option<Relayed>,
    ) -> bool {
        let Some((via, source)) = self.way_to(&to) else {
            tracing::trace!(client = %to.client, "no way to the client");
            return false;
        };
        self.outbox.push(Message {
            via,
            to: to.client,
            source,
            head,
            span,
            relayed,
        });
        true
    }

    fn way_to(&self, to: &FiveTuple) -> Option<(Token, Option<IpAddr>)> {
        if to.transport.is_stream() {
            let id = self.connections.find(to)?;
            return Some((Token::Connection(id), None));
        }
        let exact = |intake: &Intake| intake.listener.address() == to.server;
        let serves = |intake: &Intake| intake.listener.serves(to.server);
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
                Action::OpenRelay { key, local } => self.provide(key, local, Self::bind_relay),
                Action::OpenPair { key, local } => self.provide(key, local, Self::bind_pair),
                Action::OpenReserved { key, local } => self.provide(key, local, Self::take_held),
                Action::HoldRelay { key, local } => self.hold_relay(key, local),
                Action::Post { shard, letter } => {
                    self.mail.send(shard.into(), Mailed::Letter(letter));
                }
                Action::HandleParked { client } => self.handle_parked(client),
                Action::DropReserved { local } => drop(self.held.take(local)),
                Action::CloseRelay { key, family } => self.close_relay(key, family),
                Action::OpenTcpRelay { key, local } => {
                    self.provide(key, local, Self::listen_for_peers);
                }
                Action::CloseTcpRelay { key, family } => {
                    self.tcp_relays.remove_listener(key, family);
                }
                Action::Connect {
                    key,
                    connection,
                    local,
                    peer,
                } => self.connect_peer(key, connection, local, peer),
                Action::HandBack { .. } => {
                    self.turned = self.server.take_request().map(Turned::Formers);
                }
                Action::Join { client, connection } => self.join(client, connection),
                Action::ClosePeer { connection, shard } => self.close_peer(connection, shard),
            }
        }
        self.queue_responses();
    }

    pub(super) fn queue_responses(&mut self) {
        loop {
            self.reserve();
            let Some((to, response)) = self.server.poll_response() else {
                return;
            };
            let bytes = match (&mut self.dtls, to.transport) {
                (Some(dtls), Transport::Dtls) => dtls.seal(&to, response).ok(),
                _ => Some(response),
            };
            if let Some(span) = bytes.and_then(|bytes| self.buffers.copy(&[bytes])) {
                self.queue_for_client(to, (Span::default(), span), None);
            }
        }
    }

    /// Opens a relay socket by `bind` and tells the core how it went.
    fn provide(
        &mut self,
        key: AllocationKey,
        local: SocketAddr,
        bind: fn(&mut Self, AllocationKey, SocketAddr) -> Result<(), RelayError>,
    ) {
        self.queue_responses();
        let family = Family::of(local.ip());
        let event = match bind(self, key, local) {
            Ok(()) => Event::RelayOpened { key, family },
            Err(error) => {
                self.warn_of(error, local);
                let retry = error == RelayError::InUse;
                Event::RelayFailed { key, family, retry }
            }
        };
        self.server.handle_event(self.now, event);
    }

    fn bind_relay(&mut self, key: AllocationKey, local: SocketAddr) -> Result<(), RelayError> {
        let socket = open_relay(local, self.relay_buffer)?;
        self.watch_relay(key, local, socket)
    }

    /// Two sockets or none; the one on the port above is held for whoever redeems its token.
    fn bind_pair(&mut self, key: AllocationKey, local: SocketAddr) -> Result<(), RelayError> {
        let port = local.port().checked_add(1).ok_or(RelayError::InUse)?;
        let above = SocketAddr::new(local.ip(), port);
        let next = open_relay(above, self.relay_buffer)?;
        self.bind_relay(key, local)?;
        self.held.hold(above, next);
        Ok(())
    }

    fn close_relay(&mut self, key: AllocationKey, family: Family) {
        // What it still has to send goes first.
        if self.outbox.has_from(Token::Relay(key, family)) {
            self.flush();
        }
        self.relays.remove(key, family);
    }

    /// Another shard shall have the socket: nothing is read here any more.
    fn hold_relay(&mut self, key: AllocationKey, local: SocketAddr) {
        // What it still has to send goes first.
        self.flush();
        let Some(socket) = self.relays.take(key, Family::of(local.ip())) else {
            return;
        };
        if let Err(error) = self.poller.remove(&socket) {
            tracing::debug!(shard = self.index, %error, "cannot let go of a relay socket");
        }
        self.held.hold(local, socket);
    }

    fn handle_parked(&mut self, client: FiveTuple) {
        let Some(packet) = self.server.take_parked(&client) else {
            return;
        };
        self.reserve();
        let verdict = self.server.handle_parked(self.now, client, &packet);
        let route = Route::of(&verdict, |payload| self.buffers.keep(payload));
        self.queue(route);
        self.queue_responses();
    }

    fn take_held(&mut self, key: AllocationKey, local: SocketAddr) -> Result<(), RelayError> {
        let socket = self.held.take(local).ok_or(RelayError::InUse)?;
        self.watch_relay(key, local, socket)?;
        self.arrived.push((key, Family::of(local.ip())));
        Ok(())
    }

    fn watch_relay(
        &mut self,
        key: AllocationKey,
        local: SocketAddr,
        socket: UdpSocket,
    ) -> Result<(), RelayError> {
        if !Relays::can_hold(key) {
            return Err(RelayError::Exhausted);
        }
        let family = Family::of(local.ip());
        let token = Token::Relay(key, family).to_bits();
        self.poller.add(&socket, token, Interest::Read)?;
        self.relays.insert(key, family, socket);
        Ok(())
    }

    fn warn_of(&mut self, error: RelayError, local: SocketAddr) {
        if error == RelayError::InUse {
            tracing::debug!(shard = self.index, %local, "relay port in use");
        } else if self.relay_warnings.allows(self.now.instant) {
            tracing::warn!(shard = self.index, "cannot open a relay socket: {error}");
        }
    }
}
