//! Connections to servers of the operator's.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::prepare_connection;

/// Begins to connect to `to` over TCP. The connection is non-blocking: it can be written to when
/// [`connect_outcome`](super::connect_outcome) is known.
///
/// # Errors
/// It cannot be reached, or no descriptor is left.
pub fn connect_tcp(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = begin(Domain::for_address(to), &to.into())?;
    prepare_connection(&stream)?;
    Ok(stream)
}

/// Begins to connect to the Unix socket `path`, likewise. What is read, written and shut down as a
/// `TcpStream` is a stream socket like any other.
///
/// # Errors
/// There is no such socket, nobody listens, or no descriptor is left.
pub fn connect_unix(path: &Path) -> io::Result<TcpStream> {
    begin(Domain::UNIX, &SockAddr::unix(path)?)
}

fn begin(domain: Domain, to: &SockAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    match socket.connect(to) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_unix_socket_is_a_stream_like_any_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.sock");
        assert!(connect_unix(&path).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let mut near = connect_unix(&path).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"hello").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
        far.write_all(b"world").unwrap();
        let mut buffer = [0; 5];
        assert_eq!(near.read(&mut buffer).unwrap(), 5);
    }
}
