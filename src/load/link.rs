//! A client's way to the server: a socket, or a connection that frames are cut from.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::datagrams::{connected, send_train};
use super::error::LoadError;
use super::intake::{Intake, receive_whole};
use super::plan::{Target, Transport};
use super::stamp::nanos;
use super::tally::histogram;
use super::{dtls, tls};
use crate::transport::{Frame, Framer};

/// Bytes that may wait for the server to take them; what is more is not sent.
const MOST_WAITING: usize = 256 * 1024;
/// How long a connection may take to be made, and a session of DTLS.
const CONNECT: Duration = Duration::from_secs(5);

/// Opens links.
pub(super) struct Opener {
    target: Target,
    /// Bytes of a socket's buffers.
    buffer: usize,
    /// Datagram sockets take in trains.
    trains: bool,
    /// How many were opened.
    opened: usize,
    /// How long handshakes took, in nanoseconds, when there were any.
    pub(super) handshakes: Option<Histogram<u64>>,
}

impl Opener {
    /// Opens links to `target` with buffers of `buffer` bytes, whose datagram sockets take in trains if
    /// `trains`.
    pub(super) const fn new(target: Target, buffer: usize, trains: bool) -> Self {
        Self {
            target,
            buffer,
            trains,
            opened: 0,
            handshakes: None,
        }
    }

    /// A link from the source whose turn it is.
    pub(super) fn open(&mut self) -> Result<Link, LoadError> {
        let sources = &self.target.sources;
        let source = sources.get(self.opened % sources.len().max(1)).copied();
        if self.opened == 0 {
            self.prepare()?;
        }
        self.opened += 1;
        let began = Instant::now();
        let link = Link::open(&self.target, source, self.buffer)?;
        link.receive_whole(self.trains)?;
        if self.target.transport.is_secured() {
            let times = self.handshakes.get_or_insert_with(|| histogram(3));
            times.saturating_record(nanos(began.elapsed()));
        }
        Ok(link)
    }

    /// Does what is no part of a handshake but of the first of every thread.
    fn prepare(&self) -> Result<(), LoadError> {
        match self.target.transport {
            Transport::Udp | Transport::Tcp => Ok(()),
            Transport::Tls => tls::prepare(self.target.server),
            Transport::Dtls => dtls::prepare(self.target.server),
        }
    }
}

/// One of the three.
#[derive(Debug)]
pub(super) enum Link {
    Udp(UdpSocket),
    Dtls(Box<dtls::Session>),
    Stream(Connection),
}

/// A connection, what waits to be written to it, and the beginning of a frame read from it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    tls: Option<tls::Session>,
    framer: Framer,
    /// Bytes to be written, as they go over the wire.
    waiting: Vec<u8>,
    /// What the last records carried.
    plain: Vec<u8>,
}

impl Link {
    fn open(target: &Target, source: Option<IpAddr>, buffer: usize) -> Result<Self, LoadError> {
        match target.transport {
            Transport::Udp => connected(target, source, buffer).map(Self::Udp),
            Transport::Dtls => {
                let socket = connected(target, source, buffer)?;
                let session = dtls::Session::begin(target.server, socket, CONNECT)?;
                Ok(Self::Dtls(Box::new(session)))
            }
            Transport::Tcp | Transport::Tls => connect(target, source).map(Self::Stream),
        }
    }

    /// Has its datagram socket, if it has one, take in trains, where `trains`.
    fn receive_whole(&self, trains: bool) -> Result<(), LoadError> {
        match self {
            Self::Udp(socket) => receive_whole(socket, trains),
            Self::Dtls(session) => receive_whole(session.socket(), trains),
            Self::Stream(_) => Ok(()),
        }
    }

    /// Sends the messages of `length` bytes each that `bytes` is made of; how many went.
    pub(super) fn send(&mut self, bytes: &[u8], length: usize) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => Ok(send_train(socket, None, bytes, length)),
            Self::Dtls(session) => session.send(bytes, length),
            Self::Stream(connection) => Ok(if connection.send(bytes)? {
                bytes.len() / length.max(1)
            } else {
                0
            }),
        }
    }

    /// Whether bytes wait to be written.
    pub(super) fn is_blocked(&self) -> bool {
        match self {
            Self::Udp(_) | Self::Dtls(_) => false,
            Self::Stream(connection) => !connection.waiting.is_empty(),
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Udp(_) | Self::Dtls(_) => Ok(()),
            Self::Stream(connection) => connection.flush(),
        }
    }

    /// Receives what one call brings of datagrams or of the stream, and hands every message to `each`.
    /// False when nothing waits.
    pub(super) fn receive(
        &mut self,
        intake: &mut Intake,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<bool> {
        match self {
            Self::Udp(socket) => intake.receive(socket, each),
            Self::Dtls(session) => session.receive(intake, each),
            Self::Stream(connection) => connection.receive(intake.memory(), each),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Dtls(session) => session.as_fd(),
            Self::Stream(connection) => connection.stream.as_fd(),
        }
    }
}

impl Connection {
    /// Writes as much as goes and keeps the rest; false when too much waits already.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.waiting.len() > MOST_WAITING {
            return Ok(false);
        }
        if let Some(tls) = &mut self.tls {
            tls.encrypt(bytes, &mut self.waiting)?;
            return self.flush().map(|()| true);
        }
        let mut written = 0;
        if self.waiting.is_empty() {
            written = match self.stream.write(bytes) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
        }
        self.waiting.extend_from_slice(&bytes[written..]);
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.stream.write(&self.waiting) {
            Ok(written) => drop(self.waiting.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..length];
        if let Some(tls) = &mut self.tls {
            self.plain.clear();
            tls.decrypt(rest, &mut self.plain)?;
            rest = &self.plain;
        }
        loop {
            match self.framer.next_frame(&mut rest) {
                Ok(Some(Frame::Whole(frame) | Frame::Held(frame))) => each(frame),
                Ok(None) => return Ok(true),
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }
}

fn connect(target: &Target, source: Option<IpAddr>) -> Result<Connection, LoadError> {
    let server = target.server;
    let stream = crate::net::connect_stream(server, source, CONNECT);
    let mut stream = stream.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => LoadError::Closed(target.server, target.transport),
        ErrorKind::TimedOut => {
            LoadError::Silent(target.server, target.transport, CONNECT.as_secs())
        }
        _ => LoadError::unbound(error, source.unwrap_or(target.server.ip())),
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CONNECT))?;
    let tls = match target.transport {
        Transport::Tls => Some(tls::Session::begin(server, &mut stream)?),
        _ => None,
    };
    stream.set_nonblocking(true)?;
    Ok(Connection {
        stream,
        tls,
        framer: Framer::default(),
        waiting: Vec::new(),
        plain: Vec::new(),
    })
}
