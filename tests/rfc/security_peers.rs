//! What went wrong elsewhere: relays that reached what they should not (S1 to S5).

use turnstone::stun::Method;
use turnstone::turn::{
    Counter, External, OwnHost, PeerFilter, PeerRefusal, Reason, Rule, RuleAction,
};

use crate::common::{Out, World, address, channel_data, ip, peers, policy, send_indication, udp};
use crate::dialogue::{
    allocated, assert_dropped, client, code, hears, peer, reaches, seconds, world, world_with,
};
use crate::mobility::{come, depart, elsewhere, hearer, mobile, speaks};

const FORBIDDEN_V4: [&str; 14] = [
    "0.0.0.0:1",
    "10.0.0.1:80",
    "100.64.0.1:80",
    "127.0.0.1:9641",
    "169.254.169.254:80",
    "172.16.0.1:80",
    "192.0.0.1:80",
    "192.0.2.1:80",
    "192.168.0.1:80",
    "198.18.0.1:80",
    "203.0.113.1:80",
    "224.0.0.1:5353",
    "240.0.0.1:80",
    "255.255.255.255:67",
];

const FORBIDDEN_V6: [&str; 12] = [
    "[::]:1",
    "[::1]:80",
    "[100::1]:80",
    "[fc00::1]:80",
    "[fd00:ec2::254]:80",
    "[fe80::1]:80",
    "[fec0::1]:80",
    "[ff02::1]:5353",
    "[2001:db8::1]:80",
    "[::ffff:127.0.0.1]:80",
    "[64:ff9b::7f00:1]:80",
    "[2002:7f00:1::1]:80",
];

/// A world where nothing is allowed beside what is allowed anyway; the usual client relays by v4, its
/// neighbour on port 4001 by v6.
fn closed() -> World {
    let mut world = world_with(|policy| policy.peers = peers(&[]));
    world.allocate(client());
    world.allocate_family(udp("203.0.113.7:4001"), Some(2));
    world
}

/// S1, S3: by CreatePermission and by ChannelBind alike.
#[test]
fn s1_special_purpose_addresses_are_forbidden_on_every_path() {
    let mut world = closed();
    let v6_client = udp("203.0.113.7:4001");
    let v4 = FORBIDDEN_V4.map(|peer| (client(), peer));
    let v6 = FORBIDDEN_V6.map(|peer| (v6_client, peer));
    for (from, peer) in v4.into_iter().chain(v6) {
        let peer = address(peer);
        assert_eq!(world.permit(from, peer).code(), Some(403), "{peer}");
        let bound = world.bind_channel(from, 0x4000, peer);
        assert_eq!(bound.code(), Some(403), "{peer}");
        let sent = world.send(from, &send_indication(peer, b"data"));
        assert_eq!(sent, Out::Nothing, "{peer}");
    }
}

/// S1: the rest of the world is a peer.
#[test]
fn s1_public_addresses_are_allowed() {
    let mut world = closed();
    assert_eq!(world.permit(client(), address("9.9.9.9:53")).code(), None);
    let v6 = address("[2606:4700::1111]:53");
    assert_eq!(world.permit(udp("203.0.113.7:4001"), v6).code(), None);
}

/// S1: relay to relay, the normal worst case of WebRTC, both ways.
#[test]
fn s1_own_live_relayed_addresses_are_peers() {
    let mut world = world();
    let other = udp("203.0.113.8:4000");
    let (near, far) = (world.allocate(client()), world.allocate(other));
    assert_eq!(world.permit(client(), far).code(), None);
    assert_eq!(world.permit(other, near).code(), None);
    let out = world.send(client(), &send_indication(far, b"across"));
    let payload = b"across".to_vec();
    assert_eq!(
        out,
        Out::ToPeer {
            from: near,
            peer: far,
            payload
        }
    );
    assert!(hears(&mut world, far, near));
    let bound = world.bind_channel(client(), 0x4000, far);
    assert_eq!(bound.code(), None);
}

/// S1: likewise behind a 1:1 NAT, where the packet takes the short way inside.
#[test]
fn s1_own_relayed_addresses_are_peers_behind_a_nat() {
    let mut world = world_with(|policy| {
        let public = ip("9.9.9.200");
        policy.relay.external.push(External {
            local: None,
            public,
        });
        policy.peers = peers(&[]);
    });
    let other = udp("203.0.113.8:4000");
    let (near, far) = (world.allocate(client()), world.allocate(other));
    assert_eq!(near.ip(), ip("9.9.9.200"));
    assert_eq!(world.bind_channel(client(), 0x4000, far).code(), None);
    assert_eq!(world.bind_channel(other, 0x4001, near).code(), None);
    let local = |relay: std::net::SocketAddr| address(&format!("192.0.2.10:{}", relay.port()));
    let out = world.send(client(), &channel_data(0x4000, b"over"));
    let payload = b"over".to_vec();
    assert_eq!(
        out,
        Out::ToPeer {
            from: local(near),
            peer: local(far),
            payload
        }
    );
    let out = world.peer_sends(local(far), local(near), b"over");
    let message = b"\x40\x01\x00\x04over".to_vec();
    assert_eq!(out, Out::ToClient { to: other, message });
}

/// S1: no other port of the own host, by no path.
#[test]
fn s1_other_ports_of_the_own_host_are_forbidden() {
    let mut world = world();
    let relay = world.allocate(client());
    let other = world.allocate(udp("203.0.113.8:4000"));
    assert_eq!(world.permit(client(), relay).code(), None);
    for port in [22, 3478, 9641, other.port() ^ 1] {
        let place = std::net::SocketAddr::new(relay.ip(), port);
        assert_dropped(
            &mut world,
            &send_indication(place, b"x"),
            Reason::ForbiddenPeer,
        );
        let bound = world.bind_channel(client(), 0x4000, place);
        assert_eq!(bound.code(), Some(403), "{place}");
        assert!(!hears(&mut world, relay, place), "{place}");
    }
}

/// S1: live relays only.
#[test]
fn s1_an_ended_relay_is_no_peer_any_more() {
    let mut world = world();
    let other = udp("203.0.113.8:4000");
    world.allocate(client());
    let far = world.allocate(other);
    assert_eq!(world.bind_channel(client(), 0x4000, far).code(), None);
    let data = channel_data(0x4000, b"data");
    assert!(matches!(world.send(client(), &data), Out::ToPeer { .. }));
    world.client_gone(other);
    assert_dropped(&mut world, &data, Reason::ForbiddenPeer);
}

/// S1: what the server listens on is no peer even when a rule allows its address.
#[test]
fn s1_listeners_are_forbidden_whatever_a_rule_says() {
    let mut world = world_with(|policy| policy.peers = peers(&["0.0.0.0/0", "192.0.2.10"]));
    world.allocate(client());
    let bound = world.bind_channel(client(), 0x4000, address("192.0.2.10:3478"));
    assert_eq!(bound.code(), Some(403));
    assert_eq!(world.permit(client(), address("192.0.2.10:1")).code(), None);
    let listener = send_indication(address("192.0.2.10:3478"), b"loop");
    assert_dropped(&mut world, &listener, Reason::ForbiddenPeer);
    assert!(
        reaches(&mut world, address("192.0.2.10:22")),
        "as the rule says"
    );
}

/// S3: one denied address refuses the whole request, wherever it stands.
#[test]
fn s3_one_forbidden_peer_refuses_the_whole_request() {
    let mut world = world();
    world.allocate(client());
    let good = world.xor_peer(peer());
    let bad = world.xor_peer(address("10.0.0.1:1"));
    for attributes in [[good.clone(), bad.clone()], [bad, good]] {
        assert_eq!(
            code(&mut world, Method::CREATE_PERMISSION, &attributes),
            Some(403)
        );
        assert!(!reaches(&mut world, peer()));
    }
}

/// S4: a new rule holds from the next request on.
#[test]
fn s4_new_rules_hold_for_the_next_request() {
    let mut world = world();
    world.allocate(client());
    assert_eq!(world.permit(client(), peer()).code(), None);
    let mut stricter = policy();
    stricter.peers = peers(&[]);
    world.swap_policy(stricter);
    assert_eq!(world.permit(client(), peer()).code(), Some(403));
    let bound = world.bind_channel(client(), 0x4000, peer());
    assert_eq!(bound.code(), Some(403));
    world.pass(seconds(300));
    assert!(!reaches(&mut world, peer()));
}

/// S5: without a live permission, also after it expired.
#[test]
fn s5_peers_without_a_live_permission_are_not_heard() {
    let mut world = world();
    let relay = world.allocate(client());
    assert!(!hears(&mut world, relay, peer()));
    world.permit(client(), peer());
    assert!(hears(&mut world, relay, peer()));
    world.pass(seconds(300));
    assert!(!hears(&mut world, relay, peer()));
}

/// S3: a rule that comes with a new policy holds for permissions that were given before.
#[test]
fn s3_a_new_rule_ends_permissions_that_it_would_refuse() {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    assert!(reaches(&mut world, peer()));
    let mut stricter = policy();
    stricter.peers = peers(&[]);
    world.swap_policy(stricter);
    assert!(!reaches(&mut world, peer()));
    assert!(!hears(&mut world, relay, peer()));
    assert_eq!(world.server.stats().get(Counter::Permissions), 0);
    world.swap_policy(policy());
    assert!(!reaches(&mut world, peer()), "it has to be asked for again");
    assert_eq!(world.permit(client(), peer()).code(), None);
    assert!(reaches(&mut world, peer()));
}

/// S4: a refused request is counted by why.
#[test]
fn s4_refused_peers_are_counted_by_reason() {
    let deny = |network: &str| Rule {
        network: network.parse().expect("a network"),
        action: RuleAction::Deny,
    };
    let own = OwnHost {
        addresses: vec![ip("192.0.2.10"), ip("8.8.4.4")],
        networks: vec!["8.8.4.0/24".parse().expect("a network")],
        listeners: vec![address("192.0.2.10:3478")],
    };
    let filter = PeerFilter::new(&[deny("9.9.9.0/24"), deny("10.1.0.0/16")], &own);
    let mut world = world_with(|policy| policy.peers = filter);
    world.allocate(client());
    let cases = [
        ("169.254.169.254:80", PeerRefusal::SpecialPurpose),
        ("10.2.0.1:80", PeerRefusal::SpecialPurpose),
        ("10.1.0.1:80", PeerRefusal::OperatorRule),
        ("9.9.9.9:80", PeerRefusal::OperatorRule),
        ("8.8.4.4:22", PeerRefusal::OwnHost),
        ("8.8.4.77:22", PeerRefusal::OwnHost),
        ("192.0.2.10:22", PeerRefusal::OwnHost),
        ("192.0.2.10:3478", PeerRefusal::OwnListener),
    ];
    let counts = |world: &World| {
        let count = |why: &PeerRefusal| world.server.stats().get(Counter::RefusedPeers(*why));
        PeerRefusal::ALL.iter().map(count).collect::<Vec<_>>()
    };
    for (refused, why) in cases {
        let mut expected = counts(&world);
        expected[why as usize] += 1;
        let bound = world.bind_channel(client(), 0x4000, address(refused));
        assert_eq!(bound.code(), Some(403), "{refused}");
        assert_eq!(counts(&world), expected, "{refused} is refused for {why:?}");
    }
    let mut expected = counts(&world);
    expected[PeerRefusal::OperatorRule as usize] += 1;
    let refused = world.permit(client(), address("9.9.9.9:1"));
    assert_eq!(
        (refused.code(), counts(&world)),
        (Some(403), expected.clone())
    );
    assert_eq!(world.permit(client(), address("9.9.8.8:1")).code(), None);
    assert_eq!(counts(&world), expected);
}

/// S3: an allocation that moves to another shard is judged by the rules there, which may be newer.
#[test]
fn s3_a_moved_allocation_is_judged_where_it_arrives() {
    for is_stricter in [false, true] {
        let mut group = World::group(mobile(), 2, 7);
        let (relay, ticket) = depart(&mut group[0], client());
        if is_stricter {
            let mut policy = mobile();
            policy.peers = peers(&[]);
            group[1].swap_policy(policy);
        }
        come(&mut group[1], elsewhere(), &ticket);
        World::deliver(&mut group);
        assert_eq!(speaks(&mut group[1], elsewhere()), Out::Nothing, "it waits");
        let late = World::deliver(&mut group);
        let passed = late.iter().any(|out| matches!(out, Out::ToPeer { .. }));
        let heard = hearer(&mut group[1], relay) == Some(elsewhere());
        assert_eq!((passed, heard), (!is_stricter, !is_stricter));
    }
}
