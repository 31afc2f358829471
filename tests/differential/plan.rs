//! What a message is meant to say, apart from any implementation.

use std::net::{IpAddr, SocketAddr};

use turnstone::stun::{Algorithm, Attribute, Class, Message, Method, TransactionId};

use crate::common::random::Random;

/// The key of every message integrity.
pub(crate) const KEY: &str = "a key of some length";

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) class: Class,
    pub(crate) method: u16,
    pub(crate) transaction: TransactionId,
    pub(crate) fields: Vec<Field>,
    pub(crate) integrity: Integrity,
    pub(crate) fingerprint: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integrity {
    None,
    Sha1,
    Sha256,
}

impl Integrity {
    pub(crate) fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::None => None,
            Self::Sha1 => Some(Algorithm::Sha1),
            Self::Sha256 => Some(Algorithm::Sha256),
        }
    }
}

/// One attribute.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Username(String),
    Realm(String),
    Nonce(String),
    Software(String),
    XorMapped(SocketAddr),
    XorPeer(SocketAddr),
    XorRelayed(SocketAddr),
    Mapped(SocketAddr),
    Error(u16, String),
    Unknown(Vec<u16>),
    Lifetime(u32),
    Channel(u16),
    Transport(u8),
    Data(Vec<u8>),
    Other(u16, Vec<u8>),
}

impl Plan {
    pub(crate) fn random(random: &mut Random) -> Self {
        let classes = [
            Class::Request,
            Class::Indication,
            Class::Success,
            Class::Error,
        ];
        let mut fields: Vec<Field> = (0..15).map(|which| Field::random(which, random)).collect();
        for place in (1..fields.len()).rev() {
            fields.swap(place, random.below(place + 1));
        }
        fields.truncate(random.below(10));
        Self {
            class: *random.pick(&classes),
            method: random.u16() & 0xFFF,
            transaction: TransactionId(random.array()),
            fields,
            integrity: *random.pick(&[Integrity::None, Integrity::Sha1, Integrity::Sha256]),
            fingerprint: random.once_in(2),
        }
    }

    pub(crate) fn method(&self) -> Method {
        Method::new(self.method)
    }
}

impl Field {
    fn random(which: usize, random: &mut Random) -> Self {
        let address = |random: &mut Random| {
            let ip = if random.once_in(2) {
                IpAddr::from(random.array::<4>())
            } else {
                IpAddr::from(random.array::<16>())
            };
            SocketAddr::new(ip, random.u16())
        };
        match which {
            0 => Self::Username(Self::text(random, 60)),
            1 => Self::Realm(Self::text(random, 30)),
            2 => Self::Nonce(Self::text(random, 30)),
            3 => Self::Software(Self::text(random, 30)),
            4 => Self::XorMapped(address(random)),
            5 => Self::XorPeer(address(random)),
            6 => Self::XorRelayed(address(random)),
            7 => Self::Mapped(address(random)),
            8 => {
                let code = 300 + u16::try_from(random.below(400)).unwrap();
                Self::Error(code, Self::text(random, 30))
            }
            9 => Self::Unknown((0..=random.below(6)).map(|_| random.u16()).collect()),
            10 => Self::Lifetime(u32::from_be_bytes(random.array())),
            11 => Self::Channel(0x4000 | random.u16() & 0xFFF),
            12 => Self::Transport(random.byte()),
            13 => Self::Data(random.bytes(1400)),
            _ => Self::Other(0x7F00 | u16::from(random.byte()), random.bytes(20)),
        }
    }

    /// At least one character, of one byte and of more.
    pub(crate) fn text(random: &mut Random, bound: usize) -> String {
        let letters: Vec<char> = "abcXYZ019-._~é\u{30DE}".chars().collect();
        (0..=random.below(bound))
            .map(|_| *random.pick(&letters))
            .collect()
    }

    pub(crate) fn kind(&self) -> u16 {
        match self {
            Self::Mapped(_) => 0x0001,
            Self::Username(_) => 0x0006,
            Self::Error(..) => 0x0009,
            Self::Unknown(_) => 0x000A,
            Self::Channel(_) => 0x000C,
            Self::Lifetime(_) => 0x000D,
            Self::XorPeer(_) => 0x0012,
            Self::Data(_) => 0x0013,
            Self::Realm(_) => 0x0014,
            Self::Nonce(_) => 0x0015,
            Self::XorRelayed(_) => 0x0016,
            Self::Transport(_) => 0x0019,
            Self::XorMapped(_) => 0x0020,
            Self::Software(_) => 0x8022,
            Self::Other(kind, _) => *kind,
        }
    }

    /// Whether our view of `attribute` says what this field means.
    pub(crate) fn is_read_from(&self, message: &Message<'_>, attribute: &Attribute<'_>) -> bool {
        let value = attribute.value;
        let says = match self {
            Self::Username(text) | Self::Realm(text) | Self::Nonce(text) | Self::Software(text) => {
                attribute.text(763) == Ok(text)
            }
            Self::XorMapped(address) | Self::XorPeer(address) | Self::XorRelayed(address) => {
                message.xor_address(attribute) == Ok(*address)
            }
            Self::Mapped(address) => message.address(attribute) == Ok(*address),
            Self::Error(code, reason) => {
                let class = u16::from(value[2]) * 100;
                class + u16::from(value[3]) == *code && &value[4..] == reason.as_bytes()
            }
            Self::Unknown(kinds) => {
                let pairs = value.chunks_exact(2);
                pairs
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                    .eq(kinds.iter().copied())
            }
            Self::Lifetime(seconds) => attribute.u32() == Ok(*seconds),
            Self::Channel(number) => attribute.u32() == Ok(u32::from(*number) << 16),
            Self::Transport(protocol) => attribute.u32() == Ok(u32::from(*protocol) << 24),
            Self::Data(data) | Self::Other(_, data) => value == data,
        };
        says && attribute.kind.0 == self.kind()
    }
}
