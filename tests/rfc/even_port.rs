//! EVEN-PORT (RFC 8656 §7.2 step 8, §18.7).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};

use crate::common::{
    Login, Response, World, additional_family, even_port, lifetime, requested_transport, udp,
};
use crate::dialogue::{ask, client, code, seconds, world, world_with};

const UDP: u8 = 17;

/// The response to an Allocate with EVEN-PORT from a client at `port`.
fn allocate(world: &mut World, port: u16, reserve: bool) -> Response {
    let attributes = [requested_transport(UDP), even_port(reserve)];
    let from = udp(&format!("203.0.113.7:{port}"));
    world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes)
}

fn relayed(answer: &Response) -> SocketAddr {
    let kind = AttributeType::XOR_RELAYED_ADDRESS;
    answer.xor_address(kind).expect("a relayed address")
}

/// RFC 8656 §7.2: with the R bit zero the port is even and nothing is reserved.
#[test]
fn an_even_port_is_allocated() {
    let mut world = world();
    for port in 1..=50 {
        let answer = allocate(&mut world, port, false);
        assert!(relayed(&answer).port().is_multiple_of(2));
        assert_eq!(answer.value(AttributeType::RESERVATION_TOKEN), None);
    }
    assert!(world.held().is_empty());
}

/// RFC 8656 §7.2: with the R bit the port above is bound too, and a token stands for it.
#[test]
fn the_port_above_is_bound_and_reserved() {
    let mut world = world();
    for port in 1..=50 {
        let answer = allocate(&mut world, port, true);
        let relayed = relayed(&answer);
        assert!(relayed.port().is_multiple_of(2));
        let above = SocketAddr::new(relayed.ip(), relayed.port() + 1);
        assert!(world.held().contains(&above));
        let token = answer.value(AttributeType::RESERVATION_TOKEN);
        assert_eq!(token.map(|token| token.len()), Some(8));
    }
}

/// RFC 8656 §18.7: only the topmost bit means something.
#[test]
fn the_reserved_bits_are_ignored() {
    let mut world = world();
    let flags = (AttributeType::EVEN_PORT, vec![0x7F]);
    let answer = ask(
        &mut world,
        Method::ALLOCATE,
        &[requested_transport(UDP), flags],
    );
    assert_eq!(answer.code(), None);
    assert_eq!(answer.value(AttributeType::RESERVATION_TOKEN), None);
}

/// RFC 8656 §18.7: one byte.
#[test]
fn a_malformed_even_port_is_a_bad_request() {
    let mut world = world();
    for value in [vec![], vec![0x80, 0], vec![0; 4]] {
        let attributes = [requested_transport(UDP), (AttributeType::EVEN_PORT, value)];
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(400));
    }
    assert!(world.shared.is_idle());
}

/// RFC 8656 §7.2 step 8.
#[test]
fn a_reservation_for_a_dual_allocation_is_a_bad_request() {
    let mut world = world();
    let attributes = [
        requested_transport(UDP),
        even_port(true),
        additional_family(2),
    ];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(400));
    assert!(world.shared.is_idle() && world.held().is_empty());
}

/// RFC 8656 §7.2 step 8: no pair is left, though single ports are.
#[test]
fn without_a_free_pair_the_capacity_is_insufficient() {
    let mut world = world_with(|policy| policy.relay.ports = 50_001..=50_003);
    assert_eq!(allocate(&mut world, 1, true).code(), None);
    assert_eq!(allocate(&mut world, 2, true).code(), Some(508));
    assert_eq!(world.allocate(udp("203.0.113.7:3")).port(), 50_001);
}

/// RFC 8656 §7.2 step 8: one of the two cannot be bound: neither is kept.
#[test]
fn when_the_pair_cannot_be_bound_nothing_is_left_of_it() {
    for retry in [false, true] {
        let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_003);
        world.bind = Err(retry);
        assert_eq!(allocate(&mut world, 1, true).code(), Some(508));
        assert!(world.shared.is_idle() && world.held().is_empty());
        world.bind = Ok(());
        for port in 1..=2 {
            assert_eq!(allocate(&mut world, port, true).code(), None);
        }
    }
}

/// Every other port at random, as if other processes had it.
fn every_other(port: u16) -> bool {
    let mixed = u32::from(port).wrapping_mul(0x9E37_79B1);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85EB_CA6B) >> 31 == 1
}

/// RFC 8656 §7.2 step 8: where other processes have half of the ports, a quarter of the pairs is free.
#[test]
fn a_pair_is_found_in_a_range_that_others_use_too() {
    let mut world = world();
    world.others = every_other;
    for port in 1..=200 {
        let answer = allocate(&mut world, port, true);
        assert_eq!(answer.code(), None, "after {}", port - 1);
        let relayed = relayed(&answer).port();
        assert!(!every_other(relayed) && !every_other(relayed + 1));
    }
}

/// Requirement S16: EVEN-PORT does not leak its neighbour.
#[test]
fn every_port_is_free_again_in_the_end() {
    let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_009);
    for round in 0..20 {
        for port in 1..=5 {
            let answer = allocate(&mut world, port, round % 2 == 0);
            assert_eq!(answer.code(), None);
        }
        world.pass(seconds(600));
        assert!(world.relays.is_empty() && world.held().is_empty());
        assert!(world.shared.is_idle() && world.server.poll_timeout().is_none());
    }
    for port in 1..=10 {
        world.allocate(udp(&format!("203.0.113.8:{port}")));
    }
}

/// RFC 8489 §6.3.1, RFC 8656 §7.2: the token is repeated to a retransmission, also after its end.
#[test]
fn a_retransmission_is_answered_with_the_same_token() {
    let mut world = world();
    let attributes = [requested_transport(UDP), even_port(true)];
    let request = world.signed(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    let first = world.send(client(), &request).response();
    assert!(first.value(AttributeType::RESERVATION_TOKEN).is_some());
    for pause in [0, 29, 10] {
        world.pass(seconds(pause));
        assert_eq!(world.send(client(), &request).response(), first);
    }
}

/// Requirement S15: a reservation counts like an allocation of who made it, while it lasts.
#[test]
fn a_reservation_counts_against_the_quota() {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 3);
    assert_eq!(allocate(&mut world, 1, true).code(), None);
    assert_eq!(allocate(&mut world, 2, true).code(), Some(486));
    world.allocate(udp("203.0.113.7:3"));
    assert_eq!(allocate(&mut world, 4, false).code(), Some(486));
    world.pass(seconds(30));
    assert_eq!(allocate(&mut world, 4, false).code(), None);
}

/// RFC 8656 §7.2: the reservation is held for 30 seconds, whatever becomes of the allocation below.
#[test]
fn the_reservation_outlives_the_allocation_that_asked_for_it() {
    let mut world = world();
    let attributes = [requested_transport(UDP), even_port(true)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), None);
    assert_eq!(code(&mut world, Method::REFRESH, &[lifetime(0)]), None);
    assert!(world.relays.is_empty());
    world.pass(seconds(29));
    assert_eq!(world.held().len(), 1);
    world.pass(seconds(1));
    assert!(world.held().is_empty() && world.shared.is_idle());
}
