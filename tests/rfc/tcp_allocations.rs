//! TCP allocations: what an Allocate request gets, and that nothing is left of it (RFC 6062 §5.1).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, PeerConnectionId, Reason};

use crate::common::random::Random;
use crate::common::{
    Out, World, additional_family, address, channel_number, even_port, lifetime, policy,
    requested_family, requested_transport, send_indication, tcp, udp,
};
use crate::dialogue::seconds;
use crate::tcp_dialogue::{
    TCP, V4, V6, alice, allocated, control, count, offering, peer, refused, world,
};

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

/// RFC 8016 §3.1: not offered with TCP, whose connections cannot follow the client.
#[test]
fn a_tcp_allocation_does_not_move() {
    let mut policy = offering();
    policy.mobility = true;
    let mut world = World::new(policy);
    let ticket = (AttributeType::MOBILITY_TICKET, vec![]);
    let attributes = [requested_transport(TCP), ticket];
    let answer = world.ask(&alice(), control(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(405));
    assert!(world.shared.is_idle());
}

/// RFC 8656 §7.2: a port that is taken is no reason to give up.
#[test]
fn another_port_is_tried_when_one_is_in_use() {
    let mut world = world();
    world.bind = Err(true);
    let attributes = [requested_transport(TCP)];
    let answer = world.ask(&alice(), control(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(508));
    assert_eq!(count(&world, Counter::RelayFailures), 32);
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
