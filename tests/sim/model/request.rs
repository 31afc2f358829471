//! Random requests, most of them right, each with one fault at most.

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::turn::{Family, FiveTuple};

use super::extra::Extra;
use super::signing::Dialect;
use crate::common::{
    Login, REALM, START, address, channel_number, even_port, lifetime, requested_transport, tcp,
    udp, xor_peer_address,
};
use crate::rng::Rng;

pub(super) type Attributes = Vec<(AttributeType, Vec<u8>)>;

/// An attribute that may be missing or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<T> {
    Missing,
    Malformed,
    Is(T),
}

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Right,
    /// Not at all.
    Missing,
    /// Without NONCE.
    Incomplete,
    WrongPassword,
    UnknownUser,
    OtherRealm,
    /// With the first nonce that the client ever got.
    OldNonce,
    /// With a nonce that is no one's, or another client's.
    ForgedNonce,
    ForeignNonce,
    /// With another list of password algorithms than the server's.
    ShortList,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Binding,
    Allocate {
        transport: Value<u8>,
        family: Value<u8>,
        lifetime: Value<u32>,
        extra: Extra,
    },
    Refresh {
        family: Value<u8>,
        lifetime: Value<u32>,
    },
    CreatePermission(Vec<Value<SocketAddr>>),
    ChannelBind {
        number: Value<u16>,
        peer: Value<SocketAddr>,
    },
}

/// A request of one client.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) from: FiveTuple,
    pub(super) login: Login,
    pub(super) dialect: Dialect,
    pub(super) signature: Signature,
    /// With a comprehension-required attribute that nobody knows.
    pub(super) has_unknown: bool,
    pub(super) body: Body,
}

/// All clients; some share an address, some a /64.
pub(super) fn clients() -> Vec<FiveTuple> {
    let mut clients: Vec<FiveTuple> = [
        "5.5.5.1:4000",
        "5.5.5.1:4001",
        "5.5.5.1:4002",
        "5.5.5.2:4000",
        "5.5.6.3:4000",
        "[2606:1::1]:4000",
        "[2606:1::2]:4000",
        "[2606:1:0:0:1::2]:4000",
    ]
    .map(udp)
    .into();
    clients.push(tcp("5.5.5.2:4000"));
    clients
}

fn logins() -> [Login; 4] {
    [
        Login::alice(),
        Login::bob(),
        Login::time_limited("carol", START + 40),
        Login::time_limited("carol", START + 100_000),
    ]
}

/// Peers that the policy allows and refuses, of both families, and relays of the server.
fn peers(relays: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut peers: Vec<SocketAddr> = [
        "198.51.100.1:1000",
        "198.51.100.1:1001",
        "198.51.100.2:1000",
        "198.51.100.3:1000",
        "198.51.100.4:1000",
        "[2001:db8:1::1]:1000",
        "[2001:db8:1::2]:1000",
        "10.0.0.1:1000",
        "[fc00::1]:1000",
        "192.0.2.10:3478",
        "[2001:db8::10]:50001",
    ]
    .map(address)
    .into();
    peers.extend(relays);
    peers
}

impl Request {
    /// A request of some client while `relays` are alive and `tokens` were given out.
    pub(super) fn random(rng: &mut Rng, relays: &[SocketAddr], tokens: &[Vec<u8>]) -> Self {
        let clients = clients();
        let from = rng.pick(&clients);
        // A client mostly uses the same login, so that its requests mostly get through.
        let usual = clients.iter().position(|client| *client == from);
        let login = if rng.chance(92) {
            usual.unwrap_or(0) % 4
        } else {
            rng.below(4)
        };
        let dialect = Dialect::random(rng);
        Self {
            from,
            login: logins()[login].clone(),
            dialect,
            signature: signature(rng, dialect),
            has_unknown: rng.chance(3),
            body: Body::random(rng, relays, tokens),
        }
    }

    pub(super) fn method(&self) -> Method {
        match self.body {
            Body::Binding => Method::BINDING,
            Body::Allocate { .. } => Method::ALLOCATE,
            Body::Refresh { .. } => Method::REFRESH,
            Body::CreatePermission(_) => Method::CREATE_PERMISSION,
            Body::ChannelBind { .. } => Method::CHANNEL_BIND,
        }
    }

    /// The bytes of the request.
    pub(super) fn encode(&self, id: TransactionId, nonce: &[u8]) -> Vec<u8> {
        let mut attributes = self.body.attributes(id);
        if self.has_unknown {
            attributes.push((AttributeType(0x7777), vec![1, 2, 3, 4]));
        }
        let Login {
            username, password, ..
        } = &self.login;
        let other = |realm: &str| Login {
            realm: realm.into(),
            ..self.login.clone()
        };
        let login = match self.signature {
            Signature::Missing => return unsigned(id, self.method(), &attributes),
            Signature::Incomplete => return self.incomplete(id, &attributes),
            Signature::WrongPassword => Login::new(username, "guess"),
            Signature::UnknownUser => Login::new("mallory", password),
            Signature::OtherRealm => other("example.com"),
            _ => other(REALM),
        };
        match self.body {
            Body::Binding => unsigned(id, self.method(), &attributes),
            _ => {
                let shortens = self.signature == Signature::ShortList;
                let head = (id, self.method());
                self.dialect
                    .sign(&login, head, &attributes, nonce, shortens)
            }
        }
    }

    fn incomplete(&self, id: TransactionId, attributes: &Attributes) -> Vec<u8> {
        let mut message = unsigned(id, self.method(), attributes);
        let mut builder = MessageBuilder::new(&mut message, Class::Request, self.method(), id);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        builder
            .attribute(AttributeType::USERNAME, self.login.username.as_bytes())
            .attribute(AttributeType::REALM, REALM.as_bytes())
            .integrity(
                turnstone::stun::Algorithm::Sha1,
                self.login.key().as_bytes(),
            );
        message
    }
}

fn signature(rng: &mut Rng, dialect: Dialect) -> Signature {
    if rng.chance(88) {
        return Signature::Right;
    }
    let short_list = match dialect.choice {
        Some(_) => Signature::ShortList,
        None => Signature::Right,
    };
    rng.pick(&[
        short_list,
        Signature::Missing,
        Signature::Incomplete,
        Signature::WrongPassword,
        Signature::UnknownUser,
        Signature::OtherRealm,
        Signature::OldNonce,
        Signature::ForgedNonce,
        Signature::ForeignNonce,
    ])
}

impl Body {
    fn random(rng: &mut Rng, relays: &[SocketAddr], tokens: &[Vec<u8>]) -> Self {
        let mut peers = peers(relays);
        if rng.chance(60) {
            // Few peers, so that bindings are refreshed, renewed and in each other's way.
            peers.truncate(3);
        }
        let is_faulty = rng.chance(15);
        match rng.below(20) {
            0 => Self::Binding,
            1..=6 => Self::allocate(rng, tokens, is_faulty),
            7..=9 => Self::refresh(rng, is_faulty),
            10..=14 => Self::create_permission(rng, &peers, is_faulty),
            _ => Self::channel_bind(rng, &peers, is_faulty),
        }
    }

    fn allocate(rng: &mut Rng, tokens: &[Vec<u8>], is_faulty: bool) -> Self {
        let mut transport = Value::Is(17);
        let mut family = rng.pick(&[Value::Missing, Value::Missing, Value::Is(1), Value::Is(2)]);
        let mut lifetime = lifetime_of(rng);
        let mut extra = Extra::random(rng, tokens);
        if extra.additional != Value::Missing || extra.token.is_some() {
            family = Value::Missing;
        }
        match rng.below(5) {
            _ if !is_faulty => {}
            3 => extra.contradict(rng),
            4 => family = Value::Is(1),
            0 => transport = rng.pick(&[Value::Missing, Value::Malformed, Value::Is(6)]),
            1 => family = rng.pick(&[Value::Malformed, Value::Is(3)]),
            _ => lifetime = Value::Malformed,
        }
        Self::Allocate {
            transport,
            family,
            lifetime,
            extra,
        }
    }

    fn refresh(rng: &mut Rng, is_faulty: bool) -> Self {
        let all = Value::Missing;
        let mut family = rng.pick(&[all, all, all, all, all, Value::Is(1), Value::Is(2)]);
        let mut lifetime = lifetime_of(rng);
        match rng.below(2) {
            _ if !is_faulty => {}
            0 => family = rng.pick(&[Value::Malformed, Value::Is(3)]),
            _ => lifetime = Value::Malformed,
        }
        Self::Refresh { family, lifetime }
    }

    fn create_permission(rng: &mut Rng, all: &[SocketAddr], is_faulty: bool) -> Self {
        let count = 1 + rng.below(3);
        let mut peers: Vec<_> = (0..count).map(|_| Value::Is(rng.pick(all))).collect();
        if is_faulty {
            let last = rng.pick(&[None, Some(Value::Malformed)]);
            peers = last.into_iter().collect();
        }
        Self::CreatePermission(peers)
    }

    fn channel_bind(rng: &mut Rng, all: &[SocketAddr], is_faulty: bool) -> Self {
        let mut number = Value::Is(rng.pick(&[0x4000, 0x4001, 0x4FFF]));
        let mut peer = Value::Is(rng.pick(all));
        match rng.below(2) {
            _ if !is_faulty => {}
            0 => {
                number = rng.pick(&[
                    Value::Missing,
                    Value::Malformed,
                    Value::Is(0x3FFF),
                    Value::Is(0x5000),
                ]);
            }
            _ => peer = rng.pick(&[Value::Missing, Value::Malformed]),
        }
        Self::ChannelBind { number, peer }
    }

    fn attributes(&self, id: TransactionId) -> Attributes {
        let peer_of = |peer| xor_peer_address(peer, id).1;
        let families = |family| vec![family, 0, 0, 0];
        let family_kind = AttributeType::REQUESTED_ADDRESS_FAMILY;
        let attribute = match self {
            Self::Binding => vec![],
            Self::Allocate {
                transport,
                family,
                lifetime: seconds,
                extra,
            } => vec![
                transport.attribute(AttributeType::REQUESTED_TRANSPORT, |protocol| {
                    requested_transport(protocol).1
                }),
                family.attribute(family_kind, families),
                seconds.attribute(AttributeType::LIFETIME, |seconds| lifetime(seconds).1),
                extra
                    .additional
                    .attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, families),
                extra
                    .even_port
                    .attribute(AttributeType::EVEN_PORT, |reserve| even_port(reserve).1),
                extra
                    .token
                    .clone()
                    .map(|token| (AttributeType::RESERVATION_TOKEN, token)),
            ],
            Self::Refresh {
                family,
                lifetime: seconds,
            } => vec![
                family.attribute(family_kind, families),
                seconds.attribute(AttributeType::LIFETIME, |seconds| lifetime(seconds).1),
            ],
            Self::CreatePermission(peers) => peers
                .iter()
                .map(|peer| peer.attribute(AttributeType::XOR_PEER_ADDRESS, peer_of))
                .collect(),
            Self::ChannelBind { number, peer } => vec![
                number.attribute(AttributeType::CHANNEL_NUMBER, |number| {
                    channel_number(number).1
                }),
                peer.attribute(AttributeType::XOR_PEER_ADDRESS, peer_of),
            ],
        };
        attribute.into_iter().flatten().collect()
    }
}

impl<T: Copy> Value<T> {
    pub(super) fn attribute(
        self,
        kind: AttributeType,
        encode: impl Fn(T) -> Vec<u8>,
    ) -> Option<(AttributeType, Vec<u8>)> {
        match self {
            Self::Missing => None,
            Self::Malformed => Some((kind, vec![0, 1, 2])),
            Self::Is(value) => Some((kind, encode(value))),
        }
    }
}

fn lifetime_of(rng: &mut Rng) -> Value<u32> {
    rng.pick(&[
        Value::Missing,
        Value::Is(0),
        Value::Is(5),
        Value::Is(15),
        Value::Is(9999),
    ])
}

fn unsigned(id: TransactionId, method: Method, attributes: &Attributes) -> Vec<u8> {
    let mut message = Vec::new();
    let mut builder = MessageBuilder::new(&mut message, Class::Request, method, id);
    for (kind, value) in attributes {
        builder.attribute(*kind, value);
    }
    message
}

/// The family that a REQUESTED-ADDRESS-FAMILY value stands for.
pub(super) fn family_of(value: u8) -> Option<Family> {
    match value {
        1 => Some(Family::V4),
        2 => Some(Family::V6),
        _ => None,
    }
}
