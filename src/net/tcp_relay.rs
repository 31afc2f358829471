//! The sockets behind a TCP relayed transport address: a listener, and connections from its own address
//! and port (RFC 6062 §5).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use super::listen::prepare_connection;
use super::relay::RelayError;

/// Peers whose connections the kernel completes before they are accepted.
const PEER_BACKLOG: i32 = 64;

/// Listens at `local` for peers, non-blocking, in such a way that [`connect_from`] can bind the same
/// address and port.
///
/// # Errors
/// The port is in use, or the host lacks something.
pub fn listen_for_peers(local: SocketAddr) -> Result<TcpListener, RelayError> {
    // Who shares a port with SO_REUSEPORT does not notice another listener of the same user.
    let probe = socket(local)?;
    probe.bind(&local.into())?;
    // A port of zero is drawn here; it is for tests.
    let local = probe.local_addr()?.as_socket().unwrap_or(local);
    drop(probe);
    let listener = shared_socket(local)?;
    listener.listen(PEER_BACKLOG)?;
    Ok(listener.into())
}

/// Begins to connect to `peer` from the relay that listens at `local`. The connection is non-blocking:
/// it can be written to when [`connect_outcome`] is known.
///
/// # Errors
/// The peer cannot be reached, a connection with it exists already, or no descriptor is left.
pub fn connect_from(local: SocketAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = shared_socket(local)?;
    match socket.connect(&peer.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let stream = socket.into();
    prepare_connection(&stream)?;
    Ok(stream)
}

/// How connecting ended, once the poller has told of it.
///
/// # Errors
/// The peer refused the connection or cannot be reached.
pub fn connect_outcome(stream: &TcpStream) -> io::Result<()> {
    stream.take_error()?.map_or(Ok(()), Err)
}

fn shared_socket(local: SocketAddr) -> io::Result<Socket> {
    let socket = socket(local)?;
    socket.set_reuse_port(true)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

fn socket(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM.nonblocking(), None)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier allocation in TIME_WAIT must not keep us from the port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    fn wait_for(mut done: impl FnMut() -> bool) {
        for _ in 0..6000 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not in a minute");
    }

    #[test]
    fn connections_in_and_out_share_one_address_and_port() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let relay = listen_for_peers(local.parse().unwrap()).unwrap();
            let at = relay.local_addr().unwrap();
            let peers = [0; 2].map(|_| TcpListener::bind(local).unwrap());
            for peer in &peers {
                let mut stream = connect_from(at, peer.local_addr().unwrap()).unwrap();
                let (mut far, from) = peer.accept().unwrap();
                assert_eq!(from, at);
                wait_for(|| stream.peer_addr().is_ok());
                connect_outcome(&stream).unwrap();
                stream.write_all(b"out").unwrap();
                let mut buffer = [0; 3];
                far.read_exact(&mut buffer).unwrap();
            }
            let visitor = TcpStream::connect(at).unwrap();
            wait_for(|| relay.accept().is_ok());
            drop(visitor);
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let relay = listen_for_peers(local.parse().unwrap()).unwrap();
            let again = listen_for_peers(relay.local_addr().unwrap());
            assert_eq!(again.err(), Some(RelayError::InUse));
            let plain = TcpListener::bind(local).unwrap();
            let again = listen_for_peers(plain.local_addr().unwrap());
            assert_eq!(again.err(), Some(RelayError::InUse));
        }
    }

    #[test]
    fn a_refused_connection_is_told_of() {
        let relay = listen_for_peers("127.0.0.1:0".parse().unwrap()).unwrap();
        // Where no other test listens.
        let closed = TcpListener::bind("127.0.0.8:0").unwrap().local_addr();
        match connect_from(relay.local_addr().unwrap(), closed.unwrap()) {
            Ok(stream) => wait_for(|| connect_outcome(&stream).is_err()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        }
    }

    #[test]
    fn a_port_is_free_again_after_its_connections_closed() {
        // Where no other test takes the port meanwhile.
        let relay = listen_for_peers("127.0.0.6:0".parse().unwrap()).unwrap();
        let at = relay.local_addr().unwrap();
        let peer = TcpListener::bind("127.0.0.6:0").unwrap();
        let stream = connect_from(at, peer.local_addr().unwrap()).unwrap();
        let (far, _) = peer.accept().unwrap();
        // We close first, so that ours is the end that waits.
        drop((stream, relay));
        drop(far);
        assert!(listen_for_peers(at).is_ok());
    }
}
