//! Allocate: why it is refused, in the order of RFC 8656 §7.2.

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::RelaySource;

use crate::common::{Login, requested_family, requested_transport, udp};
use crate::dialogue::{allocated, ask, client, code, seconds, world, world_with};

const UDP: u8 = 17;
const TCP: u8 = 6;

/// RFC 8656 §7.2 step 1.
#[test]
fn an_allocate_must_be_authenticated() {
    let mut world = world();
    let request = world.request(Method::ALLOCATE, &[requested_transport(UDP)]);
    assert_eq!(world.send(client(), &request).response().code(), Some(401));
    assert!(!world.server.has_allocation(&client()));
}

/// RFC 8656 §7.2 step 2.
#[test]
fn a_second_allocate_on_the_five_tuple_is_an_allocation_mismatch() {
    let (mut world, relay) = allocated();
    let attributes = [requested_transport(UDP)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(437));
    assert_eq!(world.relays.keys().collect::<Vec<_>>(), [&relay]);
}

/// RFC 8656 §5, §7.2 step 2: 441 is for requests other than Allocate.
#[test]
fn another_users_allocate_on_the_five_tuple_is_an_allocation_mismatch() {
    let (mut world, _) = allocated();
    let attributes = [requested_transport(UDP)];
    let refusal = world.ask(&Login::bob(), client(), Method::ALLOCATE, &attributes);
    assert_eq!(refusal.code(), Some(437));
}

/// RFC 8656 §7.2: step 2 comes before step 3.
#[test]
fn the_five_tuple_is_checked_before_the_transport() {
    let (mut world, _) = allocated();
    for attributes in [vec![], vec![requested_transport(TCP)]] {
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(437));
    }
}

/// RFC 8656 §7.2 step 3.
#[test]
fn an_allocate_without_requested_transport_is_a_bad_request() {
    assert_eq!(code(&mut world(), Method::ALLOCATE, &[]), Some(400));
}

/// RFC 8656 §7.2 step 3, §18.8: four bytes.
#[test]
fn a_malformed_requested_transport_is_a_bad_request() {
    let mut world = world();
    for value in [vec![], vec![UDP], vec![UDP, 0, 0], vec![UDP, 0, 0, 0, 0]] {
        let attribute = (AttributeType::REQUESTED_TRANSPORT, value);
        assert_eq!(code(&mut world, Method::ALLOCATE, &[attribute]), Some(400));
    }
}

/// RFC 8656 §7.2 step 3, §18.8: only UDP.
#[test]
fn any_transport_but_udp_is_unsupported() {
    let mut world = world();
    for protocol in [0, 1, TCP, 16, 18, 255] {
        let attributes = [requested_transport(protocol)];
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(442));
    }
}

/// RFC 8656 §7.2 step 7.
#[test]
fn an_unknown_address_family_is_not_supported() {
    let mut world = world();
    for family in [0, 3, 255] {
        let attributes = [requested_transport(UDP), requested_family(family)];
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(440));
    }
}

/// RFC 8656 §18.6: four bytes.
#[test]
fn a_malformed_address_family_is_a_bad_request() {
    let mut world = world();
    for value in [vec![], vec![1], vec![2, 0, 0, 0, 0]] {
        let family = (AttributeType::REQUESTED_ADDRESS_FAMILY, value);
        let attributes = [requested_transport(UDP), family];
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(400));
    }
}

/// RFC 8656 §7.2 step 7: disabled by local policy.
#[test]
fn a_disabled_address_family_is_not_supported() {
    let mut world = world_with(|policy| policy.relay.v6 = RelaySource::Disabled);
    let v6 = [requested_transport(UDP), requested_family(2)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &v6), Some(440));
    let v4 = [requested_transport(UDP), requested_family(1)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &v4), None);
}

/// RFC 8656 §7.2 step 7: without REQUESTED-ADDRESS-FAMILY the client asks for IPv4.
#[test]
fn without_ipv4_a_request_without_family_is_not_supported() {
    let mut world = world_with(|policy| policy.relay.v4 = RelaySource::Disabled);
    let attributes = [requested_transport(UDP)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(440));
}

/// RFC 8656 §7.2: step 3 comes before step 7.
#[test]
fn the_transport_is_checked_before_the_address_family() {
    let mut world = world();
    let attributes = [requested_transport(TCP), requested_family(3)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(442));
}

/// RFC 8656 §7.2 step 10.
#[test]
fn a_user_with_too_many_allocations_has_reached_the_quota() {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 2);
    let attributes = [requested_transport(UDP)];
    for port in 1..=2 {
        world.allocate(udp(&format!("203.0.113.{port}:4000")));
    }
    let alice = world.ask(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    assert_eq!(alice.code(), Some(486));
    let bob = world.ask(&Login::bob(), client(), Method::ALLOCATE, &attributes);
    assert_eq!(bob.code(), None);
}

/// RFC 8656 §7.2 step 10: the quota is of those active at one time.
#[test]
fn the_quota_is_free_again_when_the_allocation_ends() {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 1);
    world.allocate(udp("203.0.113.1:4000"));
    let attributes = [requested_transport(UDP)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(486));
    world.pass(seconds(600));
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), None);
}

/// RFC 8656 §7.2 step 10, §21.3.1: time-limited names of one person share a quota.
#[test]
fn fresh_credentials_do_not_evade_the_quota() {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 1);
    let attributes = [requested_transport(UDP)];
    for (expiry, code) in [(1_800_000_000, None), (1_800_000_001, Some(486))] {
        let login = Login::time_limited("carol", expiry);
        let from = udp(&format!("203.0.113.7:{}", expiry % 10 + 1));
        let answer = world.ask(&login, from, Method::ALLOCATE, &attributes);
        assert_eq!(answer.code(), code);
    }
}

/// RFC 8656 §19: 508 when no relayed transport address is available.
#[test]
fn without_a_free_port_the_capacity_is_insufficient() {
    let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_001);
    world.allocate(udp("203.0.113.1:4000"));
    world.allocate(udp("203.0.113.2:4000"));
    let attributes = [requested_transport(UDP)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(508));
    world.pass(seconds(600));
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), None);
}

/// RFC 8656 §19: 508 when the server as a whole is full.
#[test]
fn when_the_server_is_full_the_capacity_is_insufficient() {
    let mut world = world_with(|policy| policy.limits.allocations = 1);
    world.allocate(udp("203.0.113.1:4000"));
    let attributes = [requested_transport(UDP)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(508));
}

/// RFC 8656 §19: 508 when the operating system gives no socket; nothing of the attempt is left.
#[test]
fn when_no_socket_can_be_bound_the_capacity_is_insufficient() {
    for retry in [false, true] {
        let mut world = world();
        world.bind = Err(retry);
        let attributes = [requested_transport(UDP)];
        let refusal = ask(&mut world, Method::ALLOCATE, &attributes);
        assert_eq!(refusal.code(), Some(508));
        assert!(refusal.is_signed_by(&Login::alice()));
        assert!(!world.server.has_allocation(&client()) && world.shared.is_idle());
        world.bind = Ok(());
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), None);
    }
}

/// RFC 8656 §21.4: Teredo and 6to4 clients could make packets loop through their tunnel.
#[test]
fn clients_behind_teredo_or_6to4_may_not_allocate() {
    let mut world = world();
    let attributes = [requested_transport(UDP)];
    for from in ["[2002:cb00:7107::1]:4000", "[2001:0:c000:20a::1]:4000"] {
        let refusal = world.ask(&Login::alice(), udp(from), Method::ALLOCATE, &attributes);
        assert_eq!(refusal.code(), Some(403));
    }
    assert!(world.shared.is_idle());
}

/// RFC 8656 §7.2: a refused Allocate creates nothing.
#[test]
fn a_refused_allocate_leaves_nothing_behind() {
    let mut world = world();
    for attributes in [vec![], vec![requested_transport(TCP)]] {
        assert!(code(&mut world, Method::ALLOCATE, &attributes).is_some());
    }
    assert!(world.relays.is_empty() && world.shared.is_idle());
    assert!(world.server.poll_timeout().is_none());
}
