//! The bytes of one connection on their way: a socket, and TLS around them or not.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use crate::net::Waker;
use crate::transport::{Received, TlsFailure, TlsScratch, TlsSession};
use crate::turn::{ConnectionEnd, HandshakeFailure};

/// The most bytes that one pass reads from one connection.
const READ: usize = 16 * 1024;

/// How the bytes are wrapped.
#[derive(Debug)]
pub(super) enum Session {
    /// Not at all.
    Plain,
    /// TLS.
    Tls(Box<TlsSession>),
    /// Not here: another process has TLS around them. It is told by the waker when nothing follows, for the
    /// end of a connection alone may be an accident.
    Inside(Waker),
    /// Not any more: they go on to another process, which tells by the waker when nothing follows.
    Inward(Waker),
}

/// A socket and its session.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    session: Session,
    /// Bytes of plaintext that were written and not yet counted.
    sent: u64,
    failure: Option<TlsFailure>,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    /// Bytes of plaintext at the beginning of the room.
    pub(super) length: usize,
    /// The handshake was completed by it.
    pub(super) established: bool,
    /// Nothing follows, and why.
    pub(super) end: Option<End>,
}

/// Why nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The other side has said all.
    Closed,
    /// The connection broke.
    Broken,
    /// TLS failed.
    Failed(TlsFailure),
}

impl End {
    /// What is counted.
    pub(super) const fn reason(self) -> ConnectionEnd {
        match self {
            Self::Closed | Self::Broken => ConnectionEnd::Closed,
            Self::Failed(TlsFailure::Handshake(_)) => ConnectionEnd::Handshake,
            Self::Failed(TlsFailure::Session) => ConnectionEnd::Session,
        }
    }
}

impl Wire {
    pub(super) const fn new(stream: TcpStream, session: Session) -> Self {
        Self {
            stream,
            session,
            sent: 0,
            failure: None,
        }
    }

    /// How many bytes of plaintext were written since this was asked last.
    pub(super) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }

    /// Whether a handshake is going on.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(&self.session, Session::Tls(session) if !session.is_established())
    }

    /// How the handshake failed, if it did.
    pub(super) const fn handshake_failure(&self) -> Option<HandshakeFailure> {
        match self.failure {
            Some(TlsFailure::Handshake(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Reads what has arrived.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Arrival {
        let into = match &mut self.session {
            Session::Plain | Session::Inside(_) | Session::Inward(_) => &mut room[..READ],
            Session::Tls(session) => {
                let room = session.room(room);
                let most = READ.min(room.len());
                &mut room[..most]
            }
        };
        let length = match self.stream.read(into) {
            Ok(0) => return Arrival::ended(self.end()),
            Ok(length) => length,
            Err(error) if is_transient(&error) => return Arrival::default(),
            Err(_) => return Arrival::ended(End::Broken),
        };
        match &mut self.session {
            Session::Plain | Session::Inside(_) | Session::Inward(_) => Arrival {
                length,
                ..Arrival::default()
            },
            Session::Tls(session) => {
                let received = session.receive(room, length);
                self.failure = received.failure;
                self.answer(received.into())
            }
        }
    }

    /// What it means that nothing follows.
    fn end(&self) -> End {
        match &self.session {
            Session::Inward(goodbye) if !goodbye.clear() => End::Broken,
            _ => End::Closed,
        }
    }

    /// Whether TLS is around them, here.
    pub(super) const fn has_tls(&self) -> bool {
        matches!(self.session, Session::Tls(_))
    }

    /// What tells another process that nothing follows.
    pub(super) const fn goodbye(&self) -> Option<&Waker> {
        match &self.session {
            Session::Inside(goodbye) => Some(goodbye),
            _ => None,
        }
    }

    /// TLS begins.
    pub(super) fn begin_tls(&mut self, session: TlsSession) {
        self.session = Session::Tls(Box::new(session));
    }

    /// Takes bytes of TLS that were read before; `room` as for [`read`](Self::read).
    pub(super) fn take_in(&mut self, bytes: &[u8], room: &mut [u8]) -> Arrival {
        let Session::Tls(session) = &mut self.session else {
            return Arrival::default();
        };
        let into = session.room(room);
        let length = bytes.len().min(into.len());
        into[..length].copy_from_slice(&bytes[..length]);
        let received = session.receive(room, length);
        self.failure = received.failure;
        self.answer(received.into())
    }

    /// Whether client and server agreed on a protocol inside TLS, and whether it is one of RFC 7443.
    pub(super) fn speaks_turn(&self) -> Option<bool> {
        match &self.session {
            Session::Tls(session) => session.speaks_turn(),
            _ => None,
        }
    }

    /// How opening the connection ended, as `ask` tells.
    pub(super) fn outcome(&self, ask: impl FnOnce(&TcpStream) -> io::Result<()>) -> io::Result<()> {
        ask(&self.stream)
    }

    /// Sends what TLS has to say by itself.
    fn answer(&mut self, arrival: Arrival) -> Arrival {
        match self.flush_session() {
            Err(_) if arrival.end.is_none() => Arrival {
                end: Some(End::Broken),
                ..arrival
            },
            _ => arrival,
        }
    }

    /// Whether ciphertext waits for room in the socket.
    pub(super) fn has_unsent(&self) -> bool {
        match &self.session {
            Session::Tls(session) => !session.outgoing().is_empty(),
            _ => false,
        }
    }

    /// Sends ciphertext that waits, as far as there is room.
    pub(super) fn flush_session(&mut self) -> io::Result<()> {
        let Session::Tls(session) = &mut self.session else {
            return Ok(());
        };
        while !session.outgoing().is_empty() {
            match self.stream.write(session.outgoing()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => session.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says to the client that nothing follows, if there is room to say it.
    pub(super) fn say_goodbye(&mut self) {
        match &mut self.session {
            Session::Tls(session) => {
                session.close();
                // Whoever is gone need not be told.
                let _ = self.flush_session();
            }
            Session::Inside(goodbye) => goodbye.wake(),
            Session::Plain | Session::Inward(_) => {}
        }
    }

    /// Tells the other side by TCP that nothing follows; what it says can still be read.
    pub(super) fn shut_down(&self) {
        // Whoever is gone need not be told.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// As a place to write messages to.
    pub(super) fn writer<'w>(&'w mut self, scratch: &'w mut TlsScratch) -> Writer<'w> {
        Writer {
            wire: self,
            scratch,
        }
    }
}

impl Arrival {
    fn ended(end: End) -> Self {
        Self {
            end: Some(end),
            ..Self::default()
        }
    }
}

impl From<Received> for Arrival {
    fn from(received: Received) -> Self {
        let closed = received.ended.then_some(End::Closed);
        Self {
            length: received.plaintext,
            established: received.established,
            end: received.failure.map(End::Failed).or(closed),
        }
    }
}

/// Takes plaintext; TLS encrypts several messages for one write.
pub(super) struct Writer<'w> {
    wire: &'w mut Wire,
    scratch: &'w mut TlsScratch,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, messages: &[IoSlice<'_>]) -> io::Result<usize> {
        let Session::Tls(session) = &mut self.wire.session else {
            let written = self.wire.stream.write_vectored(messages)?;
            self.wire.sent += written as u64;
            return Ok(written);
        };
        let sealed = session.seal(messages, self.scratch);
        let Some(sealed) = sealed.map_err(|_| io::ErrorKind::ConnectionAborted)? else {
            return self.write_after_session(messages);
        };
        let sent = match self.wire.stream.write(sealed.ciphertext) {
            Ok(sent) => sent,
            Err(error) if is_transient(&error) => 0,
            Err(error) => return Err(error),
        };
        session.keep(&sealed.ciphertext[sent..]);
        let plaintext = sealed.plaintext;
        self.wire.sent += plaintext as u64;
        self.wire.flush_session()?;
        Ok(plaintext)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer<'_> {
    /// Something is to be sent first.
    fn write_after_session(&mut self, messages: &[IoSlice<'_>]) -> io::Result<usize> {
        let waited = self.wire.has_unsent();
        self.wire.flush_session()?;
        if waited && !self.wire.has_unsent() {
            self.write_vectored(messages)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
