//! A server of the pure core on virtual time, its sockets played by the test, and requests to it.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part")]

pub mod random;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use turnstone::stun::{
    Algorithm, AttributeType, Class, Message, MessageBuilder, Method, TransactionId,
};
use turnstone::time::{Now, UnixTime};
use turnstone::turn::{
    Action, AllocationKey, Credentials, Event, Family, FiveTuple, Lifetimes, Limits, OwnHost,
    PeerFilter, Policy, RelayAddresses, RelaySource, Rule, RuleAction, Server, Setup, Shared,
    SharedSecret, StoredKey, Transport, Verdict,
};

pub const REALM: &str = "example.org";
pub const USER: &str = "alice";
pub const PASSWORD: &str = "wonderland";
pub const SECRET: &str = "north";

/// The wall clock when a test starts.
pub const START: u64 = 1_700_000_000;

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A five-tuple from `client` to the server's usual address of the same family.
pub fn udp(client: &str) -> FiveTuple {
    five_tuple(Transport::Udp, client)
}

pub fn tcp(client: &str) -> FiveTuple {
    five_tuple(Transport::Tcp, client)
}

fn five_tuple(transport: Transport, client: &str) -> FiveTuple {
    let client = address(client);
    let server = if client.is_ipv4() {
        "192.0.2.10:3478"
    } else {
        "[2001:db8::10]:3478"
    };
    FiveTuple {
        transport,
        client,
        server: address(server),
    }
}

/// Users alice and bob, one shared secret, relays on 192.0.2.10 and 2001:db8::10, peers in
/// 198.51.100.0/24 and 2001:db8:1::/48 allowed.
pub fn policy() -> Policy {
    let mut credentials = Credentials::default();
    credentials.add_user(USER, StoredKey::derive(USER, REALM, PASSWORD));
    credentials.add_user("bob", StoredKey::derive("bob", REALM, "builder"));
    credentials.add_secret(SharedSecret::new(SECRET));
    Policy {
        realm: REALM.into(),
        software: Some("Turnstone".into()),
        credentials,
        lifetimes: Lifetimes::default(),
        relay: RelayAddresses {
            v4: RelaySource::Fixed(vec![address("192.0.2.10:0").ip()]),
            v6: RelaySource::Fixed(vec![address("[2001:db8::10]:0").ip()]),
            external: Vec::new(),
            ports: 49_152..=65_535,
        },
        peers: peers(&["198.51.100.0/24", "2001:db8:1::/48"]),
        limits: Limits::default(),
        nat_discovery: None,
        rfc3489: false,
    }
}

/// A filter that allows `networks` beside what is allowed anyway.
pub fn peers(networks: &[&str]) -> PeerFilter {
    let allow = |text: &&str| Rule {
        network: text.parse().expect("a network"),
        action: RuleAction::Allow,
    };
    let rules: Vec<Rule> = networks.iter().map(allow).collect();
    let own = OwnHost {
        addresses: vec![
            address("192.0.2.10:0").ip(),
            address("[2001:db8::10]:0").ip(),
        ],
        networks: Vec::new(),
        listeners: vec![address("0.0.0.0:3478"), address("[::]:3478")],
    };
    PeerFilter::new(&rules, &own)
}

/// A server with the test's clock and sockets.
pub struct World {
    pub server: Server,
    pub now: Now,
    pub shared: Arc<Shared>,
    /// The relay sockets that are open.
    pub relays: BTreeMap<SocketAddr, AllocationKey>,
    /// What binding a relay socket ends in: ok, or an error that another port may mend or not.
    pub bind: Result<(), Retry>,
    transactions: u64,
}

pub type Retry = bool;

/// What came out of one packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Out {
    ToPeer {
        from: SocketAddr,
        peer: SocketAddr,
        payload: Vec<u8>,
    },
    ToClient {
        to: FiveTuple,
        message: Vec<u8>,
    },
    Nothing,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        Self::with_seed(policy, 7)
    }

    pub fn with_seed(policy: Policy, seed: u8) -> Self {
        let shared = Arc::new(Shared::default());
        let server = Server::new(Setup {
            shard: 0,
            shards: 1,
            seed: [seed; 32],
            nonce_key: [seed; 32],
            policy: Arc::new(policy),
            shared: Arc::clone(&shared),
        });
        let now = Now {
            unix: UnixTime(START),
            ..Now::default()
        };
        let relays = BTreeMap::new();
        Self {
            server,
            now,
            shared,
            relays,
            bind: Ok(()),
            transactions: 0,
        }
    }

    /// Lets time pass, ending what expires on the way.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.advance(due.since(self.now.instant));
            self.server.handle_timeout(self.now);
            let _ = self.drain();
        }
        self.advance(end.since(self.now.instant));
    }

    fn advance(&mut self, duration: Duration) {
        let before = self.now.instant.as_secs();
        self.now.instant = self.now.instant + duration;
        self.now.unix.0 += self.now.instant.as_secs() - before;
    }

    pub fn swap_policy(&mut self, policy: Policy) {
        self.server
            .handle_event(self.now, Event::Policy(Arc::new(policy)));
    }

    pub fn client_gone(&mut self, client: FiveTuple) {
        self.server
            .handle_event(self.now, Event::ClientGone { client });
        let _ = self.drain();
    }

    /// A packet from a client, and what comes out.
    pub fn send(&mut self, from: FiveTuple, packet: &[u8]) -> Out {
        let out = match self.server.handle_client(self.now, from, packet) {
            Verdict::ToPeer {
                from,
                peer,
                payload,
            } => {
                let relay = self
                    .relays
                    .iter()
                    .find(|(address, key)| **key == from && address.is_ipv4() == peer.is_ipv4());
                let from = *relay.expect("an open relay socket").0;
                Out::ToPeer {
                    from,
                    peer,
                    payload: payload.to_vec(),
                }
            }
            other => to_client(other),
        };
        self.drain().unwrap_or(out)
    }

    /// A datagram from `peer` to the relay socket bound at `relay`, and what comes out.
    pub fn peer_sends(&mut self, relay: SocketAddr, peer: SocketAddr, payload: &[u8]) -> Out {
        let key = *self.relays.get(&relay).expect("an open relay socket");
        let out = to_client(self.server.handle_peer(self.now, key, peer, payload));
        self.drain().unwrap_or(out)
    }

    /// Does what the server asks for; the response that waits, if any.
    fn drain(&mut self) -> Option<Out> {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::OpenRelay { key, local } => self.open(key, local),
                Action::CloseRelay { key, family } => {
                    self.relays
                        .retain(|at, open| *open != key || Family::of(at.ip()) != family);
                }
            }
        }
        let (to, message) = self.server.poll_response()?;
        Some(Out::ToClient {
            to,
            message: message.to_vec(),
        })
    }

    fn open(&mut self, key: AllocationKey, local: SocketAddr) {
        let family = Family::of(local.ip());
        let event = match self.bind {
            Ok(()) => {
                assert!(
                    self.relays.insert(local, key).is_none(),
                    "{local} is bound twice"
                );
                Event::RelayOpened { key, family }
            }
            Err(retry) => Event::RelayFailed { key, family, retry },
        };
        self.server.handle_event(self.now, event);
    }

    pub fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(id)
    }

    /// An unsigned request with `attributes`.
    pub fn request(&mut self, method: Method, attributes: &[(AttributeType, Vec<u8>)]) -> Vec<u8> {
        let transaction = self.transaction();
        let mut buffer = Vec::new();
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, transaction);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        buffer
    }

    /// A request signed by `login` with a nonce that is fresh for `from`.
    pub fn signed(
        &mut self,
        login: &Login,
        from: FiveTuple,
        method: Method,
        attributes: &[(AttributeType, Vec<u8>)],
    ) -> Vec<u8> {
        let nonce = self.nonce(from);
        let transaction = self.transaction();
        login.sign(transaction, method, attributes, &nonce)
    }

    /// The nonce of a challenge to `from`.
    pub fn nonce(&mut self, from: FiveTuple) -> Vec<u8> {
        let request = self.request(Method::ALLOCATE, &[requested_transport(17)]);
        let response = self.send(from, &request).response();
        response.value(AttributeType::NONCE).expect("a nonce")
    }

    /// Sends a signed request; the response.
    pub fn ask(
        &mut self,
        login: &Login,
        from: FiveTuple,
        method: Method,
        attributes: &[(AttributeType, Vec<u8>)],
    ) -> Response {
        let request = self.signed(login, from, method, attributes);
        self.send(from, &request).response()
    }

    /// Allocates as alice; the relayed transport address.
    pub fn allocate(&mut self, from: FiveTuple) -> SocketAddr {
        self.allocate_family(from, None)
    }

    pub fn allocate_family(&mut self, from: FiveTuple, family: Option<u8>) -> SocketAddr {
        let mut attributes = vec![requested_transport(17)];
        attributes.extend(family.map(requested_family));
        let response = self.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        assert_eq!(response.code(), None, "allocation refused");
        response
            .xor_address(AttributeType::XOR_RELAYED_ADDRESS)
            .expect("a relayed address")
    }

    pub fn permit(&mut self, from: FiveTuple, peer: SocketAddr) -> Response {
        let peer = self.xor_peer(peer);
        self.ask(&Login::alice(), from, Method::CREATE_PERMISSION, &[peer])
    }

    pub fn bind_channel(&mut self, from: FiveTuple, number: u16, peer: SocketAddr) -> Response {
        let attributes = [channel_number(number), self.xor_peer(peer)];
        self.ask(&Login::alice(), from, Method::CHANNEL_BIND, &attributes)
    }

    /// XOR-PEER-ADDRESS for the next signed request. [`nonce`](Self::nonce) uses one transaction id
    /// before it, and an IPv6 address is XORed with the id of the message it stands in.
    pub fn xor_peer(&self, peer: SocketAddr) -> (AttributeType, Vec<u8>) {
        let mut id = [0; 12];
        id[4..].copy_from_slice(&(self.transactions + 2).to_be_bytes());
        xor_peer_address(peer, TransactionId(id))
    }
}

fn to_client(verdict: Verdict<'_>) -> Out {
    match verdict {
        Verdict::ToClient {
            to,
            prefix,
            payload,
        } => {
            let mut message = prefix.as_bytes().to_vec();
            message.extend_from_slice(payload);
            message.resize(message.len() + prefix.padding(), 0);
            Out::ToClient { to, message }
        }
        Verdict::ToPeer { .. } => panic!("a peer's packet went to a peer"),
        Verdict::Respond | Verdict::Park | Verdict::Discard(_) => Out::Nothing,
    }
}

impl Out {
    /// The response that must have come out.
    pub fn response(self) -> Response {
        match self {
            Self::ToClient { message, .. } => Response(message),
            other => panic!("no response but {other:?}"),
        }
    }
}

/// A response as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response(pub Vec<u8>);

impl Response {
    pub fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("a well-formed response")
    }

    /// The error code; none for a success response.
    pub fn code(&self) -> Option<u16> {
        let value = self.value(AttributeType::ERROR_CODE);
        assert_eq!(value.is_some(), self.message().class() == Class::Error);
        value.map(|value| u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub fn value(&self, kind: AttributeType) -> Option<Vec<u8>> {
        self.message()
            .attribute(kind)
            .map(|attribute| attribute.value.to_vec())
    }

    pub fn xor_address(&self, kind: AttributeType) -> Option<SocketAddr> {
        let message = self.message();
        let attribute = message.attribute(kind)?;
        Some(
            message
                .xor_address(&attribute)
                .expect("a well-formed address"),
        )
    }

    pub fn lifetime(&self) -> Option<u32> {
        let message = self.message();
        message
            .attribute(AttributeType::LIFETIME)
            .map(|attribute| attribute.u32().expect("four bytes"))
    }

    pub fn is_signed_by(&self, login: &Login) -> bool {
        self.message()
            .check_integrity(Algorithm::Sha1, login.key().as_bytes())
            .is_ok()
    }
}

/// What a client signs with.
#[derive(Clone, Debug)]
pub struct Login {
    pub username: String,
    pub realm: String,
    pub password: String,
}

impl Login {
    pub fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.into(),
            realm: REALM.into(),
            password: password.into(),
        }
    }

    pub fn alice() -> Self {
        Self::new(USER, PASSWORD)
    }

    pub fn bob() -> Self {
        Self::new("bob", "builder")
    }

    /// A time-limited credential of `user` that ends at `expiry`.
    pub fn time_limited(user: &str, expiry: u64) -> Self {
        let username = format!("{expiry}:{user}");
        let password = SharedSecret::new(SECRET).password_for(&username);
        Self::new(&username, &password)
    }

    pub fn key(&self) -> StoredKey {
        StoredKey::derive(&self.username, &self.realm, &self.password)
    }

    pub fn sign(
        &self,
        transaction: TransactionId,
        method: Method,
        attributes: &[(AttributeType, Vec<u8>)],
        nonce: &[u8],
    ) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, transaction);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        builder
            .attribute(AttributeType::USERNAME, self.username.as_bytes())
            .attribute(AttributeType::REALM, self.realm.as_bytes())
            .attribute(AttributeType::NONCE, nonce)
            .integrity(Algorithm::Sha1, self.key().as_bytes());
        buffer
    }
}

pub fn requested_transport(protocol: u8) -> (AttributeType, Vec<u8>) {
    (AttributeType::REQUESTED_TRANSPORT, vec![protocol, 0, 0, 0])
}

pub fn requested_family(family: u8) -> (AttributeType, Vec<u8>) {
    (
        AttributeType::REQUESTED_ADDRESS_FAMILY,
        vec![family, 0, 0, 0],
    )
}

pub fn lifetime(seconds: u32) -> (AttributeType, Vec<u8>) {
    (AttributeType::LIFETIME, seconds.to_be_bytes().to_vec())
}

pub fn channel_number(number: u16) -> (AttributeType, Vec<u8>) {
    let [high, low] = number.to_be_bytes();
    (AttributeType::CHANNEL_NUMBER, vec![high, low, 0, 0])
}

pub fn xor_peer_address(peer: SocketAddr, transaction: TransactionId) -> (AttributeType, Vec<u8>) {
    let mut buffer = Vec::new();
    MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, transaction)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
    (AttributeType::XOR_PEER_ADDRESS, buffer.split_off(24))
}

/// A Send indication.
pub fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let transaction = TransactionId(*b"indication!!");
    MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, transaction)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
        .attribute(AttributeType::DATA, data);
    buffer
}

/// A ChannelData message, padded as a stream wants it.
pub fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a short payload");
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(data);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
