//! One stream client's connection.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::StreamLimits;
use super::backlog::Backlog;
use super::greeting::Greeting;
use super::joined::Joined;
use super::outbox::{Group, Message};
use super::passage::Passage;
use super::wire::{Arrival, Session, Wire, Writer};
use crate::net::{Buffers, Waker};
use crate::time::Instant;
use crate::transport::{Framer, TlsScratch, TlsSession};
use crate::turn::{ConnectionEnd, Counter, Eviction, FiveTuple, HandshakeFailure, Reason, Stats};

/// The most messages that one write takes.
const SLICES: usize = 32;

/// A connection and what is known of the client behind it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) five_tuple: FiveTuple,
    pub(super) role: Role,
    /// Splits what arrives.
    pub(super) framer: Framer,
    wire: Wire,
    /// Plaintext, so that the oldest media can be dropped.
    backlog: Backlog,
    /// The poller was asked to tell when there is room to write.
    awaits_room: bool,
    /// What it is joined with, once it is a data connection.
    pub(super) joined: Option<Box<Joined>>,
    opened: Instant,
    heard: Option<Instant>,
    partial_since: Option<Instant>,
}

/// What a connection is.
#[derive(Debug)]
pub(super) enum Role {
    /// It has not said.
    Unknown(Box<Greeting>),
    /// A client of STUN and TURN.
    Turn,
    /// The process that took over has handed it back, to be bound to a peer's.
    Binding,
    /// It goes on to an upstream.
    Passing(Box<Passage>),
}

impl Connection {
    /// Takes over a connection, which is prepared.
    pub(super) fn new(
        stream: TcpStream,
        session: Session,
        role: Role,
        five_tuple: FiveTuple,
        now: Instant,
        limits: &StreamLimits,
    ) -> Self {
        Self {
            five_tuple,
            role,
            framer: Framer::new(limits.channels),
            wire: Wire::new(stream, session),
            backlog: Backlog::new(limits.backlog_bytes, limits.media_age),
            awaits_room: false,
            joined: None,
            opened: now,
            heard: None,
            partial_since: None,
        }
    }

    /// Reads what has arrived.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Arrival {
        self.wire.read(room)
    }

    /// TLS begins; what is not TURN inside goes on to `upstream`.
    pub(super) fn enter_tls(&mut self, session: TlsSession, upstream: Option<usize>) {
        self.wire.begin_tls(session);
        match (&mut self.role, upstream) {
            (Role::Unknown(greeting), Some(upstream)) => greeting.enter_tls(upstream),
            _ => self.role = Role::Turn,
        }
    }

    /// Takes bytes of TLS that were read before.
    pub(super) fn take_in(&mut self, bytes: &[u8], room: &mut [u8]) -> Arrival {
        self.wire.take_in(bytes, room)
    }

    /// Whether client and server agreed on a protocol inside TLS, and whether it is one of TURN's.
    pub(super) fn speaks_turn(&self) -> Option<bool> {
        self.wire.speaks_turn()
    }

    /// Whether it is not known yet whose connection it is.
    pub(super) fn is_nameless(&self) -> bool {
        matches!(&self.role, Role::Unknown(greeting) if greeting.is_nameless())
    }

    /// Its own side and the rest of a connection that goes on to an upstream.
    pub(super) fn passing(&mut self) -> Option<(&mut Wire, &mut Passage)> {
        match &mut self.role {
            Role::Passing(passage) => Some((&mut self.wire, passage)),
            Role::Unknown(_) | Role::Turn | Role::Binding => None,
        }
    }

    /// Says to the client that nothing follows, where the session has words for it and it is true.
    pub(super) fn say_goodbye(&mut self) {
        let is_cut = match (&self.role, &self.joined) {
            (Role::Passing(passage), _) => passage.is_cut(),
            (_, Some(joined)) => joined.is_cut(),
            _ => false,
        };
        if !is_cut {
            self.wire.say_goodbye();
        }
    }

    /// How many bytes of plaintext were written since this was asked last.
    pub(super) fn take_sent(&mut self) -> u64 {
        self.wire.take_sent()
    }

    /// Whether a handshake is going on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.wire.is_handshaking()
    }

    /// What a connection that ends by `end` is counted as: one that never completed its handshake is a
    /// handshake that failed.
    pub(super) fn name_end(&self, end: ConnectionEnd) -> (ConnectionEnd, Option<HandshakeFailure>) {
        if !self.is_handshaking() {
            return (end, None);
        }
        let failure = self.wire.handshake_failure().unwrap_or(match end {
            ConnectionEnd::Silent => HandshakeFailure::Timeout,
            ConnectionEnd::Refused => HandshakeFailure::Refused,
            _ => HandshakeFailure::Closed,
        });
        (ConnectionEnd::Handshake, Some(failure))
    }

    /// Notes a message that meant something.
    pub(super) fn note_heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// Notes what is left after the frames of a read; `any` tells that there was one.
    pub(super) fn note_rest(&mut self, any: bool, now: Instant) {
        if !self.framer.is_partial() {
            self.partial_since = None;
        } else if any || self.partial_since.is_none() {
            self.partial_since = Some(now);
        }
    }

    /// When it last said what lengthens its life: in one that is to be bound nothing does, before it is.
    const fn meant(&self) -> Option<Instant> {
        match self.role {
            Role::Binding => None,
            _ => self.heard,
        }
    }

    /// When it is to be closed if nothing more arrives.
    pub(super) fn deadline(&self, limits: &StreamLimits) -> Instant {
        if let Role::Passing(passage) = &self.role {
            return passage.deadline();
        }
        if let Some(joined) = &self.joined {
            return joined.deadline(limits.idle_after);
        }
        let silent = |since: Instant, after: Duration| since + after;
        let idle = match self.meant() {
            Some(heard) => silent(heard, limits.idle_after),
            None => silent(self.opened, limits.silent_after),
        };
        let partial = self.partial_since.map_or(Instant::FAR_FUTURE, |since| {
            silent(since, limits.silent_after)
        });
        idle.min(partial)
    }

    /// Whether it waits for the rest of a frame, or has said nothing yet.
    pub(super) fn is_silent(&self, now: Instant, limits: &StreamLimits) -> bool {
        let since = self.partial_since.or(match self.meant() {
            Some(_) => None,
            None => Some(self.opened),
        });
        since.is_some_and(|since| now >= since + limits.silent_after)
    }

    /// Whether the poller is to be told of a change in what the connection waits for.
    pub(super) fn changes_interest(&mut self) -> Option<bool> {
        if self.joined.is_some() || matches!(self.role, Role::Passing(_)) {
            return None;
        }
        let awaits = !self.backlog.is_empty() || self.wire.has_unsent();
        (awaits != self.awaits_room).then(|| {
            self.awaits_room = awaits;
            awaits
        })
    }

    /// The client's end and what it is joined with.
    pub(super) fn parts(&mut self) -> Option<(&mut Wire, &mut Joined)> {
        let joined = self.joined.as_deref_mut()?;
        Some((&mut self.wire, joined))
    }

    /// Whether TLS is around what it carries.
    pub(super) const fn has_tls(&self) -> bool {
        self.wire.has_tls()
    }

    /// What tells another process, which has TLS around this connection, that nothing follows.
    pub(super) const fn goodbye(&self) -> Option<&Waker> {
        self.wire.goodbye()
    }

    /// Whether something waits to be written.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty() || self.wire.has_unsent()
    }

    /// What waits to be written, taken out.
    pub(super) fn take_backlog(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A vector takes all.
        let _ = self.backlog.write_to(&mut bytes);
        bytes
    }

    /// Relayed messages that wait to be written.
    pub(super) fn unsent_media(&self) -> usize {
        self.backlog.media()
    }

    /// Writes what waits and is not too old.
    pub(super) fn write_backlog(
        &mut self,
        scratch: &mut TlsScratch,
        now: Instant,
        stats: &mut Stats,
    ) -> Result<(), ConnectionEnd> {
        self.drop_old(now, stats);
        self.wire
            .flush_session()
            .and_then(|()| self.backlog.write_to(&mut self.wire.writer(scratch)))
            .map_err(|_| ConnectionEnd::Closed)
    }

    /// Writes `messages`, or queues what finds no room.
    ///
    /// # Errors
    /// How the connection ends; what was not sent is counted.
    pub(super) fn send(
        &mut self,
        messages: Group<'_>,
        buffers: &Buffers,
        scratch: &mut TlsScratch,
        now: Instant,
        stats: &mut Stats,
    ) -> Result<(), ConnectionEnd> {
        self.drop_old(now, stats);
        let mut done = 0;
        let mut end = Ok(());
        while end.is_ok() && done < messages.len() && self.backlog.is_empty() {
            match write(&mut self.wire.writer(scratch), messages.from(done), buffers) {
                Ok(written) => done += self.keep_rest(messages.from(done), written, buffers),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => end = Err(ConnectionEnd::Closed),
            }
        }
        for message in messages.from(done).iter() {
            end = end.and_then(|()| self.queue(message, buffers, now, stats));
            if end.is_err() {
                drop_relayed(message, stats);
            }
        }
        end
    }

    /// Tells how many messages `written` bytes took, and queues the rest of one that was begun.
    fn keep_rest(&mut self, messages: Group<'_>, mut written: usize, buffers: &Buffers) -> usize {
        let mut done = 0;
        for message in messages.iter() {
            if written == 0 {
                break;
            }
            let bytes = buffers.bytes(message.span);
            if written < bytes.len() {
                self.backlog.push_rest(&bytes[written..]);
            }
            written = written.saturating_sub(bytes.len());
            done += 1;
        }
        done
    }

    fn drop_old(&mut self, now: Instant, stats: &mut Stats) {
        let dropped = self.backlog.drop_old(now);
        stats.add(Counter::BacklogEvicted(Eviction::Age), dropped as u64);
    }

    fn queue(
        &mut self,
        message: &Message,
        buffers: &Buffers,
        now: Instant,
        stats: &mut Stats,
    ) -> Result<(), ConnectionEnd> {
        let bytes = buffers.bytes(message.span);
        let evicted = if message.relayed.is_some() {
            self.backlog.push_media(bytes, now).unwrap_or_else(|_| {
                drop_relayed(message, stats);
                0
            })
        } else {
            let queued = self.backlog.push_control(bytes);
            queued.map_err(|_| ConnectionEnd::Backlog)?
        };
        stats.add(Counter::BacklogEvicted(Eviction::Size), evicted as u64);
        Ok(())
    }
}

fn write(writer: &mut Writer<'_>, messages: Group<'_>, buffers: &Buffers) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut filled = 0;
    for (slice, message) in slices.iter_mut().zip(messages.iter()) {
        *slice = IoSlice::new(buffers.bytes(message.span));
        filled += 1;
    }
    match writer.write_vectored(&slices[..filled]) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}

/// Counts a message that will never be sent to its client.
pub(super) fn drop_relayed(message: &Message, stats: &mut Stats) {
    if let Some(relayed) = message.relayed {
        stats.relay_failed(relayed.direction, relayed.bytes, Reason::ClientBacklog);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}
