//! One client's TLS session.

use std::fmt;
use std::io::IoSlice;

use rustls::Error;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

use super::failure::{TlsFailure, handshake_failure};
use super::server::{ALPN, TlsServer};
use crate::transport::LARGEST_FRAME;

/// The most plaintext of one record (RFC 8446 §5.1).
const RECORD: usize = 16_384;
/// What encryption adds to a record at most, with its header (RFC 5246 §6.2.3).
const RECORD_OVERHEAD: usize = 5 + 2048;
/// The most ciphertext that waits for the rest of its record, or of its handshake message.
const HELD: usize = RECORD + RECORD_OVERHEAD;
/// More than one message is encrypted at once up to this size.
const BATCH: usize = 32 * 1024;
/// Memory for ciphertext is kept for the next record up to this size.
const KEPT: usize = 4096;

/// What [`TlsSession::receive`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of plaintext, which lie at the beginning of the room.
    pub plaintext: usize,
    /// The client said that nothing more follows (close_notify).
    pub ended: bool,
    /// The handshake was completed by this.
    pub established: bool,
    /// Why nothing more can follow. [`TlsSession::outgoing`] has the alert.
    pub failure: Option<TlsFailure>,
}

/// What [`TlsSession::seal`] made.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'s> {
    /// How many bytes of plaintext are in it.
    pub plaintext: usize,
    /// The ciphertext, to be sent next.
    pub ciphertext: &'s [u8],
}

/// Room for records in the making, for all sessions of a thread.
pub struct TlsScratch {
    ciphertext: Box<[u8]>,
}

impl Default for TlsScratch {
    fn default() -> Self {
        Self {
            ciphertext: vec![0; BATCH + LARGEST_FRAME + 1024].into(),
        }
    }
}

impl fmt::Debug for TlsScratch {
    /// Not what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsScratch")
    }
}

/// The server's end of one TLS session.
///
/// What arrives: read into [`room`](Self::room), then [`receive`](Self::receive). What goes:
/// [`seal`](Self::seal), while [`outgoing`](Self::outgoing) is empty. After each, send `outgoing` and
/// tell by [`advance`](Self::advance) how much of it was taken.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Ciphertext that waits for its rest.
    held: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    /// Some record was understood.
    greeted: bool,
    established: bool,
    /// Nothing more can be received or sealed.
    failed: bool,
}

impl TlsSession {
    /// The least room for [`receive`](Self::receive): plaintext, ciphertext that waited, and 1 KiB more.
    pub const LEAST_ROOM: usize = RECORD + HELD + 1024;

    /// A session that waits for the ClientHello.
    ///
    /// # Errors
    /// The TLS library refuses the settings.
    pub fn new(server: &TlsServer) -> Result<Self, TlsFailure> {
        let connection = UnbufferedServerConnection::new(server.settings());
        Ok(Self {
            connection: connection
                .map_err(|error| TlsFailure::Handshake(handshake_failure(&error, true)))?,
            held: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            greeted: false,
            established: false,
            failed: false,
        })
    }

    /// Whether the handshake is complete.
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// Whether a protocol was agreed on (ALPN), and whether it is one of RFC 7443; none before the
    /// handshake is complete.
    pub fn speaks_turn(&self) -> Option<bool> {
        if !self.established {
            return None;
        }
        let protocol = self.connection.alpn_protocol()?;
        Some(ALPN.contains(&protocol))
    }

    /// The part of `room` that the next bytes of the connection are to be read into. `room` has at least
    /// [`LEAST_ROOM`](Self::LEAST_ROOM) bytes.
    pub fn room<'r>(&self, room: &'r mut [u8]) -> &'r mut [u8] {
        &mut room[RECORD + self.held.len()..]
    }

    /// Decrypts what was read: `length` bytes in [`room`](Self::room) of the same `room`.
    pub fn receive(&mut self, room: &mut [u8], length: usize) -> Received {
        let mut received = Received::default();
        if self.failed {
            return received;
        }
        let mut at = RECORD;
        let end = at + self.held.len() + length;
        room[at..end - length].copy_from_slice(&self.held);
        loop {
            let (discard, more) = self.step(&mut room[..end], at, &mut received);
            at += discard;
            self.greeted |= discard > 0;
            if !more {
                break;
            }
        }
        self.hold(&room[at..end], &mut received);
        received.established = !self.established && !self.connection.is_handshaking();
        self.established |= received.established;
        received
    }

    /// Goes on with the ciphertext at `at`: how much of it is done with, and whether there is more to do.
    fn step(&mut self, room: &mut [u8], at: usize, received: &mut Received) -> (usize, bool) {
        // Plaintext is shorter than its ciphertext, and a record fits before the first ciphertext.
        let (front, rest) = room.split_at_mut(at);
        let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
        let more = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    let place = received.plaintext..received.plaintext + record.payload.len();
                    if let Some(place) = front.get_mut(place) {
                        place.copy_from_slice(record.payload);
                        received.plaintext += record.payload.len();
                    }
                }
                true
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, &mut self.outgoing);
                !self.failed || self.connection.wants_write()
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                received.ended = true;
                true
            }
            Ok(_) => false,
            Err(error) => {
                received.failure = Some(self.failure(&error));
                self.failed = true;
                // Only as long as there is an alert to take: what failed must not be looked at again.
                self.connection.wants_write()
            }
        };
        (discard, more)
    }

    fn failure(&self, error: &Error) -> TlsFailure {
        if self.established || !self.connection.is_handshaking() {
            TlsFailure::Session
        } else {
            TlsFailure::Handshake(handshake_failure(error, self.greeted))
        }
    }

    /// Keeps ciphertext that waits for its rest.
    fn hold(&mut self, rest: &[u8], received: &mut Received) {
        self.held.clear();
        if received.failure.is_some() || received.ended {
            return;
        }
        if rest.len() > HELD {
            self.failed = true;
            received.failure = Some(self.failure(&Error::PeerSentOversizedRecord));
            return;
        }
        self.held.extend_from_slice(rest);
        if rest.is_empty() {
            self.held.shrink_to(KEPT);
        }
    }

    /// Encrypts `messages`, each in records of its own: there are clients that take a record for a message.
    /// None when [`outgoing`](Self::outgoing) is to be sent before, or the handshake is not complete;
    /// otherwise the first message at least, and further ones up to 32 KiB in all.
    ///
    /// # Errors
    /// The session's keys are used up, or a message has more than 65 552 bytes.
    pub fn seal<'s>(
        &mut self,
        messages: &[IoSlice<'_>],
        scratch: &'s mut TlsScratch,
    ) -> Result<Option<Sealed<'s>>, TlsFailure> {
        self.collect();
        if self.failed {
            return Err(TlsFailure::Session);
        }
        if !self.established || !self.outgoing().is_empty() {
            return Ok(None);
        }
        let (mut plaintext, mut filled) = (0, 0);
        for message in messages {
            if filled > 0 && filled + message.len() > BATCH {
                break;
            }
            let sealed = self.seal_one(message, &mut scratch.ciphertext[filled..])?;
            let start = filled;
            filled += sealed;
            plaintext += message.len();
            if self.connection.wants_write() {
                self.insert_key_update(&scratch.ciphertext[..filled], start);
                filled = 0;
                break;
            }
        }
        Ok(Some(Sealed {
            plaintext,
            ciphertext: &scratch.ciphertext[..filled],
        }))
    }

    fn seal_one(&mut self, message: &[u8], room: &mut [u8]) -> Result<usize, TlsFailure> {
        match self.connection.process_tls_records(&mut self.held).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic
                .encrypt(message, room)
                .map_err(|_| TlsFailure::Session),
            _ => Err(TlsFailure::Session),
        }
    }

    /// Queues `ciphertext`, with the key update that the TLS library made for what begins at `at`.
    fn insert_key_update(&mut self, ciphertext: &[u8], at: usize) {
        let (before, after) = ciphertext.split_at(at);
        self.outgoing.extend_from_slice(before);
        self.collect();
        self.outgoing.extend_from_slice(after);
    }

    /// Says that nothing more follows (close_notify).
    pub fn close(&mut self) {
        self.collect();
        if self.failed || !self.established {
            return;
        }
        let mut alert = [0; 64];
        let state = self.connection.process_tls_records(&mut self.held).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state
            && let Ok(length) = traffic.queue_close_notify(&mut alert)
        {
            self.outgoing.extend_from_slice(&alert[..length]);
        }
    }

    /// What is to be sent before anything else.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Queues the rest of sealed ciphertext that found no room in the connection.
    pub fn keep(&mut self, rest: &[u8]) {
        self.outgoing.extend_from_slice(rest);
    }

    /// Forgets the first `sent` bytes of [`outgoing`](Self::outgoing).
    pub fn advance(&mut self, sent: usize) {
        self.sent += sent;
        if self.outgoing().is_empty() {
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(KEPT);
        }
    }

    /// Queues what the session itself has to say: handshake messages, alerts. The TLS library wants to see
    /// what waits for its rest at each call.
    fn collect(&mut self) {
        while !self.failed {
            match self.connection.process_tls_records(&mut self.held).state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outgoing);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return,
            }
        }
    }
}

impl fmt::Debug for TlsSession {
    /// Not what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("established", &self.established)
            .finish_non_exhaustive()
    }
}

/// Appends `data` to `outgoing`.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) {
    let start = outgoing.len();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        outgoing.resize(start + needed.required_size, 0);
        let encoded = data.encode(&mut outgoing[start..]).unwrap_or(0);
        outgoing.truncate(start + encoded);
    }
}
