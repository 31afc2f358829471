//! Clients over DTLS: datagrams to sessions and messages to the core, and back.

use std::net::SocketAddr;
use std::time::Duration;

use super::dispatch::Route;
use super::event_loop::Shard;
use super::outbox::Relayed;
use super::{DtlsSetup, StreamLimits};
use crate::net::{Clock, Span};
use crate::transport::{DtlsOutput, DtlsSessions, Heard, Unsent, is_dtls, is_hello};
use crate::turn::{
    ConnectionEnd, Counter, Event, FiveTuple, HandshakeFailure, Reason, Source, Transport,
};

impl DtlsSetup {
    pub(super) fn open(self, streams: &StreamLimits, clock: Clock) -> DtlsSessions {
        DtlsSessions::new(
            streams.dtls(),
            self.identity,
            self.cookie_key,
            clock.origin(),
            self.sources,
        )
    }
}

impl std::fmt::Debug for DtlsSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DtlsSetup").finish_non_exhaustive()
    }
}

impl Shard {
    /// Handles a datagram where nothing but DTLS is served.
    pub(super) fn handle_dtls_datagram(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
        datagram: Span,
    ) {
        let from = FiveTuple {
            transport: Transport::Dtls,
            client,
            server,
        };
        let packet = self.buffers.bytes(datagram);
        if packet.first().is_some_and(|first| is_dtls(*first)) {
            self.receive_dtls(from, datagram);
        } else {
            self.count_dropped(datagram.len(), Reason::Unclassified);
        }
    }

    /// Handles a DTLS datagram.
    pub(super) fn receive_dtls(&mut self, from: FiveTuple, datagram: Span) {
        let from = FiveTuple {
            transport: Transport::Dtls,
            ..from
        };
        let (packet, length) = (self.buffers.bytes(datagram), datagram.len());
        let client = from.client.ip();
        if is_hello(packet) && !self.server.may_answer_stranger(self.now, client, length) {
            return self.count_dropped(length, Reason::RateLimited);
        }
        let Some(dtls) = &mut self.dtls else {
            return;
        };
        let heard = dtls.receive(self.now.instant, from, packet);
        if heard == Heard::Nothing && !self.pass_back(&from, datagram) {
            self.count_dropped(length, Reason::BadRecord);
        }
        self.drain_dtls();
    }

    /// Counts a datagram without a message. Those of handshakes are counted by what becomes of them.
    fn count_dropped(&mut self, bytes: usize, reason: Reason) {
        let stats = self.server.stats_mut();
        stats.increment(Counter::ReceivedPackets(Source::ClientDtls));
        stats.add(Counter::ReceivedBytes(Source::ClientDtls), bytes as u64);
        stats.increment(Counter::Dropped(reason));
    }

    /// Does what the sessions ask for.
    fn drain_dtls(&mut self) {
        loop {
            self.reserve();
            let output = self.dtls.as_mut().and_then(DtlsSessions::poll);
            let Some(output) = output else {
                return self.count_handshaking();
            };
            match output {
                DtlsOutput::Send { to, bytes } => {
                    if let Some(span) = self.buffers.copy(&[bytes]) {
                        self.queue_for_client(to, (Span::default(), span), None);
                    }
                }
                DtlsOutput::Message { from, bytes } => {
                    if let Some(span) = self.buffers.copy(&[bytes]) {
                        self.handle_message(from, span);
                    }
                }
                DtlsOutput::Established(client) => self.note_established(client),
                DtlsOutput::Failed(client, failure) => self.note_failed(client, failure),
                DtlsOutput::Quiet(client) => self.close_session_if_unused(client),
                DtlsOutput::Ended(client, end) => self.end_session(client, end),
            }
        }
    }

    fn count_handshaking(&mut self) {
        let now = self.dtls.as_ref().map_or(0, DtlsSessions::handshaking) as u64;
        let stats = self.server.stats_mut();
        let counted = stats.get(Counter::DtlsHandshaking);
        stats.add(Counter::DtlsHandshaking, now.saturating_sub(counted));
        stats.subtract(Counter::DtlsHandshaking, counted.saturating_sub(now));
    }

    fn handle_message(&mut self, from: FiveTuple, message: Span) {
        let bytes = self.buffers.bytes(message);
        let verdict = self.server.handle_client(self.now, from, bytes);
        let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
        self.buffers.claim(message);
        self.follow_frame(route);
    }

    /// Queues relayed data, encrypted, at `plain`.
    pub(super) fn queue_sealed(&mut self, to: FiveTuple, plain: Span, relayed: Relayed) {
        let sealed = match &mut self.dtls {
            Some(dtls) => dtls.seal(&to, self.buffers.bytes(plain)),
            None => Err(Unsent::NoSession),
        };
        let queued = match sealed.map(|datagram| self.buffers.copy(&[datagram])) {
            Ok(Some(span)) if self.queue_for_client(to, (Span::default(), span), Some(relayed)) => {
                return;
            }
            Ok(_) => Reason::SendFailed,
            Err(Unsent::TooLarge) => Reason::TooLarge,
            Err(Unsent::NoSession) => Reason::ClientBacklog,
        };
        let stats = self.server.stats_mut();
        stats.relay_failed(relayed.direction, relayed.bytes, queued);
    }

    fn note_established(&mut self, client: FiveTuple) {
        let stats = self.server.stats_mut();
        stats.increment(Counter::DtlsHandshakes);
        stats.increment(Counter::DtlsSessions);
        tracing::debug!(shard = self.index, client = %client.client, "DTLS session established");
    }

    fn note_failed(&mut self, client: FiveTuple, failure: HandshakeFailure) {
        let stats = self.server.stats_mut();
        stats.increment(Counter::DtlsHandshakesFailed(failure));
        let reason = failure.label();
        tracing::trace!(shard = self.index, client = %client.client, reason, "DTLS handshake failed");
    }

    /// A session lives as long as its allocation.
    fn close_session_if_unused(&mut self, client: FiveTuple) {
        if self.server.has_allocation(&client) {
            return;
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.close(&client, ConnectionEnd::Silent);
        }
    }

    fn end_session(&mut self, client: FiveTuple, end: ConnectionEnd) {
        let stats = self.server.stats_mut();
        stats.subtract(Counter::DtlsSessions, 1);
        stats.increment(Counter::DtlsSessionsEnded(end));
        self.server
            .handle_event(self.now, Event::ClientGone { client });
        self.drain();
        tracing::debug!(
            shard = self.index,
            client = %client.client,
            end = end.label(),
            "DTLS session ended"
        );
    }

    /// Sees to what is due, and to what sessions ask for beside what they were asked for; tells whether
    /// anything was due.
    pub(super) fn serve_dtls(&mut self) -> bool {
        let Some(dtls) = &mut self.dtls else {
            return false;
        };
        let due = dtls.poll_timeout();
        let is_due = due.is_some_and(|due| due.since(self.now.instant) == Duration::ZERO);
        if is_due {
            dtls.handle_timeout(self.now.instant);
        }
        self.drain_dtls();
        is_due
    }

    /// Takes leave of every client.
    pub(super) fn close_dtls(&mut self) {
        while let Some(dtls) = &mut self.dtls
            && dtls.close_any(ConnectionEnd::Shutdown)
        {
            self.drain_dtls();
        }
    }
}
