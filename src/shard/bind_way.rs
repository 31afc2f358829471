//! The way between two processes for client data connections that come to one and belong to an allocation
//! of the other.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::record_way::{ADDRESSES, decode, encode};
use super::wire::Session;
use crate::net::{Waker, message_pair, receive_descriptors, send_descriptors};
use crate::turn::{FiveTuple, Transport};

/// What a client may have said by then: a request that no honest one makes longer, and a read.
const MOST_SAID: usize = 4 * 1024 + 16 * 1024;

/// One end of the way of such connections. How many may be on it at a time is bounded by the kernel's buffer.
#[derive(Debug)]
pub(super) struct BindWay {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The poller does not watch it, for want of descriptors.
    pub(super) rests: bool,
}

/// A connection, or what is inside its TLS session, and what its client has said.
#[derive(Debug)]
pub(super) struct HandedBack<'b> {
    pub(super) from: FiveTuple,
    pub(super) stream: TcpStream,
    pub(super) session: Session,
    pub(super) said: &'b [u8],
}

impl BindWay {
    /// Both ends: the one of the new process, and the one of the old one.
    pub(super) fn pair() -> io::Result<(OwnedFd, Self)> {
        let (new, old) = message_pair()?;
        Ok((new, Self::new(old)))
    }

    /// The end of the new process.
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            rests: false,
        }
    }

    /// Passes on a copy of `stream`, the connection of the client `from`; or what is inside its TLS session,
    /// where a `goodbye` tells the process that has the session when nothing follows.
    ///
    /// # Errors
    /// The other end does not keep up, or has gone; the client has said too much.
    pub(super) fn send(
        &mut self,
        from: &FiveTuple,
        said: &[u8],
        stream: impl AsFd,
        goodbye: Option<&Waker>,
    ) -> io::Result<()> {
        if said.len() > MOST_SAID {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.buffer.clear();
        self.buffer.extend(encode(from));
        self.buffer.extend_from_slice(said);
        let descriptors = [stream.as_fd(), goodbye.map_or(stream.as_fd(), AsFd::as_fd)];
        let count = 1 + usize::from(goodbye.is_some());
        send_descriptors(&self.socket, &self.buffer, &descriptors[..count]).map(drop)
    }

    /// The next connection. It waits on while the process may have no more descriptors; only those that two
    /// threads want at the same time can still be lost.
    ///
    /// # Errors
    /// `WouldBlock` when there is none now, `UnexpectedEof` when there will be none; `Other` when the process
    /// may have no more descriptors; `InvalidData` for what is no such message.
    pub(super) fn receive(&mut self) -> io::Result<HandedBack<'_>> {
        self.find_room()?;
        self.buffer.resize(ADDRESSES + MOST_SAID, 0);
        let mut received = VecDeque::new();
        let length = receive_descriptors(&self.socket, &mut self.buffer, &mut received)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message = self.buffer[..length].split_first_chunk();
        let (Some((addresses, said)), Some(stream)) = (message, received.pop_front()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (transport, session) = match received.pop_front() {
            Some(goodbye) => (Transport::Tls, Session::Inside(goodbye.into())),
            None => (Transport::Tcp, Session::Plain),
        };
        Ok(HandedBack {
            from: decode(transport, addresses),
            stream: stream.into(),
            session,
            said,
        })
    }

    /// A message that is received without room for its descriptors is lost.
    fn find_room(&self) -> io::Result<()> {
        let copy = || self.socket.try_clone().map_err(io::Error::other);
        copy().and_then(|_first| copy()).map(drop)
    }
}

impl AsFd for BindWay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::stream_pair;
    use std::io::{ErrorKind, Read as _, Write as _};

    fn from(transport: Transport) -> FiveTuple {
        FiveTuple {
            transport,
            client: ([192, 0, 2, 1], 1).into(),
            server: "[2001:db8::1]:3478".parse().expect("an address"),
        }
    }

    #[test]
    fn connections_arrive_with_whose_they_are_and_what_was_said() -> io::Result<()> {
        let (new, mut old) = BindWay::pair()?;
        let mut new = BindWay::new(new);
        let (mut client, server) = stream_pair()?;
        let goodbye = Waker::new()?;
        new.send(&from(Transport::Tcp), b"said", &server, None)?;
        new.send(&from(Transport::Tls), b"said", &server, Some(&goodbye))?;
        drop(server);
        for transport in [Transport::Tcp, Transport::Tls] {
            let mut one = old.receive()?;
            assert_eq!((one.from, one.said), (from(transport), &b"said"[..]));
            if let Session::Inside(goodbye) = one.session {
                goodbye.wake();
            }
            assert_eq!(goodbye.clear(), transport == Transport::Tls);
            client.write_all(b"more")?;
            let mut heard = [0; 4];
            one.stream.read_exact(&mut heard)?;
            assert_eq!(&heard, b"more");
        }
        let none = old.receive().map_err(|error| error.kind());
        assert_eq!(none.err(), Some(ErrorKind::WouldBlock));
        drop(new);
        let end = old.receive().map_err(|error| error.kind());
        assert_eq!(end.err(), Some(ErrorKind::UnexpectedEof));
        Ok(())
    }

    #[test]
    fn a_way_is_full_some_time_and_over_when_the_other_end_has_gone() -> io::Result<()> {
        let (new, old) = BindWay::pair()?;
        let mut new = BindWay::new(new);
        let (_client, server) = stream_pair()?;
        let mut send = |said: &[u8]| new.send(&from(Transport::Tcp), said, &server, None);
        let too_long = send(&[0; MOST_SAID + 1]).map_err(|error| error.kind());
        assert_eq!(too_long, Err(ErrorKind::InvalidInput));
        let sent = (0..10_000).take_while(|_| send(b"said").is_ok()).count();
        assert!((20..5_000).contains(&sent), "{sent} wait");
        let full = send(b"said").map_err(|error| error.kind());
        assert_eq!(full, Err(ErrorKind::WouldBlock));
        drop(old);
        // What nobody has read is told of once.
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
            let gone = send(b"said").map_err(|error| error.kind());
            assert_eq!(gone, Err(kind));
        }
        Ok(())
    }

    #[test]
    fn what_is_no_such_message_is_told_from_the_end() -> io::Result<()> {
        let (new, mut old) = BindWay::pair()?;
        let (_client, server) = stream_pair()?;
        send_descriptors(&new, b"short", &[server.as_fd()])?;
        send_descriptors(&new, &[0; ADDRESSES], &[])?;
        for _ in 0..2 {
            let error = old.receive().map_err(|error| error.kind());
            assert_eq!(error.err(), Some(ErrorKind::InvalidData));
        }
        Ok(())
    }
}
