//! Clients and peers: many allocations, packets both ways on each.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use turnstone::stun::{
    Algorithm, AttributeType, Class, Message, MessageBuilder, Method, TransactionId,
};
use turnstone::turn::StoredKey;

use crate::loopback;

pub(crate) const USER: &str = "bench";
pub(crate) const PASSWORD: &str = "bench";
pub(crate) const REALM: &str = "bench";
const CHANNEL: [u8; 2] = [0x40, 0x00];
/// After so long without a packet a round is over; what has not come by then is lost.
const PATIENCE: Duration = Duration::from_millis(20);

/// Whether a server answers at `address`.
pub(crate) fn is_serving(address: SocketAddr) -> bool {
    let ask = || -> io::Result<()> {
        let socket = UdpSocket::bind(loopback(0))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut request = Vec::new();
        let transaction = TransactionId(*b"are you here");
        MessageBuilder::new(&mut request, Class::Request, Method::BINDING, transaction);
        socket.send_to(&request, address)?;
        socket.recv(&mut [0; 1500]).map(|_| ())
    };
    ask().is_ok()
}

/// One client with an allocation.
struct Client {
    socket: UdpSocket,
    nonce: Vec<u8>,
    key: StoredKey,
    relayed: SocketAddr,
    transactions: u64,
}

impl Client {
    fn allocate(server: SocketAddr) -> io::Result<Self> {
        // Not on the address that relay sockets bind, so that the ports of all are free for those.
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut client = Self {
            socket,
            nonce: Vec::new(),
            key: StoredKey::derive(
                turnstone::stun::PasswordAlgorithm::Md5,
                USER,
                REALM,
                PASSWORD,
            ),
            relayed: server,
            transactions: 0,
        };
        let transport = (AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0][..]);
        let challenge = client.ask(Method::ALLOCATE, &[transport], None)?;
        client.nonce = value(&challenge, AttributeType::NONCE)?;
        let response = client.ask(Method::ALLOCATE, &[transport], None)?;
        let message = parse(&response)?;
        let relayed = message.attribute(AttributeType::XOR_RELAYED_ADDRESS);
        let relayed = relayed.ok_or_else(|| refused(&message))?;
        client.relayed = message.xor_address(&relayed).map_err(io::Error::other)?;
        Ok(client)
    }

    fn bind_channel(&mut self, peer: SocketAddr) -> io::Result<()> {
        let number = (
            AttributeType::CHANNEL_NUMBER,
            &[CHANNEL[0], CHANNEL[1], 0, 0][..],
        );
        let response = self.ask(Method::CHANNEL_BIND, &[number], Some(peer))?;
        match parse(&response)?.class() {
            Class::Success => Ok(()),
            _ => Err(refused(&parse(&response)?)),
        }
    }

    /// Sends a request, signed once there is a nonce; the response.
    fn ask(
        &mut self,
        method: Method,
        attributes: &[(AttributeType, &[u8])],
        peer: Option<SocketAddr>,
    ) -> io::Result<Vec<u8>> {
        self.transactions += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        let mut request = Vec::new();
        let mut builder =
            MessageBuilder::new(&mut request, Class::Request, method, TransactionId(id));
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        if let Some(peer) = peer {
            builder.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        }
        if !self.nonce.is_empty() {
            builder
                .attribute(AttributeType::USERNAME, USER.as_bytes())
                .attribute(AttributeType::REALM, REALM.as_bytes())
                .attribute(AttributeType::NONCE, &self.nonce)
                .integrity(Algorithm::Sha1, self.key.as_bytes());
        }
        self.socket.send(&request)?;
        let mut response = vec![0; 1500];
        let length = self.socket.recv(&mut response)?;
        response.truncate(length);
        Ok(response)
    }
}

fn refused(message: &Message<'_>) -> io::Error {
    let code = message.attribute(AttributeType::ERROR_CODE);
    let code = code.and_then(|code| {
        code.value
            .get(2..4)
            .map(|code| u16::from(code[0]) * 100 + u16::from(code[1]))
    });
    io::Error::other(format!(
        "the server refuses with error {}",
        code.unwrap_or(0)
    ))
}

fn parse(bytes: &[u8]) -> io::Result<Message<'_>> {
    Message::parse(bytes).map_err(io::Error::other)
}

fn value(bytes: &[u8], kind: AttributeType) -> io::Result<Vec<u8>> {
    let attribute = parse(bytes)?.attribute(kind);
    let attribute = attribute.ok_or_else(|| io::Error::other("an attribute is missing"))?;
    Ok(attribute.value.to_vec())
}

/// Clients, and the one peer of them all.
pub(crate) struct Crowd {
    clients: Vec<Client>,
    peer: UdpSocket,
}

/// How many packets went in and came out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Crowd {
    pub(crate) fn allocate(server: SocketAddr, count: usize) -> io::Result<Self> {
        let clients: io::Result<Vec<Client>> =
            (0..count).map(|_| Client::allocate(server)).collect();
        Ok(Self {
            clients: clients?,
            peer: UdpSocket::bind(loopback(0))?,
        })
    }

    pub(crate) fn bind_channels(&mut self) -> io::Result<()> {
        let peer = self.peer.local_addr()?;
        self.clients
            .iter_mut()
            .try_for_each(|client| client.bind_channel(peer))
    }

    /// Sends one packet each way on every allocation and waits for all of them, again and again.
    pub(crate) fn exchange(&mut self, payload: usize, duration: Duration) -> io::Result<Delivered> {
        let data = vec![7; payload];
        let [high, low] = u16::try_from(payload)
            .map_err(io::Error::other)?
            .to_be_bytes();
        let mut framed = vec![CHANNEL[0], CHANNEL[1], high, low];
        framed.extend_from_slice(&data);
        self.peer.set_nonblocking(true)?;
        for client in &self.clients {
            client.socket.set_nonblocking(true)?;
        }
        let mut delivered = Delivered::default();
        let start = Instant::now();
        while start.elapsed() < duration {
            let mut early = 0;
            for (i, client) in self.clients.iter().enumerate() {
                client.socket.send(&framed)?;
                self.peer.send_to(&data, client.relayed)?;
                // The one peer of all would overflow before the round is sent.
                if i % 16 == 15 {
                    early += drain(&self.peer)?;
                }
            }
            delivered.sent += 2 * self.clients.len() as u64;
            delivered.received += self.collect(early)?;
        }
        Ok(delivered)
    }

    /// Receives until everything that was sent last has come, or nothing comes any more; so many came
    /// `early` to the peer.
    fn collect(&self, early: u64) -> io::Result<u64> {
        let expected = self.clients.len() as u64;
        let (mut up, mut down) = (early, 0);
        let mut last = Instant::now();
        while up < expected || down < expected {
            let before = up + down;
            up += drain(&self.peer)?;
            for client in &self.clients {
                down += drain(&client.socket)?;
            }
            if up + down > before {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                break;
            }
        }
        Ok(up + down)
    }
}

/// Receives what is there; how many packets.
fn drain(socket: &UdpSocket) -> io::Result<u64> {
    let mut buffer = [0; 2048];
    let mut count = 0;
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}
