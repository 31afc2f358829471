//! Refresh (RFC 8656 §8.2).

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{AllocationEnd, Counter};

use crate::common::{
    Login, Out, channel_data, lifetime, requested_family, requested_transport, tcp, udp,
};
use crate::dialogue::{allocated, ask, client, code, peer, reaches, seconds, world};

/// RFC 8656 §8.2: the response tells the time-to-expiry.
#[test]
fn a_success_response_tells_the_lifetime() {
    let (mut world, _) = allocated();
    let answer = ask(&mut world, Method::REFRESH, &[lifetime(777)]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(777)));
    assert_eq!(answer.value(AttributeType::XOR_RELAYED_ADDRESS), None);
}

/// RFC 8656 §8.2: the request succeeds and the allocation is deleted, at once.
#[test]
fn a_lifetime_of_zero_deletes_the_allocation() {
    let (mut world, _) = allocated();
    world.bind_channel(client(), 0x4000, peer());
    let answer = ask(&mut world, Method::REFRESH, &[lifetime(0)]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(0)));
    assert!(!world.server.has_allocation(&client()));
    assert!(world.relays.is_empty() && world.shared.is_idle());
    let out = world.send(client(), &channel_data(0x4000, b"late"));
    assert_eq!(out, Out::Nothing);
    let deleted = Counter::AllocationsEnded(AllocationEnd::Deleted);
    assert_eq!(world.server.stats().get(deleted), 1);
}

/// RFC 8656 §8.2: after a deletion the five-tuple is free.
#[test]
fn the_five_tuple_can_allocate_again_after_a_deletion() {
    let (mut world, _) = allocated();
    assert_eq!(code(&mut world, Method::REFRESH, &[lifetime(0)]), None);
    world.allocate(client());
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8656 §5.
#[test]
fn a_refresh_without_allocation_is_an_allocation_mismatch() {
    let (mut world, _) = allocated();
    for from in [udp("203.0.113.7:4001"), tcp("203.0.113.7:4000")] {
        for attributes in [vec![], vec![lifetime(0)]] {
            let answer = world.ask(&Login::alice(), from, Method::REFRESH, &attributes);
            assert_eq!(answer.code(), Some(437));
        }
    }
    assert!(world.server.has_allocation(&client()));
}

/// RFC 8656 §5, §21.1.3.
#[test]
fn another_users_refresh_has_wrong_credentials() {
    let (mut world, _) = allocated();
    let answer = world.ask(&Login::bob(), client(), Method::REFRESH, &[lifetime(0)]);
    assert_eq!(answer.code(), Some(441));
    assert!(world.server.has_allocation(&client()));
}

/// RFC 8656 §8.2.
#[test]
fn a_refresh_for_another_family_than_the_allocations_is_a_mismatch() {
    let (mut world, _) = allocated();
    for family in [2, 3] {
        for attributes in [
            vec![requested_family(family)],
            vec![requested_family(family), lifetime(0)],
        ] {
            assert_eq!(code(&mut world, Method::REFRESH, &attributes), Some(443));
        }
    }
    assert_eq!(
        code(&mut world, Method::REFRESH, &[requested_family(1)]),
        None
    );
}

/// RFC 8656 §18.6.
#[test]
fn a_refresh_with_a_malformed_family_is_a_bad_request() {
    let (mut world, _) = allocated();
    let family = (AttributeType::REQUESTED_ADDRESS_FAMILY, vec![1]);
    assert_eq!(code(&mut world, Method::REFRESH, &[family]), Some(400));
}

/// RFC 8656 §8.2: only the lifetime changes.
#[test]
fn a_refresh_keeps_permissions_and_channels() {
    let (mut world, _) = allocated();
    world.bind_channel(client(), 0x4000, peer());
    world.pass(seconds(200));
    assert_eq!(code(&mut world, Method::REFRESH, &[]), None);
    assert!(reaches(&mut world, peer()));
    let out = world.send(client(), &channel_data(0x4000, b"ping"));
    assert!(matches!(out, Out::ToPeer { .. }));
    world.pass(seconds(100));
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8489 §6.3: known but unexpected.
#[test]
fn a_requested_transport_in_a_refresh_is_ignored() {
    let (mut world, _) = allocated();
    let attributes = [requested_transport(6)];
    assert_eq!(code(&mut world, Method::REFRESH, &attributes), None);
}

/// RFC 8656 §6: the socket is closed and its port free when the allocation ends.
#[test]
fn an_ended_allocation_leaves_nothing_behind() {
    let mut world = world();
    for port in 1..=50 {
        let from = udp(&format!("203.0.113.7:{port}"));
        world.allocate(from);
        world.permit(from, peer());
    }
    world.pass(seconds(600));
    assert!(world.relays.is_empty() && world.shared.is_idle());
    assert!(world.server.poll_timeout().is_none());
    let stats = world.server.stats();
    for gauge in [Counter::Permissions, Counter::Channels, Counter::RelayPorts] {
        assert_eq!(stats.get(gauge), 0);
    }
}

/// RFC 6062 and practice: a client that hangs up needs no allocation any more.
#[test]
fn the_allocation_of_a_closed_connection_ends() {
    let mut world = world();
    let from = tcp("203.0.113.7:4000");
    world.allocate(from);
    world.client_gone(from);
    assert!(world.relays.is_empty() && world.shared.is_idle());
    world.allocate(from);
}
