//! All DTLS sessions of one shard.

use std::sync::Arc;
use std::time::Duration;

use super::LARGEST_RECORD;
use super::cookie::{Cookie, Cookies};
use super::first_hellos::FirstHellos;
use super::hello::{HANDSHAKE, Hello, Version, is_hello};
use super::identity::DtlsIdentity;
use super::output::DtlsOutput;
use super::reply;
use super::session::{Session, Workshop};
use super::table::{Place, Table};
use crate::time::Instant;
use crate::transport::sources::Sources;
use crate::turn::{ConnectionEnd, FiveTuple, HandshakeFailure};

/// The most ClientHellos that are looked at in one datagram.
const MOST_IN_DATAGRAM: usize = 4;

/// Limits on the sessions of one shard.
#[derive(Clone, Copy, Debug)]
pub struct DtlsLimits {
    /// Handshakes at a time of clients that have returned their cookie, and as many first ClientHellos
    /// of others (DTLS 1.3); beyond it the oldest goes.
    pub half_open: usize,
    /// Clients at a time; beyond it a new one is not served.
    pub sessions: usize,
    /// Clients of one source address (IPv6: one /64) at a time.
    pub sessions_per_source: usize,
    /// A session of which nothing is heard for so long is quiet.
    pub idle_after: Duration,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was a part of a handshake, or of a session's end.
    Handshake,
    /// It carried messages, which are among the outputs, or had another use in an established session.
    Messages,
    /// It belongs to no session, or nothing in it could be read.
    Nothing,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The client has no established session.
    NoSession,
    /// It is longer than a record can be.
    TooLarge,
}

/// The sessions. After each `receive`, `seal`, `close`, `close_all` and `handle_timeout`, drain
/// [`poll`](Self::poll).
#[derive(Debug)]
pub struct DtlsSessions {
    limits: DtlsLimits,
    identity: Option<Arc<DtlsIdentity>>,
    cookies: Cookies,
    first_hellos: FirstHellos,
    table: Table,
    workshop: Workshop,
}

impl DtlsSessions {
    /// No sessions yet. `cookie_key` is from the operating system's generator; `origin` is the origin of
    /// the clock by which time is told; `sources` are counted by all shards together. Without an identity
    /// nobody is answered.
    pub fn new(
        limits: DtlsLimits,
        identity: Option<Arc<DtlsIdentity>>,
        cookie_key: [u8; 32],
        origin: std::time::Instant,
        sources: Arc<Sources>,
    ) -> Self {
        Self {
            limits,
            identity,
            cookies: Cookies::new(cookie_key),
            first_hellos: FirstHellos::new(limits.half_open),
            table: Table::new(limits.idle_after, sources),
            workshop: Workshop::new(origin),
        }
    }

    /// From now on `limits` hold; nobody who is there already is sent away for them.
    pub fn set_limits(&mut self, limits: DtlsLimits) {
        self.limits = limits;
        self.first_hellos.set_capacity(limits.half_open);
        self.table.set_idle_after(limits.idle_after);
    }

    /// Lets the sessions that begin from now on have `identity`.
    pub fn set_identity(&mut self, identity: Option<Arc<DtlsIdentity>>) {
        self.identity = identity;
    }

    /// Handles a datagram. A client that has waited too long repeats what it said before in the same datagram
    /// in which it goes on (RFC 6347 §4.1.1).
    pub fn receive(&mut self, now: Instant, from: FiveTuple, datagram: &[u8]) -> Heard {
        if !is_hello(datagram) {
            return self.deliver(now, &from, datagram);
        }
        let mut rest = datagram;
        let mut unproven = None;
        for hello in Hello::leading(datagram).take(MOST_IN_DATAGRAM) {
            rest = &rest[hello.record.len()..];
            if self.knows(&from, &hello) {
                // What is behind it tells that the answer to it has arrived.
                if rest.is_empty() && !hello.cookie.is_empty() {
                    return self.deliver(now, &from, hello.record);
                }
            } else if self.identity.is_none() {
                return self.fail(from, HandshakeFailure::Refused);
            } else if let Some(cookie) = self.returned_cookie(now, &from, &hello) {
                return self.begin(now, from, &hello, cookie);
            } else {
                unproven = Some(hello);
            }
        }
        match unproven {
            Some(hello) => self.challenge(now, from, &hello),
            None if rest.is_empty() => Heard::Handshake,
            None if is_hello(rest) => self.fail(from, HandshakeFailure::NotTls),
            None => self.deliver(now, &from, rest),
        }
    }

    /// Encrypts a message to the client `to`. What else there is to send waits among the outputs.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn seal(&mut self, to: &FiveTuple, message: &[u8]) -> Result<&[u8], Unsent> {
        if message.len() > LARGEST_RECORD {
            return Err(Unsent::TooLarge);
        }
        let place = self.table.find(to).ok_or(Unsent::NoSession)?;
        let entry = self.table.get(place).ok_or(Unsent::NoSession)?;
        let session = entry.open.as_mut().ok_or(Unsent::NoSession)?;
        self.workshop.outputs.tidy();
        let first = self.workshop.outputs.len();
        if session.send(&mut self.workshop, message).is_err() {
            self.end(place, ConnectionEnd::Session);
            return Err(Unsent::NoSession);
        }
        let sealed = self.workshop.outputs.take_datagram(first);
        sealed.ok_or(Unsent::NoSession)
    }

    /// Ends a client's established session.
    pub fn close(&mut self, client: &FiveTuple, end: ConnectionEnd) {
        let Some(place) = self.table.find(client) else {
            return;
        };
        if let Some(session) = self.table.get(place).and_then(|entry| entry.open.as_mut()) {
            session.close(&mut self.workshop);
            self.end(place, end);
        }
    }

    /// Ends one session or handshake; false when there is none.
    pub fn close_any(&mut self, end: ConnectionEnd) -> bool {
        let Some(place) = self.table.any() else {
            return false;
        };
        self.fail_half(place, HandshakeFailure::Closed);
        if let Some(entry) = self.table.get(place) {
            let client = entry.client;
            self.close(&client, end);
        }
        true
    }

    /// Sends again what was not answered, ends what took too long, finds who is quiet.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(place) = self.table.overdue(now) {
            self.time_half_out(now, place);
            self.time_open_out(now, place);
            self.table.settle(place);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; none while nothing can expire.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_deadline()
    }

    /// The next thing to do, until none.
    pub fn poll(&mut self) -> Option<DtlsOutput<'_>> {
        self.workshop.outputs.pop()
    }

    /// Clients that have a session or are about to have one.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Handshakes that are going on.
    pub fn handshaking(&self) -> usize {
        self.table.halves()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Whether a session of the client began with this very ClientHello.
    fn knows(&mut self, client: &FiveTuple, hello: &Hello<'_>) -> bool {
        let Some(place) = self.table.find(client) else {
            return false;
        };
        let random = |session: &mut Session| session.random == *hello.random;
        self.table.get(place).is_some_and(|entry| {
            entry.half().is_some_and(random) || entry.open.as_mut().is_some_and(random)
        })
    }

    fn returned_cookie(
        &self,
        now: Instant,
        client: &FiveTuple,
        hello: &Hello<'_>,
    ) -> Option<Cookie> {
        let cookie = Cookie::try_from(hello.cookie).ok()?;
        let valid = self.cookies.is_valid(&cookie, now, client, hello.random);
        valid.then_some(cookie)
    }

    /// Answers a stranger, and remembers nothing but a first ClientHello of DTLS 1.3.
    fn challenge(&mut self, now: Instant, client: FiveTuple, hello: &Hello<'_>) -> Heard {
        let Some(cookie) = self.cookies.make(now, &client, hello.random) else {
            return Heard::Nothing;
        };
        let mut answer = Vec::with_capacity(160);
        match hello.version {
            Version::Dtls12 => reply::verify_request(hello, &cookie, &mut answer),
            // A cookie that is too old: the client has to begin again (RFC 8446 §4.2.2).
            Version::Dtls13 if !hello.cookie.is_empty() => return Heard::Nothing,
            Version::Dtls13 if reply::retry_request(hello, &cookie, &mut answer) => {
                if !self.first_hellos.keep(client, hello) {
                    return self.fail(client, HandshakeFailure::Protocol);
                }
            }
            Version::Dtls13 => {
                return self.refuse(client, hello, reply::HANDSHAKE_FAILURE);
            }
            Version::Other => return self.refuse(client, hello, reply::PROTOCOL_VERSION),
        }
        self.answer(client, hello, &answer);
        Heard::Handshake
    }

    /// Sends an answer, unless it is longer than what it answers (requirement S7).
    fn answer(&mut self, to: FiveTuple, hello: &Hello<'_>, answer: &[u8]) {
        if answer.len() <= hello.record.len() {
            let outputs = &mut self.workshop.outputs;
            outputs.send(to, |room| room.extend_from_slice(answer));
        }
    }

    fn refuse(&mut self, client: FiveTuple, hello: &Hello<'_>, description: u8) -> Heard {
        let mut answer = Vec::with_capacity(16);
        reply::alert(description, hello.record_number, &mut answer);
        self.answer(client, hello, &answer);
        self.fail(
            client,
            match description {
                reply::PROTOCOL_VERSION => HandshakeFailure::Version,
                _ => HandshakeFailure::Cipher,
            },
        )
    }

    /// The client has proven its address.
    fn begin(
        &mut self,
        now: Instant,
        client: FiveTuple,
        hello: &Hello<'_>,
        cookie: Cookie,
    ) -> Heard {
        let Some(identity) = self.identity.clone().filter(|_| self.admits(&client)) else {
            return self.fail(client, HandshakeFailure::Refused);
        };
        let first = match hello.version {
            Version::Dtls13 => self.first_hellos.take(client, hello.random),
            _ => None,
        };
        let first = first.as_deref();
        let workshop = &mut self.workshop;
        match Session::start(workshop, now, client, &identity, hello, first, cookie) {
            Ok(session) => {
                if let Some(place) = self.table.find(&client) {
                    self.fail_half(place, HandshakeFailure::Closed);
                }
                self.make_room();
                self.table.begin(client, session);
                Heard::Handshake
            }
            Err(HandshakeFailure::Cipher) => self.refuse(client, hello, reply::HANDSHAKE_FAILURE),
            Err(failure) => self.fail(client, failure),
        }
    }

    /// Whether one more client is within the limits.
    fn admits(&self, client: &FiveTuple) -> bool {
        self.table.find(client).is_some()
            || self.table.len() < self.limits.sessions
                && self.table.of_source(client.client.ip()) < self.limits.sessions_per_source
    }

    fn make_room(&mut self) {
        while self.table.halves() >= self.limits.half_open.max(1) {
            let Some(place) = self.table.oldest_half() else {
                return;
            };
            self.fail_half(place, HandshakeFailure::Refused);
        }
    }

    /// Gives a datagram to the session that it belongs to.
    fn deliver(&mut self, now: Instant, client: &FiveTuple, datagram: &[u8]) -> Heard {
        let Some(place) = self.table.find(client) else {
            return Heard::Nothing;
        };
        let half = self.table.get(place).and_then(|entry| entry.half());
        let heard = if half.is_some() && is_of_handshake(datagram) {
            self.deliver_to_half(now, place, datagram);
            Heard::Handshake
        } else {
            self.deliver_to_open(now, place, datagram)
        };
        self.table.settle(place);
        heard
    }

    fn deliver_to_half(&mut self, now: Instant, place: Place, datagram: &[u8]) {
        let Some(half) = self.table.get(place).and_then(|entry| entry.half()) else {
            return;
        };
        let before = self.workshop.outputs.len();
        match half.receive(&mut self.workshop, now, datagram) {
            Ok(progress) if progress.established => self.establish(now, place, before),
            Ok(_) => {}
            Err(failure) => self.fail_half(place, failure),
        }
    }

    /// The handshake is complete: what the client had before is over (RFC 6347 §4.2.8), before the outputs
    /// of the new session from `first` on.
    fn establish(&mut self, now: Instant, place: Place, first: usize) {
        let Some(mut session) = self.table.take_half(place) else {
            return;
        };
        let Some(entry) = self.table.get(place) else {
            return;
        };
        session.heard = now;
        let client = entry.client;
        let outputs = &mut self.workshop.outputs;
        outputs.insert(first, DtlsOutput::Established(client));
        if entry.open.replace(session).is_some() {
            outputs.insert(first, DtlsOutput::Ended(client, ConnectionEnd::Replaced));
        }
    }

    fn deliver_to_open(&mut self, now: Instant, place: Place, datagram: &[u8]) -> Heard {
        let Some(open) = self.table.get(place).and_then(|entry| entry.open.as_mut()) else {
            return Heard::Nothing;
        };
        let Ok(progress) = open.receive(&mut self.workshop, now, datagram) else {
            self.end_open(place, ConnectionEnd::Session);
            return Heard::Handshake;
        };
        if progress.closed {
            open.close(&mut self.workshop);
            self.end_open(place, ConnectionEnd::Closed);
            return Heard::Handshake;
        }
        if !progress.any {
            return Heard::Nothing;
        }
        open.heard = now;
        Heard::Messages
    }

    fn time_half_out(&mut self, now: Instant, place: Place) {
        let half = self.table.get(place).and_then(|entry| entry.half());
        let Some(half) = half.filter(|half| half.timer <= now) else {
            return;
        };
        if let Err(failure) = half.timeout(&mut self.workshop, now) {
            self.fail_half(place, failure);
        }
    }

    fn time_open_out(&mut self, now: Instant, place: Place) {
        let Some(entry) = self.table.get(place) else {
            return;
        };
        let client = entry.client;
        let Some(open) = entry.open.as_mut() else {
            return;
        };
        if open.heard + self.limits.idle_after <= now {
            open.heard = now;
            self.workshop.outputs.push(DtlsOutput::Quiet(client));
        }
        if open.timer <= now && open.timeout(&mut self.workshop, now).is_err() {
            self.end_open(place, ConnectionEnd::Session);
        }
    }

    fn fail_half(&mut self, place: Place, failure: HandshakeFailure) {
        if self.table.take_half(place).is_none() {
            return;
        }
        if let Some(entry) = self.table.get(place) {
            let output = DtlsOutput::Failed(entry.client, failure);
            self.workshop.outputs.push(output);
        }
        self.table.settle(place);
    }

    fn end(&mut self, place: Place, end: ConnectionEnd) {
        self.end_open(place, end);
        self.table.settle(place);
    }

    fn end_open(&mut self, place: Place, end: ConnectionEnd) {
        let Some(entry) = self.table.get(place) else {
            return;
        };
        if entry.open.take().is_some() {
            let output = DtlsOutput::Ended(entry.client, end);
            self.workshop.outputs.push(output);
        }
    }

    fn fail(&mut self, client: FiveTuple, failure: HandshakeFailure) -> Heard {
        let output = DtlsOutput::Failed(client, failure);
        self.workshop.outputs.push(output);
        Heard::Handshake
    }
}

/// Whether the first record of `datagram` is one of a handshake: in the clear, or in epoch 2 of DTLS 1.3
/// (RFC 9147 §4, §6.1). In DTLS 1.2 the content type tells.
fn is_of_handshake(datagram: &[u8]) -> bool {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const ALERT: u8 = 21;
    const ACK: u8 = 26;
    match datagram.first() {
        Some(&(CHANGE_CIPHER_SPEC | HANDSHAKE | ACK)) => true,
        Some(&ALERT) => datagram.get(3..5) == Some(&[0, 0]),
        Some(unified @ 32..=63) => unified & 3 == 2,
        _ => false,
    }
}
