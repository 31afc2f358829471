//! Any sequence of packets, events and time: the server counts every packet once, keeps its bounds, and
//! in the end all is back where it began.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::{AttributeType, ChannelRange, Method, TransactionId};
use turnstone::turn::{
    Admission, Alternates, Counter, Direction, FiveTuple, Icmp, Policy, Reason, Source,
};

use crate::common::{
    Login, World, address, channel_data, policy, send_indication, tcp, udp, xor_peer_address,
};

const CLIENTS: [&str; 3] = ["203.0.113.1:1", "203.0.113.2:1", "[2001:db8:2::1]:1"];
const PEERS: [&str; 6] = [
    "198.51.100.1:1",
    "198.51.100.1:2",
    "10.0.0.1:1",
    "192.0.2.10:50001",
    "[2001:db8:1::1]:1",
    "[2001:db8::10]:50002",
];
const METHODS: [Method; 5] = [
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::BINDING,
];
/// What requests are made of.
const KINDS: [AttributeType; 10] = [
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::ADDITIONAL_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::RESERVATION_TOKEN,
    AttributeType::DONT_FRAGMENT,
    AttributeType::USERNAME,
];
/// How many permissions and channels an allocation may have.
const LIMIT: u16 = 3;

/// One input: steps, one after the other. Panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    let mut play = Play {
        world: World::new(narrow(Admission::Open)),
        input: data,
        token: Vec::new(),
        transactions: 0,
    };
    while play.step().is_some() {
        play.check();
    }
    play.end();
}

struct Play<'d> {
    world: World,
    input: &'d [u8],
    /// The last reservation token that was given out.
    token: Vec<u8>,
    transactions: u64,
}

impl Play<'_> {
    /// Takes one step; none when the input is over.
    fn step(&mut self) -> Option<()> {
        let from = self.client()?;
        match self.byte()? % 12 {
            0 => self.bytes().map(|packet| self.send(from, &packet))?,
            1..=4 => {
                let packet = self.request(from)?;
                self.send(from, &packet);
            }
            5 => {
                let packet = send_indication(self.peer()?, &self.bytes()?);
                self.send(from, &packet);
            }
            6 => {
                let number = u16::from_be_bytes([0x40 + self.byte()? % 0x40, self.byte()? % 4]);
                let packet = channel_data(number, &self.bytes()?);
                self.send(from, &packet);
            }
            7 | 8 => self.hear_peer()?,
            9 => {
                let seconds = [1, 29, 31, 299, 301, 600, 3600][usize::from(self.byte()? % 7)];
                self.world.pass(Duration::from_secs(seconds));
            }
            10 => self.world.client_gone(from),
            _ => self.turn_a_screw()?,
        }
        Some(())
    }

    fn send(&mut self, from: FiveTuple, packet: &[u8]) {
        let out = self.world.send(from, packet);
        if let crate::common::Out::ToClient { message, .. } = out {
            let response = crate::common::Response(message);
            let token = response.value(AttributeType::RESERVATION_TOKEN);
            self.token = token.unwrap_or(std::mem::take(&mut self.token));
        }
    }

    /// A request that is signed as it should be, whatever it asks for.
    fn request(&mut self, from: FiveTuple) -> Option<Vec<u8>> {
        self.transactions += 1;
        let mut id = [7; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        let id = TransactionId(id);
        let method = METHODS[usize::from(self.byte()?) % METHODS.len()];
        let mut attributes = match method {
            Method::ALLOCATE => vec![(KINDS[0], vec![17, 0, 0, 0])],
            _ => Vec::new(),
        };
        for _ in 0..self.byte()? % 4 {
            let kind = KINDS[usize::from(self.byte()?) % KINDS.len()];
            attributes.push((kind, self.value(kind, id)?));
        }
        let nonce = self.world.nonce(from);
        let login = match self.byte()? % 8 {
            0 => Login::bob(),
            1 => Login::new("alice", "guess"),
            _ => Login::alice(),
        };
        Some(login.sign(id, method, &attributes, &nonce))
    }

    /// A value that fits its kind, mostly.
    fn value(&mut self, kind: AttributeType, id: TransactionId) -> Option<Vec<u8>> {
        let choice = self.byte()?;
        Some(match kind {
            _ if choice == 0xFF => self.bytes()?,
            AttributeType::XOR_PEER_ADDRESS => xor_peer_address(self.peer()?, id).1,
            AttributeType::CHANNEL_NUMBER => vec![0x40 | choice & 0x30, choice % 4, 0, 0],
            AttributeType::LIFETIME => u32::from(choice).pow(2).to_be_bytes().into(),
            AttributeType::EVEN_PORT => vec![choice],
            AttributeType::RESERVATION_TOKEN => self.token.clone(),
            AttributeType::DONT_FRAGMENT => Vec::new(),
            AttributeType::REQUESTED_TRANSPORT => vec![choice, 0, 0, 0],
            _ => vec![choice % 3, 0, 0, 0],
        })
    }

    fn hear_peer(&mut self) -> Option<()> {
        let relays: Vec<SocketAddr> = self.world.relays.keys().copied().collect();
        let (place, peer, payload) = (self.byte()?, self.peer()?, self.bytes()?);
        let relay = relays.get(usize::from(place) % relays.len().max(1));
        if let Some(relay) = relay.filter(|relay| relay.is_ipv4() == peer.is_ipv4()) {
            let error = Icmp {
                kind: place >> 4,
                code: place & 0x0F,
                mtu: 1280,
            };
            let _ = match payload.is_empty() {
                true => self.world.meets_icmp(*relay, peer, error),
                false => self.world.peer_sends(*relay, peer, &payload),
            };
        }
        Some(())
    }

    /// Changes what the host gives, or what the operator wants.
    fn turn_a_screw(&mut self) -> Option<()> {
        match self.byte()? % 6 {
            0 => self.world.bind = Err(true),
            1 => self.world.bind = Err(false),
            2 | 3 => self.world.bind = Ok(()),
            4 => self.world.swap_policy(narrow(Admission::Elsewhere)),
            _ => self.world.swap_policy(narrow(Admission::Open)),
        }
        Some(())
    }

    /// What holds after every step.
    fn check(&self) {
        let stats = self.world.server.stats();
        let sum = |counters: &mut dyn Iterator<Item = Counter>| -> u64 {
            counters.map(|counter| stats.get(counter)).sum()
        };
        let received = sum(&mut Source::ALL.iter().map(|s| Counter::ReceivedPackets(*s)));
        let dropped = sum(&mut Reason::ALL.iter().map(|r| Counter::Dropped(*r)));
        let relayed = sum(&mut Direction::ALL.iter().map(|d| Counter::RelayedPackets(*d)));
        let answered = stats.get(Counter::Answered) + stats.get(Counter::Parked);
        assert_eq!(received, dropped + relayed + answered);
        let relays = self.world.relays.len() as u64;
        assert_eq!(stats.get(Counter::RelayPorts), relays);
        assert!(stats.get(Counter::Permissions) <= relays * u64::from(LIMIT));
        assert!(stats.get(Counter::Channels) <= relays * u64::from(LIMIT));
    }

    /// All lifetimes pass, and nothing is left.
    fn end(&mut self) {
        self.world.pass(Duration::from_secs(3600));
        self.check();
        let world = &self.world;
        assert!(world.relays.is_empty() && world.held().is_empty());
        assert!(world.shared.is_idle() && world.server.poll_timeout().is_none());
        let stats = world.server.stats();
        let left = stats.get(Counter::Permissions) + stats.get(Counter::Channels);
        assert_eq!(left, 0);
    }

    fn client(&mut self) -> Option<FiveTuple> {
        let place = usize::from(self.byte()?);
        let name = CLIENTS[place / 2 % CLIENTS.len()];
        Some(if place.is_multiple_of(2) {
            udp(name)
        } else {
            tcp(name)
        })
    }

    fn peer(&mut self) -> Option<SocketAddr> {
        Some(address(PEERS[usize::from(self.byte()?) % PEERS.len()]))
    }

    /// As many bytes as the next one says.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(self.byte()?);
        let (bytes, rest) = self.input.split_at_checked(length)?;
        self.input = rest;
        Some(bytes.to_vec())
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*byte)
    }
}

/// Little of everything; the wide range of channels; one alternate server.
fn narrow(admission: Admission) -> Policy {
    let mut policy = policy();
    policy.limits.permissions_per_allocation = LIMIT;
    policy.limits.channels_per_allocation = LIMIT;
    policy.limits.allocations_per_user = 4;
    policy.relay.ports = 50_000..=50_005;
    policy.channels = ChannelRange::Rfc5766;
    policy.alternates = Alternates::new(&[address("198.51.100.7:3478")], &[], None);
    policy.admission = admission;
    policy
}
