//! A TURN client that blocks.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use turnstone::stun::{
    Algorithm, AttributeType, ChannelData, Class, Message, MessageBuilder, Method, TransactionId,
};
use turnstone::transport::{Frame, Framer};
use turnstone::turn::StoredKey;

use crate::dtls_link::{DtlsLink, Version};
use crate::harness::{PASSWORD, PATIENCE, REALM, USER, uninterrupted};

pub enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Dtls(Box<DtlsLink>),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

pub struct Client {
    pub link: Link,
    framer: Framer,
    unread: Vec<u8>,
    nonce: Vec<u8>,
    transactions: u8,
}

impl Client {
    pub fn udp(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a port");
        socket.connect(server).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self::over(Link::Udp(socket))
    }

    pub fn tcp(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("a listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self::over(Link::Tcp(stream))
    }

    pub fn dtls(server: SocketAddr, version: Version) -> Self {
        Self::over(Link::Dtls(Box::new(DtlsLink::connect(server, version))))
    }

    /// A TLS client; the handshake takes place with the first bytes.
    pub fn tls(server: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(server).expect("a listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        let name = "turn.example.org".try_into().expect("a name");
        let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
        Self::over(Link::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    pub fn over(link: Link) -> Self {
        Self {
            link,
            framer: Framer::default(),
            unread: Vec::new(),
            nonce: Vec::new(),
            transactions: 0,
        }
    }

    pub fn is_stream(&self) -> bool {
        !matches!(self.link, Link::Udp(_))
    }

    pub fn local(&self) -> SocketAddr {
        match &self.link {
            Link::Udp(socket) => socket.local_addr(),
            Link::Tcp(stream) => stream.local_addr(),
            Link::Dtls(link) => link.socket.local_addr(),
            Link::Tls(session) => session.sock.local_addr(),
        }
        .expect("an address")
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.link {
            Link::Udp(socket) => assert_eq!(socket.send(bytes).expect("sent"), bytes.len()),
            Link::Tcp(stream) => stream.write_all(bytes).expect("sent"),
            Link::Dtls(link) => link.send(bytes),
            Link::Tls(session) => {
                session.write_all(bytes).expect("sent");
                session.flush().expect("sent");
            }
        }
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        match &mut self.link {
            Link::Tcp(stream) => stream,
            Link::Tls(session) => &mut session.sock,
            Link::Udp(_) | Link::Dtls(_) => panic!("not a stream"),
        }
    }

    /// The next message.
    pub fn receive(&mut self) -> Vec<u8> {
        self.try_receive().expect("a message")
    }

    /// The next message; none at the end of the stream or when patience ends.
    pub fn try_receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        loop {
            let stream: &mut dyn Read = match &mut self.link {
                Link::Tcp(stream) => stream,
                Link::Tls(session) => &mut **session,
                Link::Udp(socket) => {
                    let length = uninterrupted(|| socket.recv(&mut buffer)).ok()?;
                    buffer.truncate(length);
                    return Some(buffer);
                }
                Link::Dtls(link) => return link.receive(),
            };
            let mut input = &self.unread[..];
            let frame = self.framer.next_frame(&mut input).expect("a sound stream");
            let frame = frame.map(|(Frame::Whole(bytes) | Frame::Held(bytes))| bytes.to_vec());
            self.unread = input.to_vec();
            if frame.is_some() {
                return frame;
            }
            let length = uninterrupted(|| stream.read(&mut buffer)).ok();
            let length = length.filter(|length| *length > 0)?;
            self.unread.extend(&buffer[..length]);
        }
    }

    /// Sends a request and returns the response.
    pub fn request(&mut self, method: Method, add: impl Fn(&mut MessageBuilder<'_>)) -> Vec<u8> {
        let request = self.build(method, &add);
        self.send(&request);
        let response = self.receive();
        let message = Message::parse(&response).expect("a message");
        if let Some(nonce) = message.attribute(AttributeType::NONCE) {
            self.nonce = nonce.value.to_vec();
            let request = self.build(method, &add);
            self.send(&request);
            return self.receive();
        }
        response
    }

    pub fn build(&mut self, method: Method, add: impl Fn(&mut MessageBuilder<'_>)) -> Vec<u8> {
        self.transactions = self.transactions.wrapping_add(1);
        let transaction = TransactionId([self.transactions; 12]);
        let mut bytes = Vec::new();
        let mut builder = MessageBuilder::new(&mut bytes, Class::Request, method, transaction);
        add(&mut builder);
        if !self.nonce.is_empty() {
            let key = StoredKey::derive(
                turnstone::stun::PasswordAlgorithm::Md5,
                USER,
                REALM,
                PASSWORD,
            );
            builder
                .attribute(AttributeType::USERNAME, USER.as_bytes())
                .attribute(AttributeType::REALM, REALM.as_bytes())
                .attribute(AttributeType::NONCE, &self.nonce)
                .integrity(Algorithm::Sha1, key.as_bytes());
        }
        bytes
    }

    /// Sends a request that succeeds.
    pub fn succeed(&mut self, method: Method, add: impl Fn(&mut MessageBuilder<'_>)) -> Vec<u8> {
        let response = self.request(method, add);
        let message = Message::parse(&response).expect("a message");
        let code = message.attribute(AttributeType::ERROR_CODE);
        let reason = code.map(|code| format!("{:?}", &code.value[2..4]));
        assert_eq!(
            (message.class(), reason),
            (Class::Success, None),
            "{method:?}"
        );
        response
    }

    /// Returns the relayed transport address, of the family by which the client came.
    pub fn allocate(&mut self) -> SocketAddr {
        let v6 = self.local().is_ipv6();
        let response = self.succeed(Method::ALLOCATE, |request| {
            let family = if v6 { 2 } else { 1 };
            request
                .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        });
        xor_address(&response, AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// A TCP allocation (RFC 6062), of the family by which the client came.
    pub fn allocate_tcp(&mut self) -> SocketAddr {
        let family = if self.local().is_ipv6() { 2 } else { 1 };
        let response = self.succeed(Method::ALLOCATE, |request| {
            request
                .attribute(AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0])
                .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        });
        xor_address(&response, AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// Connects to `peer` from the relayed address; the CONNECTION-ID.
    pub fn connect(&mut self, peer: SocketAddr) -> u32 {
        let response = self.succeed(Method::CONNECT, |request| {
            request.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        });
        connection_id(&response)
    }

    /// Binds this connection, with `early` in the same segment as the request; what the server says
    /// behind its response comes first.
    pub fn bind_connection(self, id: u32, early: &[u8]) -> (TcpStream, Vec<u8>) {
        match self.bind_link(id, early) {
            (Link::Tcp(stream), said) => (stream, said),
            _ => panic!("not plain TCP"),
        }
    }

    pub fn bind_link(mut self, id: u32, early: &[u8]) -> (Link, Vec<u8>) {
        let add = |request: &mut MessageBuilder<'_>| {
            request.u32(AttributeType::CONNECTION_ID, id);
        };
        let challenge = self.build(Method::CONNECTION_BIND, add);
        self.send(&challenge);
        let response = self.receive();
        let message = Message::parse(&response).expect("a message");
        let nonce = message.attribute(AttributeType::NONCE).expect("a nonce");
        self.nonce = nonce.value.to_vec();
        let mut request = self.build(Method::CONNECTION_BIND, add);
        request.extend_from_slice(early);
        self.send(&request);
        let response = self.receive();
        let message = Message::parse(&response).expect("a message");
        assert_eq!(message.class(), Class::Success);
        (self.link, self.unread)
    }

    pub fn refresh(&mut self, lifetime: u32) {
        self.succeed(Method::REFRESH, |request| {
            request.u32(AttributeType::LIFETIME, lifetime);
        });
    }

    pub fn permit(&mut self, peer: SocketAddr) {
        self.succeed(Method::CREATE_PERMISSION, |request| {
            request.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        });
    }

    pub fn bind(&mut self, number: u16, peer: SocketAddr) {
        let [high, low] = number.to_be_bytes();
        self.succeed(Method::CHANNEL_BIND, |request| {
            request
                .attribute(AttributeType::CHANNEL_NUMBER, &[high, low, 0, 0])
                .xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        });
    }

    /// Binding: the address that the server sees.
    pub fn ping(&mut self) -> SocketAddr {
        let response = self.request(Method::BINDING, |_| {});
        xor_address(&response, AttributeType::XOR_MAPPED_ADDRESS)
    }

    pub fn send_data(&mut self, number: u16, payload: &[u8]) {
        let message = channel_data(number, payload, self.is_stream());
        self.send(&message);
    }

    /// The payload of the ChannelData message that comes next.
    pub fn receive_data(&mut self, number: u16) -> Vec<u8> {
        let message = self.receive();
        let data = ChannelData::parse(&message).expect("ChannelData");
        assert_eq!(data.number.get(), number);
        data.payload.to_vec()
    }
}

pub fn channel_data(number: u16, payload: &[u8], padded: bool) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend(
        u16::try_from(payload.len())
            .expect("a small number")
            .to_be_bytes(),
    );
    message.extend(payload);
    if padded {
        message.resize(message.len().next_multiple_of(4), 0);
    }
    message
}

pub fn connection_id(message: &[u8]) -> u32 {
    let message = Message::parse(message).expect("a message");
    let attribute = message.attribute(AttributeType::CONNECTION_ID);
    attribute.expect("an id").u32().expect("four bytes")
}

pub fn xor_address(message: &[u8], kind: AttributeType) -> SocketAddr {
    let message = Message::parse(message).expect("a message");
    let attribute = message.attribute(kind).expect("the attribute");
    message.xor_address(&attribute).expect("an address")
}
