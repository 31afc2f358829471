//! One session: an object of the library, kept from harming others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use dimpl::{Dtls, Error, Output, SecurityError};

use super::chain::{Layout, mend_fragment};
use super::cookie::Cookie;
use super::hello::{HANDSHAKE_HEADER, Hello, RECORD_HEADER, Version};
use super::identity::DtlsIdentity;
use super::output::Outputs;
use super::provider::expecting;
use crate::time::Instant;
use crate::turn::{FiveTuple, HandshakeFailure};

/// The most ClientHellos that a client may have sent before the one with a valid cookie.
const MOST_HELLOS: u16 = 4;
/// What the library writes at a time, in bytes, until it asks for more.
const SCRATCH: usize = 1 << 14;
/// Where the number of a handshake message is in its record.
const MESSAGE_NUMBER: usize = RECORD_HEADER + 4;

/// The clock of the library.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) origin: std::time::Instant,
}

impl Clock {
    fn of_library(self, at: Instant) -> std::time::Instant {
        self.origin + Duration::from_nanos(at.as_nanos())
    }

    fn of_ours(self, at: std::time::Instant) -> Instant {
        Instant::ZERO + at.saturating_duration_since(self.origin)
    }
}

/// What sessions work with.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) clock: Clock,
    pub(super) scratch: Vec<u8>,
    pub(super) outputs: Outputs,
}

impl Workshop {
    pub(super) fn new(origin: std::time::Instant) -> Self {
        Self {
            clock: Clock { origin },
            scratch: vec![0; SCRATCH],
            outputs: Outputs::default(),
        }
    }
}

/// What came of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The handshake is complete now.
    pub(super) established: bool,
    /// The client closed the session.
    pub(super) closed: bool,
    /// Something came out of it, be it only that.
    pub(super) any: bool,
}

/// The server's end of a session, from the returned cookie on.
pub(super) struct Session {
    dtls: Dtls,
    client: FiveTuple,
    /// The random of its ClientHello.
    pub(super) random: [u8; 32],
    /// When [`timeout`](Self::timeout) is due.
    pub(super) timer: Instant,
    /// When something was last heard.
    pub(super) heard: Instant,
    /// What is added to the numbers of plaintext records: the first flights had none of the library's.
    shift: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.client.client)
    }
}

impl Session {
    /// Begins with a ClientHello that has returned `cookie`, which is valid; `first` is the record with
    /// the ClientHello before it (DTLS 1.3). The server's flight goes to the outputs.
    ///
    /// # Errors
    /// There is nothing in common, or the ClientHello is not one.
    pub(super) fn start(
        workshop: &mut Workshop,
        now: Instant,
        client: FiveTuple,
        identity: &DtlsIdentity,
        hello: &Hello<'_>,
        first: Option<&[u8]>,
        cookie: Cookie,
    ) -> Result<Self, HandshakeFailure> {
        let at = workshop.clock.of_library(now);
        let begun = guarded(|| greet(at, identity, hello, first, cookie))?;
        let (dtls, flights) = begun?;
        let mut session = Self {
            dtls,
            client,
            random: *hello.random,
            timer: now,
            heard: now,
            shift: hello.record_number.saturating_sub(flights),
        };
        let progress = session.drive(workshop)?;
        // The library drops a ClientHello in silence when it knows none of what is offered.
        progress
            .any
            .then_some(session)
            .ok_or(HandshakeFailure::Cipher)
    }

    /// Takes a datagram of the client.
    ///
    /// # Errors
    /// Why the session is over.
    pub(super) fn receive(
        &mut self,
        workshop: &mut Workshop,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Progress, HandshakeFailure> {
        self.work(workshop, now, |dtls| dtls.handle_packet(datagram))
    }

    /// Sends again what was not answered.
    ///
    /// # Errors
    /// Why the session is over.
    pub(super) fn timeout(
        &mut self,
        workshop: &mut Workshop,
        now: Instant,
    ) -> Result<Progress, HandshakeFailure> {
        self.work(workshop, now, |_| Ok(()))
    }

    /// Encrypts `message` and puts the datagram, with others if there are any, to the outputs.
    ///
    /// # Errors
    /// Why the session is over.
    pub(super) fn send(
        &mut self,
        workshop: &mut Workshop,
        message: &[u8],
    ) -> Result<(), HandshakeFailure> {
        guarded(|| self.dtls.send_application_data(message))?.map_err(|error| failure(&error))?;
        self.drive(workshop).map(|_| ())
    }

    /// Says goodbye (close_notify).
    pub(super) fn close(&mut self, workshop: &mut Workshop) {
        // What goes wrong here is of no consequence: the session is forgotten.
        let closed = guarded(|| self.dtls.close());
        if matches!(closed, Ok(Ok(()))) {
            let _ = self.drive(workshop);
        }
    }

    fn work(
        &mut self,
        workshop: &mut Workshop,
        now: Instant,
        work: impl FnOnce(&mut Dtls) -> Result<(), Error>,
    ) -> Result<Progress, HandshakeFailure> {
        let at = workshop.clock.of_library(now);
        let worked = guarded(|| {
            self.dtls.handle_timeout(at)?;
            work(&mut self.dtls)
        })?;
        // An alert may wait behind an error.
        let driven = self.drive(workshop);
        worked.map_err(|error| failure(&error))?;
        driven
    }

    /// Takes out everything that the library has to give.
    fn drive(&mut self, workshop: &mut Workshop) -> Result<Progress, HandshakeFailure> {
        guarded(|| self.drain(workshop))
    }

    fn drain(&mut self, workshop: &mut Workshop) -> Progress {
        let mut progress = Progress::default();
        loop {
            let needed = match self.dtls.poll_output(&mut workshop.scratch) {
                Output::Timeout(at) => {
                    self.timer = workshop.clock.of_ours(at);
                    return progress;
                }
                Output::BufferTooSmall { needed } => needed,
                Output::Packet(bytes) => {
                    let shift = self.shift;
                    workshop.outputs.send(self.client, |room| {
                        let start = room.len();
                        room.extend_from_slice(bytes);
                        mend_records(&mut room[start..], shift);
                    });
                    0
                }
                Output::ApplicationData(bytes) => {
                    workshop.outputs.message(self.client, bytes);
                    0
                }
                Output::Connected => {
                    progress.established = true;
                    0
                }
                Output::CloseNotify => {
                    progress.closed = true;
                    0
                }
                _ => 0,
            };
            progress.any |= needed == 0;
            if needed > workshop.scratch.len() {
                workshop.scratch.resize(needed, 0);
            }
        }
    }
}

/// An object of the library that has heard what its client said until now, and how many records it has
/// sent for that.
fn greet(
    at: std::time::Instant,
    identity: &DtlsIdentity,
    hello: &Hello<'_>,
    first: Option<&[u8]>,
    cookie: Cookie,
) -> Result<(Dtls, u64), HandshakeFailure> {
    let config = Arc::clone(&identity.config);
    let (mut dtls, flights) = match hello.version {
        Version::Dtls12 => {
            let certificate = identity.certificate(Layout::Dtls12);
            (Dtls::new_12(config, certificate, at), hello.message_number)
        }
        Version::Dtls13 => {
            let certificate = identity.certificate(Layout::Dtls13);
            (Dtls::new_13(config, certificate, at), 1)
        }
        Version::Other => return Err(HandshakeFailure::Version),
    };
    dtls.handle_timeout(at).map_err(|error| failure(&error))?;
    match hello.version {
        Version::Dtls13 => {
            let first = first.ok_or(HandshakeFailure::Protocol)?;
            retell(&mut dtls, |dtls| {
                expecting(cookie, || dtls.handle_packet(first))
            })?;
        }
        _ => repeat_hellos(&mut dtls, hello)?,
    }
    expecting(cookie, || dtls.handle_packet(hello.record)).map_err(|error| failure(&error))?;
    Ok((dtls, u64::from(flights)))
}

/// The ClientHellos before `hello` are of no account (RFC 6347 §4.2.1), but messages are numbered by
/// them. The cookie is none that the library knows as its own.
fn repeat_hellos(dtls: &mut Dtls, hello: &Hello<'_>) -> Result<(), HandshakeFailure> {
    if hello.message_number > MOST_HELLOS {
        return Err(HandshakeFailure::Protocol);
    }
    let mut record = hello.record.to_vec();
    for number in 0..hello.message_number {
        let place = record.get_mut(MESSAGE_NUMBER..MESSAGE_NUMBER + 2);
        place
            .ok_or(HandshakeFailure::Protocol)?
            .copy_from_slice(&number.to_be_bytes());
        retell(dtls, |dtls| dtls.handle_packet(&record))?;
    }
    Ok(())
}

/// Tells `dtls` what was answered already, and drops its answer.
fn retell(
    dtls: &mut Dtls,
    tell: impl FnOnce(&mut Dtls) -> Result<(), Error>,
) -> Result<(), HandshakeFailure> {
    tell(dtls).map_err(|error| failure(&error))?;
    let mut answer = [0; 256];
    loop {
        match dtls.poll_output(&mut answer) {
            Output::Timeout(_) => return Ok(()),
            Output::BufferTooSmall { .. } => return Err(HandshakeFailure::Protocol),
            _ => {}
        }
    }
}

/// Adds `shift` to the numbers of the plaintext records in `datagram` (RFC 6347 §4.2.1: the numbers go on
/// from that of the ClientHello), and puts a certificate right that goes in the clear.
fn mend_records(mut datagram: &mut [u8], shift: u64) {
    while datagram.len() >= RECORD_HEADER {
        let is_plain = matches!(datagram[0], 20..=26) && datagram[3..5] == [0, 0];
        if !is_plain {
            return;
        }
        let mut number = [0; 8];
        number[2..].copy_from_slice(&datagram[5..11]);
        let number = u64::from_be_bytes(number).wrapping_add(shift);
        datagram[5..11].copy_from_slice(&number.to_be_bytes()[2..]);
        let length = usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        let end = (RECORD_HEADER + length).min(datagram.len());
        mend_fragment(Layout::Dtls12, &mut datagram[RECORD_HEADER..end]);
        datagram = &mut datagram[end..];
    }
}

/// A mistake in the library ends one session, not the server. Tests are to see it.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, HandshakeFailure> {
    if cfg!(test) {
        return Ok(work());
    }
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| HandshakeFailure::Protocol)
}

/// What an error of the library means.
fn failure(error: &Error) -> HandshakeFailure {
    match error {
        Error::Timeout(_) => HandshakeFailure::Timeout,
        Error::SecurityError(error) => match error {
            SecurityError::FatalAlert { description } => alert(*description),
            SecurityError::UnsupportedClientVersion(_) => HandshakeFailure::Version,
            SecurityError::NoMutuallyAcceptableCipherSuite
            | SecurityError::NoCommonCipherSuite
            | SecurityError::NoCommonKeyExchangeGroup
            | SecurityError::ExtendedMasterSecretNotNegotiated
            | SecurityError::SignatureSchemeNotOffered(_)
            | SecurityError::UnsupportedClientCompression => HandshakeFailure::Cipher,
            _ => HandshakeFailure::Protocol,
        },
        _ => HandshakeFailure::Protocol,
    }
}

/// What the client did not like (RFC 8446 §6).
const fn alert(description: u8) -> HandshakeFailure {
    match description {
        42..=46 | 48 => HandshakeFailure::Certificate,
        70 => HandshakeFailure::Version,
        _ => HandshakeFailure::Alert,
    }
}

const _: () = assert!(MESSAGE_NUMBER < RECORD_HEADER + HANDSHAKE_HEADER);
