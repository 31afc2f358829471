//! What went wrong elsewhere: tables that grow and ports that leak (S15, S16).

use std::collections::BTreeSet;
use std::time::Duration;

use turnstone::stun::Method;
use turnstone::turn::Counter;

use crate::common::random::Random;
use crate::common::{Login, World, lifetime, requested_family, requested_transport, tcp, udp};
use crate::dialogue::{client, code, peer, seconds, world, world_with};

/// S9: a relayed port says nothing of the next one, and all of the range are given.
#[test]
fn s9_relayed_ports_are_random_in_the_range() {
    let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_199);
    let ports: Vec<u16> = (1..=200)
        .map(|port| world.allocate(udp(&format!("203.0.113.7:{port}"))).port())
        .collect();
    let near = |pair: &&[u16]| pair[0].abs_diff(pair[1]) <= 2;
    let neighbours = ports.windows(2).filter(near).count();
    assert!(
        neighbours < 30,
        "{neighbours} follow a neighbour: {ports:?}"
    );
    let all: BTreeSet<u16> = ports.into_iter().collect();
    assert!(all.into_iter().eq(50_000..=50_199));
}

/// S15: per source address, IPv6 by /64.
#[test]
fn s15_allocations_are_limited_by_source() {
    let mut world = world_with(|policy| policy.limits.allocations_per_source = 2);
    let transport = [requested_transport(17)];
    let v6 = [
        "[2001:db8:2::7]:1",
        "[2001:db8:2::8]:1",
        "[2001:db8:2::9]:1",
    ];
    for clients in [["203.0.113.7:1", "203.0.113.7:2", "203.0.113.7:3"], v6] {
        let codes = clients.map(|from| {
            let answer = world.ask(&Login::alice(), udp(from), Method::ALLOCATE, &transport);
            answer.code()
        });
        assert_eq!(codes, [None, None, Some(486)]);
    }
    for from in ["203.0.113.8:1", "[2001:db8:2:1::7]:1"] {
        let answer = world.ask(&Login::alice(), udp(from), Method::ALLOCATE, &transport);
        assert_eq!(answer.code(), None);
    }
}

/// S15: clients who come and go leave no deadlines behind.
#[test]
fn s15_ended_allocations_are_not_remembered() {
    let mut world = world();
    let hour = [requested_transport(17), lifetime(3600)];
    for _ in 0..2000 {
        assert_eq!(code(&mut world, Method::ALLOCATE, &hour), None);
        world.client_gone(client());
        world.pass(Duration::from_millis(50));
    }
    let mut wake_ups = 0;
    while let Some(due) = world.server.poll_timeout() {
        world.pass(due - world.now.instant);
        wake_ups += 1;
    }
    assert!(wake_ups < 100, "{wake_ups} deadlines of nobody");
}

/// S16: after any sequence of requests and expiry, ports and quota are as they were.
#[test]
fn s16_ports_and_quota_come_back_after_any_sequence() {
    let mut random = Random(16);
    for _ in 0..20 {
        let mut world = world_with(|policy| {
            policy.relay.ports = 50_000..=50_009;
            policy.limits.allocations_per_user = 7;
        });
        for _ in 0..300 {
            one_of_many(&mut world, &mut random);
            assert!(world.relays.len() <= 14);
            let ports = Counter::RelayPorts;
            let in_use = world.server.stats().get(ports);
            assert_eq!(in_use, world.relays.len() as u64);
        }
        world.bind = Ok(());
        world.pass(seconds(3600));
        assert!(world.relays.is_empty() && world.shared.is_idle());
        for port in 1..=7 {
            world.allocate(udp(&format!("203.0.113.7:{port}")));
        }
    }
}

fn one_of_many(world: &mut World, random: &mut Random) {
    let from = [udp, tcp][random.below(2)](&format!("203.0.113.{}:1", random.below(10)));
    let login = [Login::alice(), Login::bob()][random.below(2)].clone();
    let family = requested_family([1, 1, 2, 3][random.below(4)]);
    let peer = world.xor_peer(peer());
    world.bind = [Ok(()), Ok(()), Err(true), Err(false)][random.below(4)];
    let (method, attributes) = match random.below(7) {
        0..=2 => (Method::ALLOCATE, vec![requested_transport(17), family]),
        3 => (
            Method::REFRESH,
            vec![lifetime([0, 0, 600, 3600][random.below(4)])],
        ),
        4 => (Method::CREATE_PERMISSION, vec![peer]),
        5 => return world.pass(seconds(random.below(400) as u64)),
        _ => return world.client_gone(from),
    };
    let _ = world.ask(&login, from, method, &attributes);
}
