//! Two sockets of this host that are connected with each other.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

/// The two ends of a way for messages, which arrive whole and in order; non-blocking.
///
/// # Errors
/// No descriptor is left.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = pair(Type::SEQPACKET)?;
    Ok((one.into(), other.into()))
}

/// The two ends of a stream; non-blocking. What is read, written and shut down as a `TcpStream` is a stream
/// socket like any other.
///
/// # Errors
/// No descriptor is left.
pub fn stream_pair() -> io::Result<(TcpStream, TcpStream)> {
    let (one, other) = pair(Type::STREAM)?;
    Ok((one.into(), other.into()))
}

fn pair(kind: Type) -> io::Result<(Socket, Socket)> {
    Socket::pair(Domain::UNIX, kind.nonblocking(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{receive_descriptors, send_descriptors};
    use std::collections::VecDeque;
    use std::io::{ErrorKind, Read, Write};
    use std::net::Shutdown;
    use std::os::fd::AsFd as _;

    #[test]
    fn messages_arrive_whole_with_what_comes_with_them() -> io::Result<()> {
        let (one, other) = message_pair()?;
        let (mut near, far) = stream_pair()?;
        for message in [&b"first"[..], b"second"] {
            send_descriptors(&one, message, &[far.as_fd()])?;
        }
        drop(far);
        let (mut received, mut room) = (VecDeque::new(), [0; 64]);
        assert_eq!(receive_descriptors(&other, &mut room, &mut received)?, 5);
        assert_eq!(receive_descriptors(&other, &mut room, &mut received)?, 6);
        assert_eq!((&room[..6], received.len()), (&b"second"[..], 2));
        let none = receive_descriptors(&other, &mut room, &mut received);
        assert_eq!(
            none.map_err(|error| error.kind()),
            Err(ErrorKind::WouldBlock)
        );
        near.write_all(b"hello")?;
        near.shutdown(Shutdown::Write)?;
        let mut far = TcpStream::from(received.pop_back().expect("the second"));
        let mut heard = String::new();
        far.read_to_string(&mut heard)?;
        assert_eq!(heard, "hello");
        drop(other);
        assert!(send_descriptors(&one, b"x", &[]).is_err());
        Ok(())
    }
}
