//! Connect (RFC 6062 §5.2).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, PeerEnd, PeerOrigin, PeerRefusal};

use crate::common::{Login, Out, Response, World, address, peers, send_indication, tcp, udp};
use crate::dialogue::seconds;
use crate::tcp_dialogue::{
    V4, V6, alice, allocated, control, count, data, ended, offering, peer, refused, world,
};

/// RFC 6062 §5.2.
#[test]
fn connect_without_an_allocation_is_a_mismatch() {
    let mut world = world();
    assert_eq!(refused(world.connect(control(), peer())), Some(437));
    let other = tcp("203.0.113.7:4002");
    world.allocate(other);
    assert_eq!(refused(world.connect(other, peer())), Some(437));
    let udp = udp("203.0.113.7:4002");
    world.allocate(udp);
    assert_eq!(refused(world.connect(udp, peer())), Some(437));
}

/// RFC 6062 §5.2.
#[test]
fn connect_needs_a_good_peer_address() {
    let (mut world, _) = allocated();
    let bad = [
        vec![],
        vec![(AttributeType::XOR_PEER_ADDRESS, vec![0, 1, 2])],
        vec![world.xor_peer(address("198.51.100.1:0"))],
    ];
    for attributes in bad {
        let answer = world.ask(&alice(), control(), Method::CONNECT, &attributes);
        assert_eq!(answer.code(), Some(400));
    }
    assert!(world.peers.connecting.is_empty());
}

/// RFC 6062 §5.2: the local end is the relayed transport address, and the response follows the peer's.
#[test]
fn connect_opens_a_connection_from_the_relayed_address() {
    let (mut world, relay) = allocated();
    assert_eq!(world.connect(control(), peer()), Out::Nothing);
    let id = world.connecting_to(peer());
    let (_, local, to) = world.peers.connecting[&id];
    assert_eq!((local, to), (relay, peer()));
    let answer = world.peer_answers(id, true).response();
    assert_eq!(answer.message().method(), Method::CONNECT);
    assert!(answer.is_signed_by(&alice()));
    let opened = Counter::PeerConnectionsOpened(PeerOrigin::Connect);
    assert_eq!(count(&world, opened), 1);
}

/// RFC 6062 §5.2: pending in every stage, and bound.
#[test]
fn one_connection_with_a_peer_at_a_time() {
    let (mut world, _) = allocated();
    assert_eq!(world.connect(control(), peer()), Out::Nothing);
    assert_eq!(refused(world.connect(control(), peer())), Some(446));
    let id = world.connecting_to(peer());
    world.peer_answers(id, true);
    assert_eq!(refused(world.connect(control(), peer())), Some(446));
    world.bind_connection(&alice(), data(), id);
    assert_eq!(refused(world.connect(control(), peer())), Some(446));
    world.connection_ends(id);
    world.connected(control(), peer());
    world.connected(control(), address("198.51.100.1:9001"));
}

/// RFC 6062 §5.2, requirement S3.
#[test]
fn connect_to_a_forbidden_peer_is_refused() {
    let (mut world, relay) = allocated();
    let own_port = SocketAddr::new(relay.ip(), relay.port() ^ 1);
    let forbidden = ["10.0.0.1:80", "127.0.0.1:80", "192.0.2.10:3478"].map(address);
    for (peer, nth) in forbidden.into_iter().chain([own_port]).zip(1..) {
        assert_eq!(refused(world.connect(control(), peer)), Some(403), "{peer}");
        let why = PeerRefusal::ALL.iter();
        let counted: u64 = why
            .map(|why| count(&world, Counter::RefusedPeers(*why)))
            .sum();
        assert_eq!(counted, nth, "{peer} is counted");
    }
    assert!(world.peers.connecting.is_empty());
}

/// Requirement S2.
#[test]
fn no_encoding_of_a_forbidden_peer_is_connected_to() {
    let mut world = world();
    world.allocate_tcp(control(), V6);
    for peer in [
        "[::ffff:10.0.0.1]:80",
        "[64:ff9b::a00:1]:80",
        "[2002:a00:1::1]:80",
    ] {
        let code = refused(world.connect(control(), address(peer)));
        assert!(matches!(code, Some(403 | 443)), "{peer}: {code:?}");
    }
}

/// Requirement S1: the server's own relays are peers like others, those of TCP for TCP.
#[test]
fn a_live_tcp_relay_can_be_connected_to_and_no_other_port() {
    let (mut world, relay) = allocated();
    let other = world.allocate_tcp(data(), V4);
    let of_udp = world.allocate(udp("203.0.113.7:1"));
    assert_eq!(world.connect(control(), other), Out::Nothing);
    assert_eq!(refused(world.connect(control(), of_udp)), Some(403));
    assert_eq!(
        refused(world.connect(control(), relay)),
        Some(403),
        "itself"
    );
    let from_udp = udp("203.0.113.7:1");
    assert_eq!(world.permit(from_udp, of_udp).code(), None);
    let out = world.send(from_udp, &send_indication(other, b"to a TCP port"));
    assert_eq!(out, Out::Nothing);
}

/// RFC 6062 §5.2.
#[test]
fn a_peer_that_cannot_be_reached_is_told_of() {
    let (mut world, _) = allocated();
    world.connect(control(), peer());
    let id = world.connecting_to(peer());
    let answer = world.peer_answers(id, false).response();
    assert_eq!(answer.code(), Some(447));
    assert!(answer.is_signed_by(&alice()));
    world.connected(control(), peer());
}

/// RFC 6062 §5.2: not before 30 seconds.
#[test]
fn peers_that_never_answer_time_out_after_thirty_seconds() {
    let (mut world, _) = allocated();
    let peers = [9000, 9001, 9002].map(|port| SocketAddr::new(peer().ip(), port));
    for peer in peers {
        assert_eq!(world.connect(control(), peer), Out::Nothing);
    }
    world.pass(seconds(29));
    assert_eq!((world.peers.connecting.len(), world.later.len()), (3, 0));
    world.pass(seconds(1));
    let codes: Vec<_> = world
        .later
        .iter()
        .map(|(_, answer)| answer.code())
        .collect();
    assert_eq!(codes, [Some(447); 3]);
    assert_eq!(
        (world.peers.connecting.len(), world.peers.closed.len()),
        (0, 3)
    );
    assert_eq!(world.connect(control(), peer()), Out::Nothing);
}

/// Requirement S15.
#[test]
fn an_allocation_has_its_share_of_connections() {
    let mut policy = offering();
    policy.limits.peer_connections_per_allocation = 2;
    let mut world = World::new(policy);
    let relay = world.allocate_tcp(control(), V4);
    let peers = [9000, 9001, 9002].map(|port| SocketAddr::new(peer().ip(), port));
    world.permit(control(), peer());
    world.connect(control(), peers[0]);
    let (id, ..) = world.peer_connects(relay, peers[1]).expect("welcome");
    assert_eq!(refused(world.connect(control(), peers[2])), Some(508));
    assert!(world.peer_connects(relay, peers[2]).is_none());
    assert_eq!(ended(&world, PeerEnd::Refused), 1);
    world.bind_connection(&alice(), data(), id);
    assert_eq!(refused(world.connect(control(), peers[2])), Some(508));
    world.connection_ends(id);
    assert_eq!(world.connect(control(), peers[2]), Out::Nothing);
}

/// RFC 8656 §5: only who made the allocation.
#[test]
fn another_user_cannot_connect() {
    let (mut world, _) = allocated();
    let attributes = [world.xor_peer(peer())];
    let answer = world.ask(&Login::bob(), control(), Method::CONNECT, &attributes);
    assert_eq!(answer.code(), Some(441));
}

/// The answer to a Connect is for its transaction, whatever came between.
#[test]
fn answers_to_connect_name_their_transactions() {
    let (mut world, _) = allocated();
    let other = address("198.51.100.1:9001");
    let [first, second] = [peer(), other].map(|peer| {
        let peer = world.xor_peer(peer);
        let request = world.signed(&alice(), control(), Method::CONNECT, &[peer]);
        assert_eq!(world.send(control(), &request), Out::Nothing);
        Response(request).message().transaction()
    });
    let ids = [other, peer()].map(|peer| world.connecting_to(peer));
    let answers = ids.map(|id| world.peer_answers(id, true).response());
    let answered = answers.map(|answer| answer.message().transaction());
    assert_eq!(answered, [second, first]);
}

/// RFC 6062 §5.2: a Connect that a new rule ends is answered like any other that fails.
#[test]
fn a_connect_that_a_new_rule_ends_is_answered() {
    let (mut world, _) = allocated();
    let other = address("198.51.100.1:9001");
    for peer in [peer(), other] {
        assert_eq!(world.connect(control(), peer), Out::Nothing);
    }
    let mut stricter = offering();
    stricter.peers = peers(&[]);
    let answers = world.swap_policy_for_answers(stricter);
    let codes: Vec<_> = answers
        .iter()
        .map(|(to, answer)| (*to, answer.code()))
        .collect();
    assert_eq!(codes, [(control(), Some(447)); 2]);
    assert!(
        answers
            .iter()
            .all(|(_, answer)| answer.is_signed_by(&alice()))
    );
    assert!(world.peers.connecting.is_empty());
    assert_eq!(world.peers.closed.len(), 2);
}
