//! TCP allocations (RFC 6062).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Class, Method};
use turnstone::turn::{Counter, FiveTuple, PeerConnectionId, PeerEnd, PeerOrigin, Policy, Reason};

use crate::common::random::Random;
use crate::common::{
    Login, Out, Response, World, additional_family, address, channel_number, connection_id,
    even_port, lifetime, policy, requested_family, requested_transport, send_indication, tcp, udp,
};
use crate::dialogue::seconds;

const TCP: u8 = 6;
const V4: u8 = 1;
const V6: u8 = 2;

fn offering() -> Policy {
    let mut policy = policy();
    policy.relay.tcp = true;
    policy
}

fn world() -> World {
    World::new(offering())
}

/// The usual control connection.
fn control() -> FiveTuple {
    tcp("203.0.113.7:4000")
}

/// The connection on which the client binds.
fn data() -> FiveTuple {
    tcp("203.0.113.7:4001")
}

fn peer() -> SocketAddr {
    address("198.51.100.1:9000")
}

fn alice() -> Login {
    Login::alice()
}

/// A world in which the usual client has a TCP allocation, and its relayed transport address.
fn allocated() -> (World, SocketAddr) {
    let mut world = world();
    let relay = world.allocate_tcp(control(), V4);
    (world, relay)
}

fn refused(out: Out) -> Option<u16> {
    out.response().code()
}

fn count(world: &World, counter: Counter) -> u64 {
    world.server.stats().get(counter)
}

fn ended(world: &World, end: PeerEnd) -> u64 {
    count(world, Counter::PeerConnectionsEnded(end))
}

// The allocation (§5.1).

/// RFC 6062 §5.1: a TCP relayed transport address, and no token.
#[test]
fn a_relayed_address_of_tcp_listens_for_peers() {
    for (family, client) in [(V4, control()), (V6, tcp("[2001:db8:2::7]:4000"))] {
        let mut world = world();
        let relay = world.allocate_tcp(client, family);
        assert!(world.peers.listeners.contains_key(&relay) && world.relays.is_empty());
    }
}

/// RFC 6062 §5.1.
#[test]
fn a_tcp_allocation_is_for_clients_over_tcp() {
    let attributes = [requested_transport(TCP)];
    let answer = world().ask(
        &alice(),
        udp("203.0.113.7:1"),
        Method::ALLOCATE,
        &attributes,
    );
    assert_eq!(answer.code(), Some(400));
}

/// RFC 6062 §5.1.
#[test]
fn what_belongs_to_udp_is_refused_with_tcp() {
    let contradictions = [
        (AttributeType::DONT_FRAGMENT, vec![]),
        (AttributeType::RESERVATION_TOKEN, vec![0; 8]),
        even_port(false),
        even_port(true),
    ];
    for attribute in contradictions {
        let mut world = world();
        let attributes = [requested_transport(TCP), attribute];
        let answer = world.ask(&alice(), control(), Method::ALLOCATE, &attributes);
        assert_eq!(answer.code(), Some(400));
        assert!(world.shared.is_idle());
    }
}

/// RFC 8656 §7.2 step 3.
#[test]
fn a_server_that_offers_no_tcp_says_so() {
    let mut world = World::new(policy());
    let attributes = [requested_transport(TCP)];
    let answer = world.ask(&alice(), control(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(442));
    for method in [Method::CONNECT, Method::CONNECTION_BIND] {
        let request = world.signed(&alice(), control(), method, &[]);
        assert_eq!(world.send(control(), &request), Out::Nothing);
    }
    assert_eq!(count(&world, Counter::Dropped(Reason::UnknownMethod)), 2);
}

/// RFC 8656 §7.2: a port that is taken is no reason to give up.
#[test]
fn another_port_is_tried_when_one_is_in_use() {
    let mut world = world();
    world.bind = Err(true);
    let attributes = [requested_transport(TCP)];
    let answer = world.ask(&alice(), control(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(508));
    assert_eq!(count(&world, Counter::RelayFailures), 8);
    assert!(world.shared.is_idle());
}

/// RFC 8656 §7.2 step 9, for listeners.
#[test]
fn both_families_may_be_asked_for() {
    let mut world = world();
    let attributes = [requested_transport(TCP), additional_family(V6)];
    let answer = world.ask(&alice(), control(), Method::ALLOCATE, &attributes);
    assert_eq!((answer.code(), world.peers.listeners.len()), (None, 2));
    let (v4, v6) = (peer(), address("[2001:db8:1::1]:9000"));
    let [_, of_v6] = [v4, v6].map(|peer| world.connected(control(), peer));
    let end = [lifetime(0), requested_family(V6)];
    let answer = world.ask(&alice(), control(), Method::REFRESH, &end);
    assert_eq!((answer.code(), world.peers.listeners.len()), (None, 1));
    assert_eq!(world.peers.closed, [(0, of_v6)]);
    assert_eq!(refused(world.connect(control(), v6)), Some(443));
}

/// RFC 6062 §3: Send, Data and channels carry datagrams.
#[test]
fn datagrams_do_not_pass_through_a_tcp_allocation() {
    let (mut world, _) = allocated();
    assert_eq!(world.permit(control(), peer()).code(), None);
    let out = world.send(control(), &send_indication(peer(), b"data"));
    assert_eq!(out, Out::Nothing);
    assert_eq!(count(&world, Counter::Dropped(Reason::InvalidSend)), 1);
    let channel = world.bind_channel(control(), 0x4000, peer());
    assert_eq!(channel.code(), Some(437));
    let attributes = [channel_number(0x4000)];
    let channel = world.ask(&alice(), control(), Method::CHANNEL_BIND, &attributes);
    assert_eq!(channel.code(), Some(437));
}

// Connect (§5.2).

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
    for peer in forbidden.into_iter().chain([own_port]) {
        assert_eq!(refused(world.connect(control(), peer)), Some(403), "{peer}");
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

// Peers that connect (§5.3).

/// RFC 6062 §5.3.
#[test]
fn a_permitted_peer_is_announced_on_the_control_connection() {
    let (mut world, relay) = allocated();
    world.permit(control(), peer());
    let (id, to, attempt) = world.peer_connects(relay, peer()).expect("welcome");
    assert_eq!(to, control());
    let message = attempt.message();
    let kind = (message.class(), message.method());
    assert_eq!(kind, (Class::Indication, Method::CONNECTION_ATTEMPT));
    let told = attempt.xor_address(AttributeType::XOR_PEER_ADDRESS);
    assert_eq!(told, Some(peer()));
    let told = attempt.value(AttributeType::CONNECTION_ID);
    assert_eq!(told, Some(id.to_bits().to_be_bytes().to_vec()));
    let opened = Counter::PeerConnectionsOpened(PeerOrigin::Accept);
    assert_eq!(count(&world, opened), 1);
}

/// RFC 6062 §5.3, requirement S5: also when the permission has expired.
#[test]
fn a_peer_without_a_permission_is_turned_away() {
    let (mut world, relay) = allocated();
    assert!(world.peer_connects(relay, peer()).is_none());
    world.permit(control(), peer());
    let other = address("198.51.100.2:9000");
    assert!(world.peer_connects(relay, other).is_none());
    assert!(world.peer_connects(relay, peer()).is_some());
    world.pass(seconds(300));
    assert!(
        world
            .peer_connects(relay, address("198.51.100.1:9001"))
            .is_none()
    );
    assert_eq!(ended(&world, PeerEnd::Refused), 3);
}

/// RFC 6062 §5.2: a connection with a peer is one, whoever opened it.
#[test]
fn a_peer_that_came_itself_is_not_connected_to() {
    let (mut world, relay) = allocated();
    world.permit(control(), peer());
    world.peer_connects(relay, peer());
    assert_eq!(refused(world.connect(control(), peer())), Some(446));
}

// ConnectionBind (§5.4).

/// RFC 6062 §5.4.
#[test]
fn a_bind_joins_the_two_connections() {
    let (mut world, relay) = allocated();
    world.permit(control(), peer());
    let (arrived, ..) = world.peer_connects(relay, peer()).expect("welcome");
    let opened = world.connected(control(), address("198.51.100.1:9001"));
    for (id, from) in [(arrived, data()), (opened, tcp("203.0.113.7:4002"))] {
        let answer = world.bind_connection(&alice(), from, id);
        assert_eq!((answer.code(), answer.is_signed_by(&alice())), (None, true));
        assert_eq!(world.peers.joined.get(&id), Some(&from));
    }
}

/// RFC 6062 §5.4: missing, malformed, never given out, being opened, bound, ended.
#[test]
fn a_bind_needs_a_connection_that_waits() {
    let (mut world, _) = allocated();
    let bind = |world: &mut World, attributes: &[_]| {
        let answer = world.ask(&alice(), data(), Method::CONNECTION_BIND, attributes);
        answer.code()
    };
    assert_eq!(bind(&mut world, &[]), Some(400));
    let short = (AttributeType::CONNECTION_ID, vec![0; 3]);
    assert_eq!(bind(&mut world, &[short]), Some(400));
    let unknown = connection_id(PeerConnectionId::from_bits(7));
    assert_eq!(bind(&mut world, &[unknown]), Some(400));
    world.connect(control(), peer());
    let id = world.connecting_to(peer());
    assert_eq!(bind(&mut world, &[connection_id(id)]), Some(400));
    world.peer_answers(id, true);
    assert_eq!(bind(&mut world, &[connection_id(id)]), None);
    let other = tcp("203.0.113.7:4002");
    let again = world.bind_connection(&alice(), other, id);
    assert_eq!(again.code(), Some(400));
    world.connection_ends(id);
    assert_eq!(bind(&mut world, &[connection_id(id)]), Some(400));
}

/// RFC 6062 §5.4.
#[test]
fn a_bind_does_not_come_over_udp() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    let answer = world.bind_connection(&alice(), udp("203.0.113.7:4001"), id);
    assert_eq!(answer.code(), Some(400));
    assert_eq!(world.bind_connection(&alice(), data(), id).code(), None);
}

/// RFC 6062 §4.3: on a new connection.
#[test]
fn a_bind_does_not_come_on_a_control_connection() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    let answer = world.bind_connection(&alice(), control(), id);
    assert_eq!(answer.code(), Some(437));
}

/// RFC 6062 §4.3: with the credentials of the control connection; requirement S12.
#[test]
fn a_bind_is_signed_by_the_user_of_the_allocation() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    let unsigned = world.request(Method::CONNECTION_BIND, &[connection_id(id)]);
    assert_eq!(refused(world.send(data(), &unsigned)), Some(401));
    let foreign = world.bind_connection(&Login::bob(), data(), id);
    assert_eq!(foreign.code(), Some(441));
    let wrong = world.bind_connection(&Login::new("alice", "wrong"), data(), id);
    assert_eq!(wrong.code(), Some(401));
    assert!(world.peers.joined.is_empty());
    assert_eq!(world.bind_connection(&alice(), data(), id).code(), None);
}

/// RFC 6062 §4.3: authenticated as on the control connection, so its nonce is good, and nobody else's.
#[test]
fn a_bind_may_use_the_nonce_of_the_control_connection() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    let mut bind = |nonce_of| {
        let nonce = world.nonce(nonce_of);
        let transaction = world.transaction();
        let id = [connection_id(id)];
        let request = alice().sign(transaction, Method::CONNECTION_BIND, &id, &nonce);
        world.send(data(), &request).response().code()
    };
    assert_eq!(bind(tcp("203.0.113.7:4003")), Some(438));
    assert_eq!(bind(control()), None);
    let nonce = world.nonce(control());
    let transaction = world.transaction();
    let request = alice().sign(transaction, Method::ALLOCATE, &[], &nonce);
    assert_eq!(
        refused(world.send(data(), &request)),
        Some(438),
        "binds only"
    );
}

/// RFC 6062 §5.2, §5.3: 30 seconds.
#[test]
fn a_connection_that_nobody_binds_is_closed_after_thirty_seconds() {
    let (mut world, relay) = allocated();
    world.permit(control(), peer());
    let (arrived, ..) = world.peer_connects(relay, peer()).expect("welcome");
    world.connect(control(), address("198.51.100.1:9001"));
    let opened = world.connecting_to(address("198.51.100.1:9001"));
    world.pass(seconds(20));
    world.peer_answers(opened, true);
    world.pass(seconds(9));
    assert!(world.peers.closed.is_empty());
    world.pass(seconds(1));
    assert_eq!(world.peers.closed, [(0, arrived)]);
    let late = world.bind_connection(&alice(), data(), arrived);
    assert_eq!(late.code(), Some(400));
    world.pass(seconds(19));
    assert_eq!(world.peers.closed.len(), 1);
    world.pass(seconds(1));
    assert_eq!(world.peers.closed, [(0, arrived), (0, opened)]);
    assert_eq!(ended(&world, PeerEnd::Unbound), 2);
}

/// A shard that wakes late binds nothing that was to be closed.
#[test]
fn a_late_bind_finds_nothing_though_no_timeout_was_handled() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    world.now.instant = world.now.instant + seconds(30);
    let answer = world.bind_connection(&alice(), data(), id);
    assert_eq!(answer.code(), Some(400));
}

/// What is bound in time stays.
#[test]
fn a_bound_connection_has_no_deadline() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    world.bind_connection(&alice(), data(), id);
    world.pass(seconds(599));
    assert!(world.peers.closed.is_empty() && world.peers.joined.contains_key(&id));
}

/// RFC 6062 §6.2.1, requirement S9.
#[test]
fn connection_ids_are_random_and_unlike() {
    let mut policy = offering();
    policy.limits.peer_connections_per_allocation = 1000;
    let mut world = World::new(policy);
    world.allocate_tcp(control(), V4);
    let connect = |port| {
        let id = world.connected(control(), SocketAddr::new(peer().ip(), port));
        id.to_bits()
    };
    let ids: BTreeSet<u32> = (1..=200).map(connect).collect();
    assert_eq!(ids.len(), 200);
    let gaps = ids.iter().zip(ids.iter().skip(1)).map(|(a, b)| b - a);
    assert!(gaps.max() > Some(1 << 24));
}

// The end (§5.5).

/// RFC 6062 §5.5: however the allocation ends.
#[test]
fn the_end_of_an_allocation_closes_all_of_its_connections() {
    type End = fn(&mut World);
    let ends: [End; 3] = [
        |world| world.pass(seconds(600)),
        |world| {
            let end = [lifetime(0)];
            world.ask(&alice(), control(), Method::REFRESH, &end);
        },
        |world| world.client_gone(control()),
    ];
    for (place, end) in ends.into_iter().enumerate() {
        let (mut world, relay) = allocated();
        let bound = world.connected(control(), address("198.51.100.1:9001"));
        world.bind_connection(&alice(), data(), bound);
        if place == 0 {
            world.pass(seconds(0));
        } else {
            world.permit(control(), peer());
            world.peer_connects(relay, peer()).expect("welcome");
            world.connect(control(), address("198.51.100.1:9002"));
        }
        end(&mut world);
        let expected = if place == 0 { 1 } else { 3 };
        assert_eq!(world.peers.closed.len(), expected);
        assert!(world.peers.joined.is_empty() && world.peers.connecting.is_empty());
        assert!(world.shared.is_idle() && world.peers.listeners.is_empty());
    }
}

/// RFC 6062 §5.4: a data connection may arrive at any shard, and its allocation may close it there.
#[test]
fn the_data_connection_may_be_another_shards() {
    let mut shards = World::group(offering(), 2, 7);
    let relay = shards[0].allocate_tcp(control(), V4);
    shards[0].permit(control(), peer());
    let (first, ..) = shards[0].peer_connects(relay, peer()).expect("welcome");
    let second = shards[0].connected(control(), address("198.51.100.1:9001"));
    for id in [first, second] {
        let from = tcp(&format!("203.0.113.7:{}", 5000 + id.to_bits() % 1000));
        let foreign = shards[1].bind_connection(&Login::bob(), from, id);
        assert_eq!(foreign.code(), Some(441));
        let answer = shards[1].bind_connection(&alice(), from, id);
        assert_eq!(answer.code(), None);
        assert_eq!(shards[1].peers.joined.get(&id), Some(&from));
    }
    shards[1].connection_ends(first);
    assert_eq!(shards[0].connect(control(), peer()), Out::Nothing);
    shards[0].pass(seconds(29));
    shards[0].client_gone(control());
    let closed: BTreeSet<_> = shards[0].peers.closed.iter().copied().collect();
    let third = shards[0].peers.closed.iter().find(|(_, id)| *id != second);
    assert_eq!(closed.len(), 2);
    assert!(closed.contains(&(1, second)));
    assert_eq!(third.map(|(shard, _)| *shard), Some(0));
    shards[1].connection_ends(second);
    assert!(shards[0].shared.is_idle());
}

/// Requirement S16: whatever happens, nothing is left.
#[test]
fn ports_quota_and_connections_return_after_any_sequence() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut policy = offering();
        policy.relay.ports = 50_000..=50_007;
        policy.limits.peer_connections_per_allocation = 3;
        let mut shards = World::group(policy, 2, 7);
        for step in 0..120_u16 {
            step_at_random(&mut shards, &mut random, step);
        }
        for shard in &mut shards {
            let all: Vec<_> = shard.peers.joined.keys().copied().collect();
            all.into_iter().for_each(|id| shard.connection_ends(id));
        }
        shards
            .iter_mut()
            .for_each(|shard| shard.pass(seconds(4000)));
        for shard in &mut shards {
            assert!(shard.shared.is_idle(), "seed {seed}");
            assert!(shard.peers.listeners.is_empty() && shard.peers.connecting.is_empty());
            for number in 0..4 {
                shard.allocate_tcp(tcp(&format!("203.0.113.9:{}", 1 + number)), V4);
            }
            shard.pass(seconds(4000));
        }
    }
}

fn step_at_random(shards: &mut [World], random: &mut Random, step: u16) {
    let shard = random.below(2);
    let client = tcp(&format!("203.0.113.7:{}", 1 + shard * 4 + random.below(4)));
    let peer = SocketAddr::new(peer().ip(), 1 + u16::try_from(random.below(4)).unwrap());
    let world = &mut shards[shard];
    match random.below(9) {
        0 | 1 => {
            let attributes = [requested_transport(TCP)];
            world.ask(&alice(), client, Method::ALLOCATE, &attributes);
        }
        2 => drop(world.permit(client, peer)),
        3 => drop(world.connect(client, peer)),
        4 => {
            let id = world.peers.connecting.keys().next().copied();
            let accepts = random.once_in(2);
            id.map(|id| world.peer_answers(id, accepts));
        }
        5 => {
            let relay = world.peers.listeners.keys().next().copied();
            relay.map(|relay| world.peer_connects(relay, peer));
        }
        6 => world.client_gone(client),
        7 => shards.iter_mut().for_each(|shard| shard.pass(seconds(7))),
        _ => bind_at_random(shards, random, step),
    }
}

/// Binds whatever waits, at any shard, and lets a joined one end.
fn bind_at_random(shards: &mut [World], random: &mut Random, step: u16) {
    let at = random.below(2);
    let from = tcp(&format!("203.0.113.8:{}", 1 + step));
    let told: Vec<PeerConnectionId> = shards
        .iter()
        .flat_map(|world| world.peers.told.iter().rev().take(3).copied())
        .collect();
    if !told.is_empty() {
        shards[at].bind_connection(&alice(), from, *random.pick(&told));
    }
    let joined = shards[at].peers.joined.keys().next().copied();
    if let Some(id) = joined.filter(|_| random.once_in(2)) {
        shards[at].connection_ends(id);
    }
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
