//! Permissions and CreatePermission (RFC 8656 §9, §10.2).

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::Counter;

use crate::common::{Login, Out, World, address, send_indication, udp};
use crate::dialogue::{allocated, ask, client, code, hears, peer, reaches, world, world_with};

fn permit(world: &mut World, peers: &[&str]) -> Option<u16> {
    let attributes: Vec<_> = peers
        .iter()
        .map(|peer| world.xor_peer(address(peer)))
        .collect();
    code(world, Method::CREATE_PERMISSION, &attributes)
}

/// RFC 8656 §10.2: no mandatory attributes in the response.
#[test]
fn a_permission_lets_data_through_both_ways() {
    let (mut world, relay) = allocated();
    assert!(!reaches(&mut world, peer()) && !hears(&mut world, relay, peer()));
    let answer = world.permit(client(), peer());
    assert_eq!(answer.code(), None);
    assert_eq!(answer.message().attributes().count(), 0);
    assert!(reaches(&mut world, peer()) && hears(&mut world, relay, peer()));
}

/// RFC 8656 §9: only addresses are compared, ports are not considered.
#[test]
fn a_permission_holds_for_every_port_of_the_address() {
    let (mut world, relay) = allocated();
    assert_eq!(permit(&mut world, &["198.51.100.1:0"]), None);
    for port in [1, 80, 9000, 65535] {
        let peer = address(&format!("198.51.100.1:{port}"));
        assert!(reaches(&mut world, peer) && hears(&mut world, relay, peer));
    }
}

/// RFC 8656 §9: an exact match.
#[test]
fn a_permission_holds_for_its_address_alone() {
    let (mut world, relay) = allocated();
    permit(&mut world, &["198.51.100.1:9000"]);
    for other in [
        "198.51.100.0:9000",
        "198.51.100.2:9000",
        "198.51.101.1:9000",
    ] {
        let other = address(other);
        assert!(!reaches(&mut world, other) && !hears(&mut world, relay, other));
    }
}

/// RFC 8656 §9: nor is port 0, to which nothing can be sent.
#[test]
fn a_permission_may_be_asked_for_with_port_zero() {
    let (mut world, _) = allocated();
    let nowhere = address("198.51.100.1:0");
    assert_eq!(world.permit(client(), nowhere).code(), None);
    assert!(reaches(&mut world, peer()) && !reaches(&mut world, nowhere));
}

/// RFC 8656 §10.2: several peers in any order, ports ignored.
#[test]
fn one_request_may_name_several_peers() {
    let (mut world, _) = allocated();
    let peers = [
        "198.51.100.3:1",
        "198.51.100.1:2",
        "198.51.100.2:3",
        "198.51.100.1:4",
    ];
    assert_eq!(permit(&mut world, &peers), None);
    for peer in peers {
        assert!(reaches(&mut world, address(peer)));
    }
    assert_eq!(world.server.stats().get(Counter::Permissions), 3);
}

/// RFC 8656 §10.2.
#[test]
fn a_request_without_peers_is_a_bad_request() {
    let (mut world, _) = allocated();
    assert_eq!(code(&mut world, Method::CREATE_PERMISSION, &[]), Some(400));
}

/// RFC 8656 §10.2: if any of them is invalid; nothing is installed then.
#[test]
fn a_request_with_an_invalid_peer_is_a_bad_request() {
    let (mut world, _) = allocated();
    let attributes = [
        world.xor_peer(peer()),
        (AttributeType::XOR_PEER_ADDRESS, vec![0, 1, 2]),
    ];
    let refusal = ask(&mut world, Method::CREATE_PERMISSION, &attributes);
    assert_eq!(refusal.code(), Some(400));
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8656 §10.2; nothing is installed then.
#[test]
fn a_peer_of_another_family_is_a_mismatch() {
    let (mut world, _) = allocated();
    let peers = ["198.51.100.1:1", "[2001:db8:1::1]:1"];
    assert_eq!(permit(&mut world, &peers[1..]), Some(443));
    assert_eq!(permit(&mut world, &peers), Some(443));
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8656 §10.2: of the relayed address's family, whatever the client's is.
#[test]
fn the_family_that_counts_is_that_of_the_relayed_address() {
    let mut world = world();
    world.allocate_family(client(), Some(2));
    assert_eq!(permit(&mut world, &["198.51.100.1:1"]), Some(443));
    assert_eq!(permit(&mut world, &["[2001:db8:1::1]:1"]), None);
    assert!(reaches(&mut world, address("[2001:db8:1::1]:1")));
}

/// RFC 8656 §10.2: 403; nothing is installed then (S3).
#[test]
fn a_peer_that_is_not_allowed_is_forbidden() {
    let (mut world, _) = allocated();
    let peers = ["198.51.100.1:1", "10.0.0.1:1"];
    assert_eq!(permit(&mut world, &peers[1..]), Some(403));
    assert_eq!(permit(&mut world, &peers), Some(403));
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8656 §10.2: 508 at a capacity limit; those that are there can still be refreshed.
#[test]
fn beyond_the_limit_the_capacity_is_insufficient() {
    let mut world = world_with(|policy| policy.limits.permissions_per_allocation = 2);
    world.allocate(client());
    let peers = ["198.51.100.1:1", "198.51.100.2:1", "198.51.100.3:1"];
    assert_eq!(permit(&mut world, &peers), Some(508));
    assert!(!reaches(&mut world, peer()));
    assert_eq!(permit(&mut world, &peers[..2]), None);
    assert_eq!(permit(&mut world, &peers[2..]), Some(508));
    assert_eq!(permit(&mut world, &peers[..2]), None);
}

/// RFC 8656 §5.
#[test]
fn a_request_without_allocation_is_an_allocation_mismatch() {
    let mut world = world();
    assert_eq!(permit(&mut world, &["198.51.100.1:1"]), Some(437));
}

/// RFC 8656 §5, §21.2.1.
#[test]
fn another_users_request_has_wrong_credentials() {
    let (mut world, _) = allocated();
    let peer_attribute = [world.xor_peer(peer())];
    let method = Method::CREATE_PERMISSION;
    let refusal = world.ask(&Login::bob(), client(), method, &peer_attribute);
    assert_eq!(refusal.code(), Some(441));
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8656 §9: the permissions of one allocation are unrelated to those of another.
#[test]
fn permissions_belong_to_one_allocation() {
    let (mut world, relay) = allocated();
    let other = udp("203.0.113.7:4001");
    let other_relay = world.allocate(other);
    world.permit(other, peer());
    assert!(!reaches(&mut world, peer()) && !hears(&mut world, relay, peer()));
    assert!(hears(&mut world, other_relay, peer()));
    let out = world.send(other, &send_indication(peer(), b"data"));
    assert!(matches!(out, Out::ToPeer { .. }));
}

/// RFC 8656 §21.4: no data to Teredo and 6to4.
#[test]
fn tunnelled_peers_are_forbidden() {
    let mut world = world();
    world.allocate_family(client(), Some(2));
    for peer in ["[2002:909:909::1]:1", "[2001:0:909:909::1]:1"] {
        assert_eq!(permit(&mut world, &[peer]), Some(403), "{peer}");
    }
}
