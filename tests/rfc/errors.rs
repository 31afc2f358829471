//! Error responses as such (RFC 8489 §6.3.1.1, §14.8; RFC 8656 §19).

use turnstone::stun::{AttributeType, Class, Method};
use turnstone::turn::{Admission, Alternates, RelaySource};

use crate::common::{
    Login, Response, World, address, channel_number, lifetime, requested_family,
    requested_transport, udp,
};
use crate::dialogue::{UNKNOWN, allocated, ask, client, peer, world, world_with};

fn refuse(method: Method, attributes: &[(AttributeType, Vec<u8>)]) -> Response {
    ask(&mut world(), method, attributes)
}

fn forbidden() -> Response {
    let (mut world, _) = allocated();
    world.permit(client(), address("10.0.0.1:1"))
}

fn stale() -> Response {
    let mut world = world();
    let id = world.transaction();
    let request = Login::alice().sign(id, Method::REFRESH, &[], b"stale");
    world.send(client(), &request).response()
}

fn unauthenticated() -> Response {
    let mut world = world();
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    world.send(client(), &request).response()
}

fn peer_family() -> Response {
    let (mut world, _) = allocated();
    world.bind_channel(client(), 0x4000, address("[2001:db8:1::1]:1"))
}

fn over_quota() -> Response {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 0);
    ask(&mut world, Method::ALLOCATE, &[requested_transport(17)])
}

fn no_capacity() -> Response {
    let mut world = world_with(|policy| policy.limits.allocations = 0);
    ask(&mut world, Method::ALLOCATE, &[requested_transport(17)])
}

fn elsewhere() -> Response {
    let mut world = world_with(|policy| {
        policy.admission = Admission::Elsewhere;
        policy.alternates = Alternates::new(&[address("198.51.100.7:3478")], &[], None);
    });
    ask(&mut world, Method::ALLOCATE, &[requested_transport(17)])
}

fn other_user() -> Response {
    let (mut world, _) = allocated();
    world.ask(&Login::bob(), client(), Method::REFRESH, &[lifetime(0)])
}

/// One error response of every code.
fn every_error() -> Vec<(u16, &'static str, Response)> {
    let v6_of_none = {
        let mut world = world_with(|policy| policy.relay.v6 = RelaySource::Disabled);
        let attributes = [requested_transport(17), requested_family(2)];
        ask(&mut world, Method::ALLOCATE, &attributes)
    };
    vec![
        (300, "Try Alternate", elsewhere()),
        (400, "Bad Request", refuse(Method::ALLOCATE, &[])),
        (401, "Unauthenticated", unauthenticated()),
        (403, "Forbidden", forbidden()),
        (
            420,
            "Unknown Attribute",
            refuse(Method::REFRESH, &[(UNKNOWN, vec![])]),
        ),
        (437, "Allocation Mismatch", refuse(Method::REFRESH, &[])),
        (438, "Stale Nonce", stale()),
        (440, "Address Family not Supported", v6_of_none),
        (441, "Wrong Credentials", other_user()),
        (
            442,
            "Unsupported Transport Protocol",
            refuse(Method::ALLOCATE, &[requested_transport(6)]),
        ),
        (443, "Peer Address Family Mismatch", peer_family()),
        (486, "Allocation Quota Reached", over_quota()),
        (508, "Insufficient Capacity", no_capacity()),
    ]
}

/// RFC 8489 §14.8, RFC 8656 §19: hundreds digit, number below a hundred, the suggested phrase.
#[test]
fn every_error_has_its_code_and_phrase() {
    for (code, phrase, response) in every_error() {
        assert_eq!(response.code(), Some(code));
        let value = response.value(AttributeType::ERROR_CODE).unwrap();
        let [0, 0, class @ 3..=6, number @ 0..=99, reason @ ..] = &value[..] else {
            panic!("{value:02x?}");
        };
        assert_eq!(u16::from(*class) * 100 + u16::from(*number), code);
        assert_eq!(reason, phrase.as_bytes());
    }
}

/// RFC 8489 §6.3.1.1: class, method and transaction of an error response.
#[test]
fn every_error_is_an_error_response() {
    for (_, _, response) in every_error() {
        assert_eq!(response.message().class(), Class::Error);
    }
}

/// RFC 8489 §6.3.1.1: authenticated requests get authenticated answers, challenges do not.
#[test]
fn every_error_to_an_authenticated_request_is_signed() {
    for (code, _, response) in every_error() {
        let login = if code == 441 {
            Login::bob()
        } else {
            Login::alice()
        };
        let is_challenge = matches!(code, 401 | 438);
        assert_eq!(response.is_signed_by(&login), !is_challenge, "{code}");
        let has_nonce = response.value(AttributeType::NONCE).is_some();
        assert_eq!(has_nonce, is_challenge, "{code}");
    }
}

/// RFC 8489 §9.2.4: responses SHOULD NOT name the user, and only challenges the realm; §10: only a
/// redirection names another server.
#[test]
fn errors_carry_nothing_that_is_not_theirs() {
    for (code, _, response) in every_error() {
        let has = |kind| response.value(kind).is_some();
        assert!(!has(AttributeType::USERNAME) && !has(AttributeType::USERHASH));
        assert_eq!(
            has(AttributeType::REALM),
            matches!(code, 401 | 438),
            "{code}"
        );
        assert_eq!(has(AttributeType::ALTERNATE_SERVER), code == 300, "{code}");
        assert!(!has(AttributeType::ALTERNATE_DOMAIN));
        assert!(!has(AttributeType::XOR_RELAYED_ADDRESS) && !has(AttributeType::LIFETIME));
    }
}

/// RFC 8489 §14.13: UNKNOWN-ATTRIBUTES is present only with 420.
#[test]
fn only_420_lists_unknown_attributes() {
    for (code, _, response) in every_error() {
        let listed = response.value(AttributeType::UNKNOWN_ATTRIBUTES);
        assert_eq!(listed.is_some(), code == 420, "{code}");
    }
}

/// RFC 8656 §12.2: the family is looked at when the attributes are right, and before the policy.
#[test]
fn the_checks_of_a_channel_bind_come_in_order() {
    let (mut world, _) = allocated();
    let bind = |world: &mut World, number, peer: &str| {
        world.bind_channel(client(), number, address(peer)).code()
    };
    assert_eq!(bind(&mut world, 0x3FFF, "[2001:db8:1::1]:1"), Some(400));
    assert_eq!(bind(&mut world, 0x4000, "[::1]:1"), Some(443));
    assert_eq!(bind(&mut world, 0x4000, "127.0.0.1:1"), Some(403));
}

/// RFC 8656 §5: whose request it is comes before what it asks.
#[test]
fn the_allocation_is_checked_before_the_attributes() {
    let (mut world, _) = allocated();
    let no_attributes = [];
    for method in [Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let bob = world.ask(&Login::bob(), client(), method, &no_attributes);
        assert_eq!(bob.code(), Some(441));
        let elsewhere = udp("203.0.113.8:1");
        let alice = world.ask(&Login::alice(), elsewhere, method, &no_attributes);
        assert_eq!(alice.code(), Some(437));
    }
}

/// RFC 8489 §6.3.1: an error changes nothing.
#[test]
fn after_every_refusal_the_allocation_is_as_it_was() {
    let (mut world, relay) = allocated();
    world.bind_channel(client(), 0x4000, peer());
    let bad_peer = (AttributeType::XOR_PEER_ADDRESS, vec![]);
    let refused = [
        (Method::ALLOCATE, vec![requested_transport(17)]),
        (Method::REFRESH, vec![requested_family(2), lifetime(0)]),
        (Method::CREATE_PERMISSION, vec![bad_peer.clone()]),
        (Method::CHANNEL_BIND, vec![channel_number(0x4001), bad_peer]),
    ];
    for (method, attributes) in refused {
        assert!(ask(&mut world, method, &attributes).code().is_some());
    }
    assert_eq!(world.relays.len(), 1);
    let out = world.peer_sends(relay, peer(), b"data");
    assert_ne!(out, crate::common::Out::Nothing);
}
