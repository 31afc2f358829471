//! A server among good clients, bad clients, peers and failing sockets.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::time::UnixTime;
use turnstone::turn::{
    Admission, Alternates, Counter, Direction, Family, FiveTuple, Policy, Reason, RequestMethod,
    ResultCode, Source, Stats, Transport,
};

use crate::common::random::Random;
use crate::common::token::{NORTH, SERVER, UNION, north_key, oauth, seal_at, union_key};
use crate::common::{
    Login, Out, Response, World, address, channel_data, channel_number, lifetime, policy,
    requested_family, requested_transport, send_indication, tcp, udp, xor_peer_address,
};
use crate::inputs::{mutate, seeds};

const METHODS: [Method; 7] = [
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::BINDING,
    Method::CONNECT,
    Method::CONNECTION_BIND,
];

/// How many permissions and channels an allocation of the siege may have.
const LIMIT: u16 = 4;

pub(crate) struct Siege {
    world: World,
    random: Random,
    clients: Vec<FiveTuple>,
    peers: Vec<SocketAddr>,
    nonces: Vec<Vec<u8>>,
    /// Packets that came in, to be mutated later.
    seeds: Vec<Vec<u8>>,
    /// Tickets that clients were given, the last ones.
    tickets: Vec<Vec<u8>>,
    steps: u64,
}

impl Siege {
    pub(crate) fn new(seed: u64) -> Self {
        let names = [
            "203.0.113.1:1",
            "203.0.113.1:2",
            "203.0.113.2:1",
            "[2001:db8:2::1]:1",
        ];
        let dtls = FiveTuple {
            transport: Transport::Dtls,
            ..udp("203.0.113.3:1")
        };
        let clients = names.map(udp).into_iter().chain(names.map(tcp));
        let clients = clients.chain([dtls]).collect();
        let peers = [
            "198.51.100.1:1",
            "198.51.100.1:2",
            "198.51.100.2:1",
            "198.51.100.3:0",
            "10.0.0.1:1",
            "192.0.2.10:50001",
            "[2001:db8:1::1]:1",
            "[2001:db8:1::2]:1",
            "[2001:db8::10]:50001",
            "[::1]:1",
        ];
        Self {
            world: World::new(narrow(Admission::Open)),
            random: Random(seed),
            clients,
            peers: peers.map(address).to_vec(),
            nonces: Vec::new(),
            seeds: seeds(),
            tickets: vec![Vec::new()],
            steps: 0,
        }
    }

    /// One packet, and now and then an event.
    pub(crate) fn step(&mut self) {
        if self.steps.is_multiple_of(500) {
            self.fetch_nonces();
        }
        self.steps += 1;
        if self.random.once_in(200) {
            self.event();
        }
        if self.random.once_in(4) {
            self.peer_sends();
        } else {
            self.client_sends();
        }
        self.check();
    }

    fn fetch_nonces(&mut self) {
        let clients = self.clients.clone();
        self.nonces = clients
            .into_iter()
            .map(|client| {
                self.world.pass(Duration::from_secs(1));
                self.world.nonce(client)
            })
            .collect();
    }

    fn event(&mut self) {
        let seconds = [0, 1, 30, 299, 700][self.random.below(5)];
        match self.random.below(6) {
            0 => self.world.pass(Duration::from_secs(seconds)),
            1 => self.world.client_gone(*self.random.pick(&self.clients)),
            2 => {
                let admission = match self.random.below(8) {
                    0 => Admission::Elsewhere,
                    1 => Admission::Closed,
                    _ => Admission::Open,
                };
                let mut policy = narrow(admission);
                policy.mobility = !self.random.once_in(8);
                self.world.swap_policy(policy);
            }
            3 => self.peer_answers(),
            4 => self.world.bind = Err(self.random.once_in(2)),
            _ => self.world.bind = Ok(()),
        }
    }

    fn peer_sends(&mut self) {
        let relays: Vec<_> = self.world.relays.keys().copied().collect();
        if relays.is_empty() {
            return;
        }
        let relay = *self.random.pick(&relays);
        let from = match self.random.below(3) {
            0 => *self.random.pick(&relays),
            _ => *self.random.pick(&self.peers),
        };
        let payload = self.random.bytes(40);
        let _ = self.world.peer_sends(relay, from, &payload);
    }

    fn client_sends(&mut self) {
        let who = self.random.below(self.clients.len());
        let packet = match self.random.below(8) {
            0 if self.random.once_in(20) => keep_alive(),
            0 => self.random.bytes(60),
            1 | 2 => mutate(&self.seeds, &mut self.random),
            3 => self.channel_data(),
            4 => send_indication(*self.random.pick(&self.peers), &self.random.bytes(40)),
            _ => self.request(who),
        };
        if self.random.once_in(20) {
            let place = self.random.below(self.seeds.len());
            self.seeds[place].clone_from(&packet);
        }
        if let Out::ToClient { message, .. } = self.world.send(self.clients[who], &packet)
            // Requests without cookie are answered alike over DTLS.
            && turnstone::stun::Message::parse(&message).is_ok()
        {
            self.note_ticket(&Response(message));
        }
    }

    fn note_ticket(&mut self, response: &Response) {
        if let Some(ticket) = response.value(AttributeType::MOBILITY_TICKET) {
            self.tickets.push(ticket);
            if self.tickets.len() > 8 {
                self.tickets.remove(0);
            }
        }
    }

    /// Nothing, a ticket that is or was good, or one that looks like it.
    fn ticket(&mut self) -> (AttributeType, Vec<u8>) {
        let mut ticket = self.random.pick(&self.tickets).clone();
        if self.random.once_in(4) {
            ticket = self.random.bytes(40);
        }
        (AttributeType::MOBILITY_TICKET, ticket)
    }

    fn channel_data(&mut self) -> Vec<u8> {
        let number = 0x4000 + u16::from(self.random.byte() & 3);
        channel_data(number, &self.random.bytes(40))
    }

    /// A request that is signed as it should be, whatever it asks for.
    /// A peer accepts the oldest connection that is being opened to one, or does not.
    fn peer_answers(&mut self) {
        let oldest = self.world.peers.connecting.keys().next().copied();
        if let Some(connection) = oldest {
            let accepts = self.random.once_in(2);
            self.world.peer_answers(connection, accepts);
        }
    }

    fn request(&mut self, who: usize) -> Vec<u8> {
        let transaction = TransactionId(self.random.array());
        let method = *self.random.pick(&METHODS);
        let mut attributes = self.fitting(method, transaction);
        for _ in 0..self.random.below(3) {
            let place = self.random.below(attributes.len() + 1);
            let extra = self.attribute(transaction);
            attributes.insert(place, extra);
        }
        let login = self.login(who);
        login.sign(transaction, method, &attributes, &self.nonces[who])
    }

    /// Whose credentials the client uses, mostly the same; carol's name changes with the time.
    fn login(&mut self, who: usize) -> Login {
        let whose = if self.random.once_in(20) {
            self.random.below(5)
        } else {
            who % 5
        };
        match whose {
            0 | 1 => Login::alice(),
            2 => Login::bob(),
            3 => self.bearer(),
            _ => Login::time_limited("carol", (self.world.now.unix.0 / 1000 + 1) * 1000),
        }
    }

    /// The holder of a token that is good for about as long as an allocation; now and then the next one
    /// comes, under the same id or another.
    fn bearer(&mut self) -> Login {
        let unix = self.world.now.unix;
        let (issued, mac_key) = (UnixTime(unix.0 / 500 * 500), (unix.0 / 500).to_string());
        let (id, key) = if self.random.once_in(2) {
            (NORTH, north_key())
        } else {
            (UNION, union_key())
        };
        let token = seal_at(&key, mac_key.as_bytes(), issued, 600, SERVER);
        Login::bearer(id, token, &mac_key)
    }

    fn fitting(&mut self, method: Method, id: TransactionId) -> Vec<(AttributeType, Vec<u8>)> {
        let peer = xor_peer_address(*self.random.pick(&self.peers), id);
        match method {
            Method::ALLOCATE if self.random.once_in(4) => {
                vec![
                    requested_transport(17),
                    (AttributeType::MOBILITY_TICKET, Vec::new()),
                ]
            }
            Method::ALLOCATE if self.random.once_in(4) => vec![requested_transport(6)],
            Method::ALLOCATE => vec![requested_transport(17)],
            Method::REFRESH if self.random.once_in(4) => vec![lifetime(0)],
            Method::REFRESH if self.random.once_in(2) => vec![self.ticket()],
            Method::CREATE_PERMISSION | Method::CONNECT => vec![peer],
            Method::CONNECTION_BIND => {
                vec![(AttributeType::CONNECTION_ID, self.random.bytes(4))]
            }
            Method::CHANNEL_BIND => {
                vec![
                    channel_number(0x4000 + u16::from(self.random.byte() % 6)),
                    peer,
                ]
            }
            _ => vec![],
        }
    }

    fn attribute(&mut self, id: TransactionId) -> (AttributeType, Vec<u8>) {
        match self.random.below(11) {
            10 => self.ticket(),
            0 | 1 => requested_family(1 + self.random.byte() % 3),
            2 => lifetime(u32::from_be_bytes(self.random.array())),
            3 => channel_number(self.random.u16()),
            4 | 5 => xor_peer_address(*self.random.pick(&self.peers), id),
            6 => requested_transport(self.random.byte()),
            7 => (
                AttributeType(self.random.u16() | 0x8000),
                self.random.bytes(9),
            ),
            8 => (
                AttributeType(self.random.u16() & 0x1F),
                self.random.bytes(24),
            ),
            _ => (AttributeType::USERNAME, self.random.bytes(600)),
        }
    }

    /// What holds after every packet.
    fn check(&self) {
        let stats = self.world.server.stats();
        assert_eq!(
            received(stats),
            settled(stats),
            "after {} steps",
            self.steps
        );
        let relays = self.world.relays.len() + self.world.peers.listeners.len();
        let relays = relays as u64;
        assert_eq!(stats.get(Counter::RelayPorts), relays);
        assert_eq!(allocations(stats), relays);
        assert!(relays <= self.clients.len() as u64);
        assert!(stats.get(Counter::Permissions) <= relays * u64::from(LIMIT));
        assert!(stats.get(Counter::Channels) <= relays * u64::from(LIMIT));
    }

    /// All lifetimes pass, and nothing is left.
    pub(crate) fn lift(mut self) {
        self.check_breadth();
        self.world.bind = Ok(());
        self.world.pass(Duration::from_secs(3600));
        self.check();
        let stats = self.world.server.stats();
        assert!(self.world.relays.is_empty() && self.world.shared.is_idle());
        let peers = &self.world.peers;
        assert!(peers.listeners.is_empty() && peers.connecting.is_empty());
        assert_eq!(
            stats.get(Counter::Permissions) + stats.get(Counter::Channels),
            0
        );
        assert!(self.world.server.poll_timeout().is_none());
    }

    /// The siege went everywhere: every outcome and every error code occurred, and data flowed.
    fn check_breadth(&self) {
        let stats = self.world.server.stats();
        let relayed = |direction| Counter::RelayedPackets(direction);
        let often = [
            Counter::Answered,
            Counter::Parked,
            relayed(Direction::ToPeer),
            relayed(Direction::ToClient),
        ];
        for counter in often {
            let count = stats.get(counter);
            assert!(count > self.steps / 200, "{count} {counter:?}");
        }
        for code in ResultCode::ALL {
            let methods = RequestMethod::ALL.iter();
            let requests = methods.map(|method| stats.get(Counter::Requests(*method, *code)));
            assert!(requests.sum::<u64>() > 0, "no {}", code.label());
        }
        let moved = stats.get(Counter::AllocationsMoved);
        assert!(moved > self.steps / 20_000, "{moved} moves");
        for reason in &Reason::ALL[..12] {
            assert!(stats.get(Counter::Dropped(*reason)) > 0, "no {reason:?}");
        }
    }
}

/// A Binding indication.
fn keep_alive() -> Vec<u8> {
    let mut message = Vec::new();
    let id = TransactionId(*b"keep-me-open");
    MessageBuilder::new(&mut message, Class::Indication, Method::BINDING, id);
    message
}

/// Little of everything; one alternate server.
fn narrow(admission: Admission) -> Policy {
    let mut policy = policy();
    policy.limits.permissions_per_allocation = LIMIT;
    policy.limits.channels_per_allocation = LIMIT;
    policy.limits.allocations_per_user = 3;
    policy.oauth = Some(oauth());
    policy.mobility = true;
    policy.relay.tcp = true;
    policy.relay.ports = 50_000..=50_011;
    policy.alternates = Alternates::new(&[address("198.51.100.7:3478")], &[], None);
    policy.admission = admission;
    policy
}

fn received(stats: &Stats) -> u64 {
    let sources = Source::ALL.iter();
    sources
        .map(|source| stats.get(Counter::ReceivedPackets(*source)))
        .sum()
}

fn settled(stats: &Stats) -> u64 {
    let dropped = Reason::ALL
        .iter()
        .map(|reason| stats.get(Counter::Dropped(*reason)));
    let relayed = Direction::ALL.iter();
    let relayed = relayed.map(|direction| stats.get(Counter::RelayedPackets(*direction)));
    let answered = stats.get(Counter::Answered) + stats.get(Counter::Parked);
    answered + dropped.sum::<u64>() + relayed.sum::<u64>()
}

fn allocations(stats: &Stats) -> u64 {
    let both = Transport::ALL
        .iter()
        .flat_map(|transport| Family::ALL.map(|family| Counter::Allocations(*transport, family)));
    both.map(|counter| stats.get(counter)).sum()
}
