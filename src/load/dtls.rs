//! DTLS of a client's datagrams.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::datagrams::send_train;
use super::error::LoadError;
use super::intake::Intake;
use super::plan::Transport;
use crate::transport::{DtlsClient, DtlsClientOutput, DtlsRefusal};

/// Bytes of a datagram in a handshake.
const ROOM: usize = 65_536;
/// The shortest time that a socket can wait.
const MOMENT: Duration = Duration::from_millis(1);

/// A session over a socket.
#[derive(Debug)]
pub(super) struct Session {
    socket: UdpSocket,
    dtls: DtlsClient,
    train: Train,
}

impl Session {
    /// Makes a session with `server`, to which `socket` is connected, within `patience`.
    pub(super) fn begin(
        server: SocketAddr,
        socket: UdpSocket,
        patience: Duration,
    ) -> Result<Self, LoadError> {
        let mut session = Self {
            socket,
            dtls: DtlsClient::new(Instant::now()).map_err(|why| refused(server, why))?,
            train: Train::default(),
        };
        session.socket.set_nonblocking(false)?;
        session.shake_hands(server, patience)?;
        session.socket.set_nonblocking(true)?;
        Ok(session)
    }

    fn shake_hands(&mut self, server: SocketAddr, patience: Duration) -> Result<(), LoadError> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; ROOM];
        self.pass_on(&mut |_| {});
        while !self.dtls.is_established() {
            let now = Instant::now();
            if now > deadline {
                let seconds = patience.as_secs();
                return Err(LoadError::Silent(server, Transport::Dtls, seconds));
            }
            let wait = self.dtls.timer().saturating_duration_since(now);
            self.socket
                .set_read_timeout(Some(wait.clamp(MOMENT, patience)))?;
            let heard = match self.socket.recv(&mut buffer) {
                Ok(length) => self.dtls.handle_datagram(Instant::now(), &buffer[..length]),
                Err(error) if is_patience(&error) || error.kind() == ErrorKind::Interrupted => {
                    self.dtls.handle_timeout(Instant::now())
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err(LoadError::Closed(server, Transport::Dtls));
                }
                Err(error) => return Err(error.into()),
            };
            self.pass_on(&mut |_| {});
            heard.map_err(|why| refused(server, why))?;
        }
        Ok(())
    }

    /// Sends the messages of `length` bytes each that `bytes` is made of; how many went.
    pub(super) fn send(&mut self, bytes: &[u8], length: usize) -> io::Result<usize> {
        let mut sent = 0;
        self.dtls
            .handle_timeout(Instant::now())
            .map_err(io::Error::other)?;
        for message in bytes.chunks(length.max(1)) {
            self.dtls.send(message).map_err(io::Error::other)?;
            let Self {
                dtls,
                train,
                socket,
            } = self;
            dtls.drain(|output| {
                if let DtlsClientOutput::Send(record) = output {
                    sent += train.add(socket, record);
                }
            });
        }
        sent += self.train.leave(&self.socket);
        Ok(sent.min(bytes.len() / length.max(1)))
    }

    /// Receives what one call brings and hands its messages to `each`. False when nothing waits.
    pub(super) fn receive(
        &mut self,
        intake: &mut Intake,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<bool> {
        let Self {
            socket,
            dtls,
            train,
        } = self;
        let mut heard = Ok(());
        let more = intake.receive(socket, &mut |datagram| {
            let now = dtls.handle_datagram(Instant::now(), datagram);
            pass_on(dtls, train, socket, each);
            heard = heard.and(now);
        })?;
        heard.map_err(io::Error::other)?;
        if self.dtls.is_closed() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(more)
    }

    /// Its socket, connected to the server.
    pub(super) const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn pass_on(&mut self, each: &mut dyn FnMut(&[u8])) {
        pass_on(&mut self.dtls, &mut self.train, &self.socket, each);
    }
}

/// Sends what `dtls` has to send, and hands what there is to hear to `each`.
fn pass_on(
    dtls: &mut DtlsClient,
    train: &mut Train,
    socket: &UdpSocket,
    each: &mut dyn FnMut(&[u8]),
) {
    dtls.drain(|output| match output {
        DtlsClientOutput::Send(datagram) => drop(train.add(socket, datagram)),
        DtlsClientOutput::Message(bytes) => each(bytes),
    });
    train.leave(socket);
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Session {
    /// Servers keep a session for as long as it may still be used.
    fn drop(&mut self) {
        self.dtls.close();
        self.pass_on(&mut |_| {});
    }
}

/// Datagrams of one length, one behind the other, to leave together.
#[derive(Debug, Default)]
struct Train {
    bytes: Vec<u8>,
    length: usize,
}

impl Train {
    /// Adds `datagram`; how many had to leave for it, being of another length.
    fn add(&mut self, socket: &UdpSocket, datagram: &[u8]) -> usize {
        let left = if datagram.len() == self.length {
            0
        } else {
            self.leave(socket)
        };
        self.length = datagram.len();
        self.bytes.extend_from_slice(datagram);
        left
    }

    /// Sends what there is; how many datagrams went.
    fn leave(&mut self, socket: &UdpSocket) -> usize {
        if self.bytes.is_empty() {
            return 0;
        }
        let sent = send_train(socket, None, &self.bytes, self.length);
        self.bytes.clear();
        sent
    }
}

/// Begins a session for nothing: the first one of a process checks the library, and the first one of a
/// thread seeds its random numbers, which takes a tenth of a second.
pub(super) fn prepare(server: SocketAddr) -> Result<(), LoadError> {
    DtlsClient::new(Instant::now())
        .map(drop)
        .map_err(|why| refused(server, why))
}

fn refused(server: SocketAddr, why: DtlsRefusal) -> LoadError {
    LoadError::Handshake(server, Transport::Dtls, why.to_string())
}

/// Whether nothing came in time.
fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
