//! Peers that connect, ConnectionBind, and how data connections end (RFC 6062 §5.3 to §5.5).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use turnstone::stun::{AttributeType, Class, Method};
use turnstone::turn::{Bandwidth, Counter, Direction, PeerConnectionId, PeerEnd, PeerOrigin};

use crate::common::{Login, Out, World, address, connection_id, lifetime, tcp, udp};
use crate::dialogue::seconds;
use crate::tcp_dialogue::{
    V4, alice, allocated, control, count, data, ended, offering, peer, refused,
};

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
    assert!(gaps.max() > Some(1 << 16));
}

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

/// Two connections that are bound at two shards of a server with so many bits a second.
fn bound_at_two_shards(bandwidth: Bandwidth) -> ([World; 2], [PeerConnectionId; 2]) {
    let mut policy = offering();
    policy.bandwidth = bandwidth;
    let shards: [World; 2] = World::group(policy, 2, 7).try_into().ok().unwrap();
    let [mut owner, mut other] = shards;
    owner.allocate_tcp(control(), V4);
    let one = owner.connected(control(), peer());
    let two = owner.connected(control(), address("198.51.100.1:9001"));
    assert_eq!(owner.bind_connection(&alice(), data(), one).code(), None);
    assert_eq!(other.bind_connection(&alice(), data(), two).code(), None);
    ([owner, other], [one, two])
}

/// Bytes a second that pass when both connections relay all they may, in pieces of 1000.
fn passed(bandwidth: Bandwidth) -> u64 {
    let (mut shards, ids) = bound_at_two_shards(bandwidth);
    let mut passed = 0;
    for _ in 0..10_000 {
        for (shard, id) in shards.iter_mut().zip(ids) {
            shard.now.instant = shard.now.instant + std::time::Duration::from_millis(1);
            let (now, direction) = (shard.now, Direction::ToClient);
            let admits = shard.server.admits_stream(now, id, direction, 1000);
            passed += 1000 * u64::from(admits);
        }
    }
    for (shard, id) in shards.iter_mut().zip(ids) {
        shard.connection_ends(id);
    }
    shards[0].client_gone(control());
    assert!(shards[0].shared.is_idle());
    passed / 10
}

/// TCP relays are no way around the limits, at however many shards.
#[test]
fn the_connections_of_an_allocation_share_its_bandwidth() {
    let limit = NonZeroU64::new(800_000);
    let none = Bandwidth::default();
    let limits = [
        Bandwidth {
            per_allocation: limit,
            ..none
        },
        Bandwidth {
            per_user: limit,
            ..none
        },
        Bandwidth {
            total: limit,
            ..none
        },
    ];
    assert_eq!(passed(none), 2_000_000);
    for limited in limits {
        let passed = passed(limited);
        assert!(
            (95_000..=115_000).contains(&passed),
            "{limited:?}: {passed}"
        );
    }
}

/// S3: a peer that a new policy refuses is cut off, its connection bound or not.
#[test]
fn a_new_rule_ends_connections_with_peers_that_it_refuses() {
    let (mut world, _) = allocated();
    let id = world.connected(control(), peer());
    let mut stricter = offering();
    stricter.peers = crate::common::peers(&[]);
    world.swap_policy(stricter);
    assert_eq!(world.peers.closed, [(0, id)]);
}
