//! What the tests of TCP allocations play with.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};
use turnstone::stun::{AttributeType, Class, Message, Method};
use turnstone::turn::{Counter, PeerEnd};

use crate::client::{Client, connection_id, xor_address};
use crate::harness::{Options, PATIENCE, Shards, start, uninterrupted};

/// What is said last, and all at once.
pub(crate) const LAST_WORDS: usize = 300_000;

/// A client with a TCP allocation, and a peer that listens.
pub(crate) struct Scene {
    pub(crate) shards: Shards,
    pub(crate) control: Client,
    pub(crate) relayed: SocketAddr,
    pub(crate) peer: TcpListener,
}

impl Scene {
    pub(crate) fn new(v6: bool) -> Self {
        Self::over(start(&Options::default()), v6)
    }

    pub(crate) fn over(shards: Shards, v6: bool) -> Self {
        let server = if v6 { shards.v6() } else { shards.v4() };
        let mut control = Client::tcp(server);
        let relayed = control.allocate_tcp();
        let peer = TcpListener::bind((relayed.ip(), 0)).expect("a port");
        Self {
            shards,
            control,
            relayed,
            peer,
        }
    }

    pub(crate) fn server(&self) -> SocketAddr {
        if self.relayed.is_ipv6() {
            self.shards.v6()
        } else {
            self.shards.v4()
        }
    }

    pub(crate) fn data_connection(&self) -> Client {
        Client::tcp(self.server())
    }

    /// The client connects to the peer: the id and the peer's end.
    pub(crate) fn connect(&mut self) -> (u32, TcpStream) {
        let id = self.control.connect(at(&self.peer));
        let (stream, from) = self.peer.accept().expect("a connection");
        assert_eq!(from, self.relayed);
        (id, patient(stream))
    }

    /// The peer connects to the client's relayed address: the id and the peer's end.
    pub(crate) fn arrive(&mut self) -> (u32, TcpStream) {
        let peer = SocketAddr::new(self.relayed.ip(), 9);
        self.control.permit(peer);
        let stream = connect_at_home(self.relayed);
        let attempt = self.control.receive();
        let message = Message::parse(&attempt).expect("a message");
        let kind = (message.class(), message.method());
        assert_eq!(kind, (Class::Indication, Method::CONNECTION_ATTEMPT));
        let told = xor_address(&attempt, AttributeType::XOR_PEER_ADDRESS);
        assert_eq!(told, stream.local_addr().expect("an address"));
        (connection_id(&attempt), patient(stream))
    }

    /// Two streams that are joined: the client's and the peer's.
    pub(crate) fn joined(&mut self) -> (TcpStream, TcpStream) {
        let (id, peer) = self.connect();
        let (client, early) = self.data_connection().bind_connection(id, b"");
        assert!(early.is_empty());
        (patient(client), peer)
    }
}

/// Connects to `to` from its own address; the kernel would take 127.0.0.1 for every server on loopback.
fn connect_at_home(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    let home = SocketAddr::new(to.ip(), 0);
    socket.bind(&home.into()).expect("a port");
    socket.connect(&to.into()).expect("a listener");
    socket.into()
}

pub(crate) fn at(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an end");
    all
}

pub(crate) fn hears(stream: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    stream.read_exact(&mut heard).expect("so many bytes");
    assert!(heard == expected);
}

/// Whether the other side has closed, in peace or not.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    match uninterrupted(|| stream.read(&mut [0; 64])) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

pub(crate) fn ended(how: PeerEnd) -> Counter {
    Counter::PeerConnectionsEnded(how)
}

pub(crate) fn code(response: &[u8]) -> Option<u16> {
    let message = Message::parse(response).expect("a message");
    let attribute = message.attribute(AttributeType::ERROR_CODE)?;
    Some(u16::from(attribute.value[2]) * 100 + u16::from(attribute.value[3]))
}
