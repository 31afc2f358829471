//! What went wrong elsewhere: one address in another spelling (S1, S2), on every path that relays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use turnstone::stun::Method;
use turnstone::turn::{Counter, FiveTuple, OwnHost, PeerFilter, PeerRefusal, Rule, RuleAction};

use crate::common::random::Random;
use crate::common::{
    Login, Out, World, address, channel_data, ip, policy, send_indication, tcp, udp,
};

const ROUNDS: usize = 60;
/// Every network that another address is written into; an operator allows them all.
const SPELLINGS: [&str; 8] = [
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2001::/32",
    "2002::/16",
    "2000::/3",
];
/// What is denied though all of IPv6 is allowed, by the operator and by default.
const DENIED: [&str; 9] = [
    "9.9.0.0/16",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// An address of the host that its operator allows, and where the server listens there.
const OWN: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);
const LISTENERS: [u16; 2] = [3478, 9641];

/// A client with a relayed IPv6 address, and one with a TCP relay.
struct Paths {
    world: World,
    relay: SocketAddr,
    tcp_relay: SocketAddr,
}

fn by_udp() -> FiveTuple {
    udp("203.0.113.7:4000")
}

fn by_tcp() -> FiveTuple {
    tcp("203.0.113.7:4001")
}

impl Paths {
    fn new() -> Self {
        let mut policy = policy();
        policy.relay.tcp = true;
        policy.peers = filter();
        let mut world = World::new(policy);
        let relay = world.allocate_family(by_udp(), Some(2));
        let tcp_relay = world.allocate_tcp(by_tcp(), 2);
        Self {
            world,
            relay,
            tcp_relay,
        }
    }

    /// By which paths application data, or a connection, passes between a client and `peer`.
    fn open_to(&mut self, peer: SocketAddr) -> Vec<&'static str> {
        let world = &mut self.world;
        world.permit(by_udp(), peer);
        world.permit(by_tcp(), peer);
        let bound = world.bind_channel(by_udp(), 0x4000, peer).code() == Some(403);
        let by_channel = world.send(by_udp(), &channel_data(0x4000, b"data"));
        let by_send = world.send(by_udp(), &send_indication(peer, b"data"));
        let heard = world.peer_sends(self.relay, peer, b"data");
        let connected = world.connect(by_tcp(), peer) == Out::Nothing;
        let accepted = world.peer_connects(self.tcp_relay, peer).is_some();
        let paths = [
            ("ChannelBind", !bound),
            ("ChannelData", by_channel != Out::Nothing),
            ("Send", by_send != Out::Nothing),
            ("a datagram of the peer", heard != Out::Nothing),
            ("Connect", connected),
            ("a connection of the peer", accepted),
        ];
        let open = paths.into_iter().filter(|(_, open)| *open);
        open.map(|(path, _)| path).collect()
    }

    /// Whether CreatePermission for `peer` is refused, alone and behind one that is not.
    fn is_not_permitted(&mut self, peer: SocketAddr) -> bool {
        let world = &mut self.world;
        let login = Login::alice();
        let good = world.xor_peer(address("[2606:4700::1]:1"));
        let bad = world.xor_peer(peer);
        let method = Method::CREATE_PERMISSION;
        let alone = world.permit(by_udp(), peer).code();
        let among = world.ask(&login, by_udp(), method, &[good, bad]).code();
        [alone, among].iter().all(|code| *code == Some(403))
    }
}

fn filter() -> PeerFilter {
    let rule = |action| {
        move |text: &str| Rule {
            network: text.parse().expect("a network"),
            action,
        }
    };
    let allowed = SPELLINGS
        .into_iter()
        .chain(["8.8.4.4", "0.0.0.0/0", "0.0.0.0/8"]);
    let mut rules: Vec<Rule> = allowed.map(rule(RuleAction::Allow)).collect();
    rules.push(rule(RuleAction::Deny)("9.9.0.0/16"));
    let own = OwnHost {
        addresses: vec![OWN.into(), ip("2001:db8::10")],
        networks: Vec::new(),
        listeners: vec![
            address("0.0.0.0:3478"),
            address("[::]:3478"),
            SocketAddr::from((OWN, 9641)),
        ],
    };
    PeerFilter::new(&rules, &own)
}

/// Every way to write `v4` into an IPv6 address; what its bits leave open is drawn, none of it an address
/// that is denied by itself.
fn spellings(v4: Ipv4Addr, random: &mut Random) -> [Ipv6Addr; 13] {
    let [w, x, y, z] = v4.octets();
    let [a, b] = [[w, x], [y, z]].map(u16::from_be_bytes);
    let [xy, zero] = [[x, y], [z, 0]].map(u16::from_be_bytes);
    let (any, w, z) = (random.u16(), u16::from(w), u16::from(z));
    let net = 0x2600 | any & 0xff;
    [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
        // RFC 6052 §2.2 with prefixes of 96, 64, 56 and 48 bits.
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, a, b),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, w, xy, zero, 0),
        Ipv6Addr::new(
            0x64,
            0xff9b,
            1,
            w,
            x.into(),
            u16::from_be_bytes([y, 0]) | z,
            0,
            0,
        ),
        Ipv6Addr::new(0x64, 0xff9b, 1, a, b >> 8, b << 8, 0, 0),
        Ipv6Addr::new(0x2002, a, b, any, any, any, any, any),
        Ipv6Addr::new(0x2001, 0, a, b, any, any, !0x0808, !0x0808),
        Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, any, any, !a, !b),
        Ipv6Addr::new(net, any, any, any, 0, 0x5efe, a, b),
        Ipv6Addr::new(net, any, any, any, 0x0200, 0x5efe, a, b),
    ]
}

/// S2: a property of random addresses in random spellings, on every path.
#[test]
fn s2_no_spelling_of_a_denied_address_passes_on_any_path() {
    let mut random = Random(2);
    for round in 0..ROUNDS {
        let denied: turnstone::turn::Network = DENIED[round % DENIED.len()].parse().unwrap();
        let v4 = within(denied, &mut random);
        for spelling in spellings(v4, &mut random) {
            let peer = SocketAddr::from((spelling, random.u16() | 1));
            let mut paths = Paths::new();
            assert!(paths.is_not_permitted(peer), "{peer} is {v4}");
            assert_eq!(paths.open_to(peer), [""; 0], "{peer} is {v4}");
        }
    }
}

/// S1: the listeners of the server, in any spelling, when every rule allows the address. What else runs
/// there is reached, so it is not the rules that refuse.
#[test]
fn s1_no_spelling_of_an_own_listener_is_reached_on_any_path() {
    let mut random = Random(1);
    for spelling in spellings(OWN, &mut random) {
        let mut paths = Paths::new();
        let other = paths.open_to(SocketAddr::from((spelling, 22)));
        assert_eq!(other.len(), 6, "{spelling}: {other:?}");
        for port in LISTENERS {
            let mut paths = Paths::new();
            let refused = Counter::RefusedPeers(PeerRefusal::OwnListener);
            let listener = SocketAddr::from((spelling, port));
            assert_eq!(paths.open_to(listener), [""; 0], "{listener}");
            assert!(paths.world.server.stats().get(refused) > 0, "{listener}");
        }
    }
}

/// S1, S2: no address means no peer, however it is written and whatever a rule says.
#[test]
fn s2_no_spelling_of_the_unspecified_address_is_a_peer() {
    let mut random = Random(3);
    for spelling in spellings(Ipv4Addr::UNSPECIFIED, &mut random) {
        let peer = SocketAddr::from((spelling, 9641));
        let mut paths = Paths::new();
        assert_eq!(paths.open_to(peer), [""; 0], "{peer}");
    }
}

fn within(network: turnstone::turn::Network, random: &mut Random) -> Ipv4Addr {
    loop {
        let [a, b, c, d] = random.array();
        let base = network.to_string();
        let IpAddr::V4(base) = base.split('/').next().unwrap().parse().unwrap() else {
            unreachable!()
        };
        let host = u32::MAX.checked_shr(network.prefix().into()).unwrap_or(0);
        let drawn = u32::from_be_bytes([a, b, c, d]) & host;
        let v4 = Ipv4Addr::from_bits(base.to_bits() | drawn);
        if network.contains(v4.into()) {
            return v4;
        }
    }
}
