//! A client's way to the server: a socket, or a connection that frames are cut from.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::error::LoadError;
use super::plan::{Target, Transport};
use super::tls::Session;
use crate::net::send_segments;
use crate::transport::{Frame, Framer};

/// Bytes that may wait for the server to take them; what is more is not sent.
const MOST_WAITING: usize = 256 * 1024;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// The most that the kernel cuts in one call.
const MOST_SEGMENTS: usize = 64;
const MOST_SEGMENTED: usize = 65_000;

/// Opens links.
pub(super) struct Opener {
    pub(super) target: Target,
    /// Bytes of a socket's buffers.
    pub(super) buffer: usize,
    /// How many were opened.
    pub(super) opened: usize,
}

impl Opener {
    /// A link from the source whose turn it is.
    pub(super) fn open(&mut self) -> Result<Link, LoadError> {
        let sources = &self.target.sources;
        let source = sources.get(self.opened % sources.len().max(1)).copied();
        self.opened += 1;
        Link::open(&self.target, source, self.buffer)
    }
}

/// One of the two.
#[derive(Debug)]
pub(super) enum Link {
    Udp(UdpSocket),
    Stream(Connection),
}

/// A connection, what waits to be written to it, and the beginning of a frame read from it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    tls: Option<Session>,
    framer: Framer,
    /// Bytes to be written, as they go over the wire.
    waiting: Vec<u8>,
    /// What the last records carried.
    plain: Vec<u8>,
}

impl Link {
    fn open(target: &Target, source: Option<IpAddr>, buffer: usize) -> Result<Self, LoadError> {
        match target.transport {
            Transport::Udp => {
                let any = unspecified(target.server);
                let local = source.unwrap_or(any.ip());
                let socket = crate::net::open_datagrams(SocketAddr::new(local, 0), buffer);
                let socket = socket.map_err(|error| LoadError::unbound(error, local))?;
                socket.connect(target.server)?;
                Ok(Self::Udp(socket))
            }
            Transport::Tcp | Transport::Tls => connect(target, source).map(Self::Stream),
        }
    }

    /// Sends the messages of `length` bytes each that `bytes` is made of; how many went.
    pub(super) fn send(&mut self, bytes: &[u8], length: usize) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => Ok(send_train(socket, None, bytes, length)),
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
            Self::Udp(_) => false,
            Self::Stream(connection) => !connection.waiting.is_empty(),
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Udp(_) => Ok(()),
            Self::Stream(connection) => connection.flush(),
        }
    }

    /// Receives one datagram, or whatever has come of the stream, and hands every message to `each`.
    /// False when nothing waits.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<bool> {
        match self {
            Self::Udp(socket) => match socket.recv(buffer) {
                Ok(length) => {
                    each(&buffer[..length]);
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error),
            },
            Self::Stream(connection) => connection.receive(buffer, each),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
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
        Transport::Tls => Some(Session::begin(server, &mut stream)?),
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

/// Sends datagrams of `length` bytes from one piece of memory; how many went. Where the kernel does
/// not cut them, they go one by one.
pub(super) fn send_train(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    bytes: &[u8],
    length: usize,
) -> usize {
    let segment = u16::try_from(length).unwrap_or(u16::MAX);
    let together = (MOST_SEGMENTED / length.max(1)).clamp(1, MOST_SEGMENTS);
    let mut sent = 0;
    for train in bytes.chunks(together * length) {
        let cut = train.len() > length && send_segments(socket, to, train, segment).is_ok();
        sent += if cut {
            train.len() / length
        } else {
            let one_by_one = train.chunks(length);
            one_by_one.filter(|one| send_one(socket, to, one)).count()
        };
    }
    sent
}

fn send_one(socket: &UdpSocket, to: Option<SocketAddr>, bytes: &[u8]) -> bool {
    let send = || match to {
        Some(to) => socket.send_to(bytes, to),
        None => socket.send(bytes),
    };
    // The first call may only report what became of an earlier datagram.
    send().or_else(|_| send()).is_ok()
}

/// Any address of the family of `like`, and any port.
pub(super) fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    }
}
