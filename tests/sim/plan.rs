//! How a seed becomes a deployment: who takes part, where, and what they will do.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use turnstone::stun::ChannelRange;
use turnstone::time::Instant;
use turnstone::turn::{
    Admission, Alternates, Bandwidth, Credentials, External, Family, Lifetimes, Limits, OwnHost,
    PeerFilter, Policy, RelayAddresses, RelaySource, SharedSecret, StoredKey, Transport,
};

use crate::common::{Login, REALM, SECRET, START, address, ip};
use crate::network::{Link, Mapping};
use crate::oracle::Addresses;
use crate::rng::Rng;
use crate::shards::Faults;

/// Where clients reach the server.
pub(crate) const SERVER_V4: &str = "192.0.2.10:3478";
pub(crate) const SERVER_V6: &str = "[2001:db8::10]:3478";
/// The public address behind which the server's IPv4 address may be.
pub(crate) const EXTERNAL_V4: &str = "203.0.113.10";

const USERS: [(&str, &str); 3] = [
    ("alice", "wonderland"),
    ("bob", "builder"),
    ("carol", "cat"),
];

/// Addresses that the default policy refuses as peers.
pub(crate) const FORBIDDEN: [&str; 6] = [
    "10.0.0.1:80",
    "127.0.0.1:3478",
    "169.254.169.254:80",
    "192.168.1.1:53",
    "[::1]:3478",
    "[fd00:ec2::254]:80",
];

/// Whom a client exchanges data with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// A peer, which sends everything back.
    Peer(SocketAddr),
    /// The client with this id, by its relayed transport address.
    Client(u16),
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It deletes its allocation.
    Delete,
    /// It falls silent.
    Crash,
    /// Its connection closes.
    Disconnect,
    /// It forgets everything and begins anew from the same address, to crash later.
    Restart,
}

/// What one client will do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    /// The place of the NAT it is behind.
    pub(crate) nat: Option<usize>,
    pub(crate) login: Login,
    /// Of its relayed transport address.
    pub(crate) family: Family,
    /// LIFETIME of its requests, in seconds.
    pub(crate) lifetime: u32,
    /// Whom it talks to, and whether by a channel.
    pub(crate) targets: Vec<(Whom, bool)>,
    pub(crate) forbidden: SocketAddr,
    pub(crate) start: Instant,
    pub(crate) end_at: Instant,
    pub(crate) ending: Ending,
    /// When it changes its address.
    pub(crate) moves: Vec<Instant>,
    /// Milliseconds between data.
    pub(crate) send_every: Range<u64>,
    /// Percent of its sends that it follows with a misdeed.
    pub(crate) mischief: u64,
}

/// A whole deployment.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) shards: u16,
    pub(crate) policy: Policy,
    pub(crate) addresses: Addresses,
    pub(crate) faults: Faults,
    /// Between clients and server.
    pub(crate) access: Link,
    /// Between server and peers.
    pub(crate) transit: Link,
    pub(crate) nats: Vec<(Mapping, Duration)>,
    pub(crate) peers: Vec<SocketAddr>,
    /// How often, in percent of their answers, peers answer from another port.
    pub(crate) odd_ports: u64,
    /// Milliseconds between the datagrams of those that send garbage to every relay.
    pub(crate) garbage_every: Option<Range<u64>>,
    pub(crate) plans: Vec<Plan>,
    /// When the last client has ended.
    pub(crate) end: Instant,
}

/// `seconds` after the start.
pub(crate) fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// Everything at once: bad links, NATs, faults and clients of every kind.
pub(crate) fn chaos(rng: &mut Rng) -> Scenario {
    let mut scenario = calm(rng);
    scenario.faults = Faults {
        bind_taken: 10,
        bind_refused: 5,
        bind_slow: 30,
        send: 1,
        late: 30,
    };
    let lifetimes = &mut scenario.policy.lifetimes;
    lifetimes.permission = Duration::from_secs(rng.pick(&[3, 6, 12]));
    lifetimes.channel = Duration::from_secs(rng.pick(&[3, 6, 9]));
    scenario.access.loss = rng.between(0..25);
    scenario.access.duplicates = rng.between(0..10);
    scenario.access.latency = 1..rng.between(5..400);
    scenario.transit.loss = rng.between(0..10);
    scenario.odd_ports = 10;
    scenario.garbage_every = Some(200..2000);
    scenario.policy.limits = Limits {
        allocations: 14,
        allocations_per_user: 6,
        permissions_per_allocation: 4,
        channels_per_allocation: 6,
        ..Limits::default()
    };
    for plan in &mut scenario.plans {
        unsettle(plan, rng);
    }
    if rng.chance(30) {
        behind_one_to_one_nat(&mut scenario);
    }
    scenario
}

/// Makes a well-behaved client one of any kind.
fn unsettle(plan: &mut Plan, rng: &mut Rng) {
    plan.mischief = rng.pick(&[0, 5, 30]);
    plan.lifetime = rng.pick(&[0, 5, 10, 20, 4000]);
    plan.start = Instant::ZERO + rng.millis(0..30_000);
    plan.end_at = plan.start + rng.millis(5_000..60_000);
    plan.ending = rng.pick(&[
        Ending::Delete,
        Ending::Crash,
        Ending::Disconnect,
        Ending::Restart,
    ]);
    let moves = rng.pick(&[0, 0, 0, 1, 2]);
    plan.moves = (0..moves)
        .map(|_| plan.start + rng.millis(1000..50_000))
        .collect();
    plan.moves.sort();
    if rng.chance(20) {
        plan.login = Login::time_limited("dave", START + rng.between(1..60));
    }
}

/// Well-behaved clients behind a good link, in pairs that also talk to each other.
pub(crate) fn calm(rng: &mut Rng) -> Scenario {
    let peers = [
        "9.9.9.1:7",
        "9.9.9.2:4000",
        "[2606:4700::7]:7",
        "9.9.9.2:5000",
    ];
    let peers: Vec<SocketAddr> = peers.iter().map(|text| address(text)).collect();
    let nats = vec![
        (Mapping::EndpointIndependent, rng.millis(3_000..60_000)),
        (Mapping::Symmetric, rng.millis(3_000..60_000)),
    ];
    let plans = (0..8).map(|id| plan(id, &peers, rng)).collect();
    Scenario {
        shards: rng.pick(&[1, 2, 3, 4]),
        policy: policy(),
        addresses: Addresses {
            public: vec![ip("192.0.2.10"), ip("2001:db8::10")],
            external: None,
        },
        faults: Faults::default(),
        access: Link {
            latency: 5..80,
            loss: 0,
            duplicates: 0,
        },
        transit: Link {
            latency: 1..20,
            loss: 0,
            duplicates: 0,
        },
        nats,
        peers,
        odd_ports: 0,
        garbage_every: None,
        plans,
        end: at(120),
    }
}

fn plan(id: u16, peers: &[SocketAddr], rng: &mut Rng) -> Plan {
    let transport = rng.pick(&[Transport::Udp, Transport::Udp, Transport::Tcp]);
    let is_v6 = rng.chance(25);
    let nat = (transport == Transport::Udp && !is_v6 && rng.chance(60)).then(|| rng.below(2));
    let address = match (is_v6, nat) {
        (true, _) => address(&format!("[2606:1::{id}]:6000")),
        (false, None) => address(&format!("5.5.5.{id}:6000")),
        (false, Some(_)) => address(&format!("10.1.1.{id}:6000")),
    };
    // Partners relay by the same family.
    let family = if id / 2 % 4 == 3 {
        Family::V6
    } else {
        Family::V4
    };
    let mine = peers.iter().filter(|peer| Family::of(peer.ip()) == family);
    let mut targets: Vec<(Whom, bool)> = mine
        .filter(|_| rng.chance(60))
        .map(|peer| (Whom::Peer(*peer), false))
        .collect();
    targets.push((Whom::Client(id ^ 1), false));
    for (_, wants_channel) in &mut targets {
        *wants_channel = rng.chance(50);
    }
    let (user, password) = rng.pick(&USERS);
    Plan {
        transport,
        address,
        nat,
        login: Login::new(user, password),
        family,
        lifetime: 10,
        targets,
        forbidden: crate::common::address(rng.pick(&FORBIDDEN)),
        start: Instant::ZERO + rng.millis(0..3_000),
        end_at: at(60),
        ending: Ending::Delete,
        moves: Vec::new(),
        send_every: 300..900,
        mischief: 0,
    }
}

/// Puts the server behind a 1:1 NAT.
pub(crate) fn behind_one_to_one_nat(scenario: &mut Scenario) {
    let (local, public) = (ip("192.0.2.10"), ip(EXTERNAL_V4));
    let local_of = Some(local);
    scenario.policy.relay.external = vec![External {
        local: local_of,
        public,
    }];
    scenario.addresses = Addresses {
        public: vec![public, ip("2001:db8::10")],
        external: Some((public, local)),
    };
}

/// The policy of `scenario` with limits that nobody reaches.
pub(crate) fn generous(scenario: &Scenario) -> Policy {
    let mut generous = policy();
    generous.relay = scenario.policy.relay.clone();
    generous
}

/// Short lifetimes, few ports, and the peer policy that an operator gets who says nothing.
fn policy() -> Policy {
    let mut credentials = Credentials::new(REALM);
    for (user, password) in USERS {
        credentials.add_user(
            user,
            StoredKey::derive(
                turnstone::stun::PasswordAlgorithm::Md5,
                user,
                REALM,
                password,
            ),
        );
    }
    credentials.add_secret(SharedSecret::new(SECRET));
    let seconds = Duration::from_secs;
    Policy {
        realm: REALM.into(),
        software: None,
        credentials,
        security: turnstone::turn::Security::default(),
        lifetimes: Lifetimes {
            allocation: seconds(8),
            allocation_max: seconds(25),
            permission: seconds(6),
            channel: seconds(9),
            nonce: seconds(15),
        },
        relay: RelayAddresses {
            v4: RelaySource::Fixed(vec![ip("192.0.2.10")]),
            v6: RelaySource::Fixed(vec![ip("2001:db8::10")]),
            external: Vec::new(),
            ports: 50_000..=50_023,
            tcp: false,
        },
        peers: PeerFilter::new(&[], &own_host()),
        limits: Limits::default(),
        bandwidth: Bandwidth::default(),
        nat_discovery: None,
        mobility: false,
        oauth: None,
        rfc3489: false,
        channels: ChannelRange::Rfc8656,
        admission: Admission::Open,
        alternates: Alternates::default(),
    }
}

fn own_host() -> OwnHost {
    OwnHost {
        addresses: vec![ip("192.0.2.10"), ip("2001:db8::10"), ip(EXTERNAL_V4)],
        networks: Vec::new(),
        listeners: vec![address("0.0.0.0:3478"), address("[::]:3478")],
    }
}
