//! A client written out by hand, message by message, with the `stun` crate's builder.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use stun::agent::TransactionId;
use stun::attributes::{ATTR_DATA, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, AttrType};
use stun::error_code::ErrorCodeAttribute;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{
    BINDING_REQUEST, CLASS_INDICATION, CLASS_REQUEST, Getter, METHOD_ALLOCATE, METHOD_CHANNEL_BIND,
    METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND, Message, MessageType,
    Method, Setter,
};
use stun::textattrs::TextAttribute;
use turn::proto::PROTO_UDP;
use turn::proto::channum::ChannelNumber;
use turn::proto::data::Data;
use turn::proto::lifetime::Lifetime;
use turn::proto::peeraddr::PeerAddress;
use turn::proto::relayaddr::RelayedAddress;
use turn::proto::reqfamily::RequestedAddressFamily;
use turn::proto::reqtrans::RequestedTransport;

use super::dtls_link::{DtlsLink, Version};
use super::server::{PASSWORD, USER};

const ACCESS_TOKEN: AttrType = AttrType(0x001B);
const PATIENCE: Duration = Duration::from_secs(3);
/// Over TCP: a kernel that dropped segments for a slow reader sends them again seconds later.
const STREAM_PATIENCE: Duration = Duration::from_secs(20);

/// One client and all it says to one server.
pub(crate) struct Dialogue {
    transport: Transport,
    /// USERNAME, with the password that all users here have.
    user: String,
    /// REALM and NONCE of the last challenge.
    challenge: Option<[String; 2]>,
    /// What is used in place of a password.
    bearer: Option<Bearer>,
}

/// An access token (RFC 7635), the id of the key that sealed it, and the key to sign with.
#[derive(Clone)]
pub(crate) struct Bearer {
    pub(crate) id: String,
    pub(crate) token: Vec<u8>,
    pub(crate) mac_key: String,
}

enum Transport {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Dtls(Box<DtlsLink>),
}

impl Dialogue {
    /// A client over UDP.
    pub(crate) fn udp(server: SocketAddr) -> Self {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(Transport::Udp(socket))
    }

    /// A client over TCP.
    pub(crate) fn tcp(server: SocketAddr) -> Self {
        Self::over(Transport::Tcp(connect(server)))
    }

    /// A client over TLS.
    pub(crate) fn tls(server: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let session = ClientConnection::new(Arc::clone(config), server.ip().into()).unwrap();
        let stream = StreamOwned::new(session, connect(server));
        Self::over(Transport::Tls(Box::new(stream)))
    }

    /// A client over DTLS.
    pub(crate) fn dtls(server: SocketAddr) -> Self {
        let link = DtlsLink::connect(server, Version::Dtls12);
        Self::over(Transport::Dtls(Box::new(link)))
    }

    fn over(transport: Transport) -> Self {
        Self {
            transport,
            user: USER.to_owned(),
            challenge: None,
            bearer: None,
        }
    }

    /// Takes leave, over DTLS.
    pub(crate) fn close(&mut self) {
        if let Transport::Dtls(link) = &mut self.transport {
            link.close();
        }
    }

    /// The socket of a client over UDP.
    pub(crate) fn datagrams(&self) -> Option<&UdpSocket> {
        match &self.transport {
            Transport::Udp(socket) => Some(socket),
            Transport::Tcp(_) | Transport::Tls(_) | Transport::Dtls(_) => None,
        }
    }

    /// Where the server listens.
    pub(crate) fn server(&self) -> SocketAddr {
        match &self.transport {
            Transport::Udp(socket) => socket.peer_addr(),
            Transport::Tcp(stream) => stream.peer_addr(),
            Transport::Tls(session) => session.sock.peer_addr(),
            Transport::Dtls(link) => link.socket.peer_addr(),
        }
        .unwrap()
    }

    /// From now on signs as `user`.
    pub(crate) fn become_user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    /// From now on signs as the holder of an access token.
    pub(crate) fn bear(&mut self, bearer: Bearer) {
        self.bearer = Some(bearer);
    }

    /// Sends `bytes` as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.transport {
            Transport::Udp(socket) => socket.send(bytes).map(|_| ()),
            Transport::Tcp(stream) => stream.write_all(bytes),
            Transport::Tls(session) => session.write_all(bytes).and_then(|()| session.flush()),
            Transport::Dtls(link) => {
                link.send(bytes);
                Ok(())
            }
        }
    }

    /// The next message, as it came.
    pub(crate) fn receive(&mut self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let length = match &mut self.transport {
            Transport::Udp(socket) => socket.recv(&mut buffer)?,
            Transport::Tcp(stream) => receive_frame(stream, &mut buffer)?,
            Transport::Tls(session) => receive_frame(&mut **session, &mut buffer)?,
            Transport::Dtls(link) => return link.receive().ok_or(ErrorKind::TimedOut.into()),
        };
        buffer.truncate(length);
        Ok(buffer)
    }

    /// So many bytes of a stream that carries no messages any more.
    pub(crate) fn receive_bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        match &mut self.transport {
            Transport::Tcp(stream) => stream.read_exact(&mut bytes)?,
            Transport::Tls(session) => session.read_exact(&mut bytes)?,
            Transport::Udp(_) | Transport::Dtls(_) => panic!("no stream"),
        }
        Ok(bytes)
    }

    /// Sends a Binding request and waits for its response; other messages meanwhile are lost.
    pub(crate) fn binding(&mut self) -> Result<Message> {
        self.transact(&message(BINDING_REQUEST, &[]))
    }

    /// Allocates; the relayed address, or the error code.
    pub(crate) fn allocate(
        &mut self,
        family: Option<RequestedAddressFamily>,
    ) -> std::result::Result<SocketAddr, u16> {
        let transport = RequestedTransport {
            protocol: PROTO_UDP,
        };
        let mut attributes: Vec<Box<dyn Setter>> = vec![Box::new(transport)];
        if let Some(family) = family {
            attributes.push(Box::new(family));
        }
        let response = self.request(METHOD_ALLOCATE, &attributes)?;
        let mut relayed = RelayedAddress::default();
        relayed.get_from(&response).unwrap();
        Ok(SocketAddr::new(relayed.ip, relayed.port))
    }

    /// Installs a permission for `peer`.
    pub(crate) fn permit(&mut self, peer: SocketAddr) -> std::result::Result<(), u16> {
        let attributes: [Box<dyn Setter>; 1] = [Box::new(peer_address(peer))];
        self.request(METHOD_CREATE_PERMISSION, &attributes)?;
        Ok(())
    }

    /// Binds channel `number` to `peer`.
    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) -> std::result::Result<(), u16> {
        let attributes: [Box<dyn Setter>; 2] = [
            Box::new(ChannelNumber(number)),
            Box::new(peer_address(peer)),
        ];
        self.request(METHOD_CHANNEL_BIND, &attributes)?;
        Ok(())
    }

    /// Deletes the allocation.
    pub(crate) fn delete(&mut self) -> std::result::Result<(), u16> {
        let attributes: [Box<dyn Setter>; 1] = [Box::new(Lifetime(Duration::ZERO))];
        self.request(METHOD_REFRESH, &attributes)?;
        Ok(())
    }

    /// Sends `payload` to `peer` in a Send indication.
    pub(crate) fn indicate(&mut self, payload: &[u8], peer: SocketAddr) {
        let kind = MessageType::new(METHOD_SEND, CLASS_INDICATION);
        let attributes: [Box<dyn Setter>; 2] = [
            Box::new(peer_address(peer)),
            Box::new(Data(payload.to_vec())),
        ];
        self.send(&message(kind, &attributes).raw).unwrap();
    }

    /// The payload of the next Data indication and the peer that it came from.
    pub(crate) fn indicated(&mut self) -> (Vec<u8>, SocketAddr) {
        let message = parse(self.receive().unwrap()).unwrap();
        assert_eq!(message.typ.method, METHOD_DATA, "{message}");
        let mut peer = PeerAddress::default();
        peer.get_from(&message).unwrap();
        let payload = message.get(ATTR_DATA).unwrap();
        (payload, SocketAddr::new(peer.ip, peer.port))
    }

    /// A request with credentials, retried once with the nonce of a challenge; success, or the code.
    pub(crate) fn request(
        &mut self,
        method: Method,
        attributes: &[Box<dyn Setter>],
    ) -> std::result::Result<Message, u16> {
        let kind = MessageType::new(method, CLASS_REQUEST);
        let mut response = self.transact(&self.signed(kind, attributes)).unwrap();
        if matches!(error_code(&response), Some(401 | 438)) {
            self.challenge = Some([ATTR_REALM, ATTR_NONCE].map(|attribute| {
                let text = TextAttribute::get_from_as(&response, attribute).unwrap();
                text.text
            }));
            response = self.transact(&self.signed(kind, attributes)).unwrap();
        }
        error_code(&response).map_or(Ok(response), Err)
    }

    /// A message with credentials, if there was a challenge.
    pub(crate) fn signed(&self, kind: MessageType, attributes: &[Box<dyn Setter>]) -> Message {
        let mut message = message(kind, attributes);
        if let Some([realm, nonce]) = self.challenge.clone() {
            let bearer = self.bearer.as_ref();
            let user = bearer.map_or(&self.user, |bearer| &bearer.id).to_owned();
            let texts = [
                (ATTR_USERNAME, user.clone()),
                (ATTR_REALM, realm.clone()),
                (ATTR_NONCE, nonce),
            ];
            for (attr, text) in texts {
                TextAttribute { attr, text }.add_to(&mut message).unwrap();
            }
            // The token goes with Allocate and Refresh only (RFC 7635 §9).
            let needs_token = [METHOD_ALLOCATE, METHOD_REFRESH].contains(&kind.method);
            if let Some(bearer) = bearer.filter(|_| needs_token) {
                message.add(ACCESS_TOKEN, &bearer.token);
            }
            let long_term = MessageIntegrity::new_long_term_integrity;
            let integrity = match bearer {
                Some(bearer) => MessageIntegrity(bearer.mac_key.clone().into_bytes()),
                None => long_term(user, realm, PASSWORD.to_owned()),
            };
            integrity.add_to(&mut message).unwrap();
        }
        FINGERPRINT.add_to(&mut message).unwrap();
        message
    }

    fn transact(&mut self, request: &Message) -> Result<Message> {
        self.send(&request.raw)?;
        loop {
            let received = parse(self.receive()?);
            match received.filter(|message| message.transaction_id == request.transaction_id) {
                Some(response) => return Ok(response),
                None => continue,
            }
        }
    }
}

/// A message with a new transaction id and no credentials.
pub(crate) fn message(kind: MessageType, attributes: &[Box<dyn Setter>]) -> Message {
    let mut message = Message::new();
    message.set_type(kind);
    message.write_header();
    TransactionId::new().add_to(&mut message).unwrap();
    for attribute in attributes {
        attribute.add_to(&mut message).unwrap();
    }
    message
}

/// `peer` as XOR-PEER-ADDRESS.
pub(crate) fn peer_address(peer: SocketAddr) -> PeerAddress {
    PeerAddress {
        ip: peer.ip(),
        port: peer.port(),
    }
}

/// `payload` in a ChannelData message on channel `number`, padded as streams want it.
pub(crate) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut message = [number.to_be_bytes(), length.to_be_bytes()].concat();
    message.extend_from_slice(payload);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn parse(bytes: Vec<u8>) -> Option<Message> {
    let mut message = Message::new();
    message.raw = bytes;
    message.decode().ok()?;
    Some(message)
}

fn error_code(response: &Message) -> Option<u16> {
    let mut error = ErrorCodeAttribute::default();
    error.get_from(response).ok()?;
    Some(error.code.0)
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(STREAM_PATIENCE)).unwrap();
    stream
}

fn receive_frame(stream: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    stream.read_exact(&mut buffer[..4])?;
    let length = usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
    let (message, padded) = match buffer[0] {
        0..64 => (20 + length, 20 + length),
        64..80 => (4 + length, 4 + length.next_multiple_of(4)),
        _ => return Err(Error::from(ErrorKind::InvalidData)),
    };
    stream.read_exact(&mut buffer[4..padded])?;
    Ok(message)
}
