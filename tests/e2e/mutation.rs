//! Hostile messages: valid ones bent in every way, and noise, from one seed.

use std::net::SocketAddr;

use stun::fingerprint::FINGERPRINT;
use stun::message::{
    BINDING_REQUEST, CLASS_INDICATION, CLASS_REQUEST, METHOD_ALLOCATE, METHOD_CHANNEL_BIND,
    METHOD_CREATE_PERMISSION, METHOD_REFRESH, METHOD_SEND, MessageType, Setter,
};
use turn::proto::PROTO_UDP;
use turn::proto::channum::ChannelNumber;
use turn::proto::data::Data;
use turn::proto::lifetime::Lifetime;
use turn::proto::reqfamily::REQUESTED_FAMILY_IPV6;
use turn::proto::reqtrans::RequestedTransport;

use super::dialogue::{Dialogue, channel_data, message, peer_address};

/// Types of messages and of attributes.
const KINDS: [u16; 9] = [
    0x0001, 0x0003, 0x0004, 0x0008, 0x0009, 0x0016, 0x0017, 0x0101, 0x0fff,
];

/// Random numbers that are the same on every run (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    /// `seed` must not be zero.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

/// Makes one hostile message after the other.
pub(crate) struct Mutator {
    dice: Dice,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    /// Begins with what `client` would say in earnest.
    pub(crate) fn new(seed: u64, client: &Dialogue) -> Self {
        Self {
            dice: Dice::new(seed),
            seeds: seeds(client),
        }
    }

    /// A datagram of up to some 1 500 bytes.
    pub(crate) fn datagram(&mut self) -> Vec<u8> {
        if self.dice.below(8) == 0 {
            let length = self.dice.below(200);
            return self.dice.bytes(length);
        }
        let mut bytes = self.seed();
        for _ in 0..=self.dice.below(4) {
            self.bend(&mut bytes);
        }
        bytes.truncate(1500);
        bytes
    }

    /// A message that a stream can carry: whatever is bent, header and length hold.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        let mut bytes = self.seed();
        let header = if bytes[0] < 64 { 20 } else { 4 };
        let mut body = bytes.split_off(header);
        for _ in 0..self.dice.below(4) {
            self.bend(&mut body);
        }
        body.truncate(1500);
        body.resize(body.len().next_multiple_of(4), 0);
        bytes[2..4].copy_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.append(&mut body);
        bytes
    }

    /// A message of `client` with random attributes under credentials that are right.
    pub(crate) fn signed(&mut self, client: &Dialogue) -> Vec<u8> {
        let methods = [
            METHOD_ALLOCATE,
            METHOD_REFRESH,
            METHOD_CREATE_PERMISSION,
            METHOD_CHANNEL_BIND,
            METHOD_SEND,
        ];
        let kind = MessageType::new(methods[self.dice.below(methods.len())], CLASS_REQUEST);
        let attributes: Vec<Box<dyn Setter>> = (0..self.dice.below(5))
            .map(|_| Box::new(self.attribute()) as Box<dyn Setter>)
            .collect();
        client.signed(kind, &attributes).raw
    }

    fn attribute(&mut self) -> Anything {
        // Among them LIFETIME, XOR-PEER-ADDRESS, CHANNEL-NUMBER, REQUESTED-TRANSPORT and -FAMILY.
        const KNOWN: [u16; 8] = [
            0x000c, 0x000d, 0x0012, 0x0013, 0x0017, 0x0018, 0x0019, 0x0022,
        ];
        let kind = match self.dice.below(4) {
            0 => u16::from_be_bytes([self.dice.byte(), self.dice.byte()]),
            _ => KNOWN[self.dice.below(KNOWN.len())],
        };
        let length = [0, 1, 3, 4, 4, 8, 8, 20, 33][self.dice.below(9)];
        Anything {
            kind,
            value: self.dice.bytes(length),
        }
    }

    fn seed(&mut self) -> Vec<u8> {
        self.seeds[self.dice.below(self.seeds.len())].clone()
    }

    fn bend(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            *bytes = self.dice.bytes(4);
            return;
        }
        let at = self.dice.below(bytes.len());
        match self.dice.below(8) {
            0 => bytes[at] ^= 1 << self.dice.below(8),
            1 => bytes[at] = self.dice.byte(),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            4 => bytes.append(&mut self.seed()),
            5 => put(bytes, at & !3, KINDS[self.dice.below(KINDS.len())]),
            6 => put(
                bytes,
                (at & !3) + 2,
                [0, 1, 4, 0x7fff, 0xfffc, 0xffff][at % 6],
            ),
            _ => _ = bytes.drain(at..(at + 4).min(bytes.len())),
        }
    }
}

/// Writes `value` at `place`, where a type or a length may stand.
fn put(bytes: &mut [u8], place: usize, value: u16) {
    if let Some(field) = bytes.get_mut(place..place + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Any attribute at all.
struct Anything {
    kind: u16,
    value: Vec<u8>,
}

impl Setter for Anything {
    fn add_to(&self, message: &mut stun::message::Message) -> Result<(), stun::Error> {
        message.add(stun::attributes::AttrType(self.kind), &self.value);
        Ok(())
    }
}

/// One message of each kind, as a client would send it.
fn seeds(client: &Dialogue) -> Vec<Vec<u8>> {
    let v4: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let v6: SocketAddr = "[::1]:9".parse().unwrap();
    let transport = || {
        Box::new(RequestedTransport {
            protocol: PROTO_UDP,
        })
    };
    let request = |method, attributes: &[Box<dyn Setter>]| {
        client
            .signed(MessageType::new(method, CLASS_REQUEST), attributes)
            .raw
    };
    let indication = MessageType::new(METHOD_SEND, CLASS_INDICATION);
    let hour = Lifetime(std::time::Duration::from_secs(3600));
    vec![
        message(BINDING_REQUEST, &[]).raw,
        message(BINDING_REQUEST, &[Box::new(FINGERPRINT)]).raw,
        request(METHOD_ALLOCATE, &[transport()]),
        request(
            METHOD_ALLOCATE,
            &[transport(), Box::new(REQUESTED_FAMILY_IPV6)],
        ),
        request(METHOD_REFRESH, &[Box::new(hour)]),
        request(
            METHOD_CREATE_PERMISSION,
            &[Box::new(peer_address(v4)), Box::new(peer_address(v6))],
        ),
        request(
            METHOD_CHANNEL_BIND,
            &[Box::new(ChannelNumber(0x4000)), Box::new(peer_address(v4))],
        ),
        message(
            indication,
            &[Box::new(peer_address(v4)), Box::new(Data(vec![7; 100]))],
        )
        .raw,
        channel_data(0x4000, &[7; 100]),
        channel_data(0x4fff, &[]),
    ]
}
