//! Binding (RFC 8489 §3, §6.3.1.1, §12).

use turnstone::stun::AttributeType;
use turnstone::turn::Reason;

use crate::common::{Login, tcp, udp};
use crate::dialogue::{assert_dropped, binding, client, raw, world};

/// RFC 8489 §6.3.1.1: the source transport address of the request.
#[test]
fn a_binding_response_tells_the_source_of_the_request() {
    let mut world = world();
    let clients = [
        udp("203.0.113.7:1"),
        udp("203.0.113.7:65535"),
        tcp("203.0.113.8:4000"),
        udp("[2001:db8:2::7]:4000"),
        tcp("[2001:db8:2::7]:4000"),
    ];
    for from in clients {
        let answer = world.send(from, &binding(&[])).response();
        assert_eq!(answer.code(), None);
        let mapped = answer.xor_address(AttributeType::XOR_MAPPED_ADDRESS);
        assert_eq!(mapped, Some(from.client));
    }
}

/// RFC 8489 §14.2, on the bytes: the cookie over IPv4, cookie and transaction id over IPv6.
#[test]
fn the_mapped_address_is_xored_with_cookie_and_transaction() {
    let mut world = world();
    let answer = world.send(udp("192.0.2.1:32853"), &binding(&[])).response();
    let value = answer.value(AttributeType::XOR_MAPPED_ADDRESS);
    assert_eq!(value, Some(vec![0, 1, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43]));
    let answer = world
        .send(udp("[2001:db8::1]:32853"), &binding(&[]))
        .response();
    let value = answer.value(AttributeType::XOR_MAPPED_ADDRESS).unwrap();
    assert_eq!(value[..8], [0, 2, 0xA1, 0x47, 0x01, 0x13, 0xA9, 0xFA]);
    assert_eq!(value[8..19], b"transaction"[..]);
    assert_eq!(value[19], b'!' ^ 1);
}

/// RFC 8489 §12: a basic server does not use credentials.
#[test]
fn binding_asks_for_no_credentials() {
    let mut world = world();
    let answer = world.send(client(), &binding(&[])).response();
    assert_eq!(answer.code(), None);
    assert_eq!(answer.value(AttributeType::NONCE), None);
}

/// RFC 8489 §6.3: what is known but unexpected is ignored.
#[test]
fn credentials_in_a_binding_request_are_ignored() {
    let mut world = world();
    let stranger = Login::new("nobody", "nothing");
    let transaction = world.transaction();
    let request = stranger.sign(transaction, turnstone::stun::Method::BINDING, &[], b"nonce");
    assert_eq!(world.send(client(), &request).response().code(), None);
}

/// RFC 8489 §6.3.1: Binding is idempotent.
#[test]
fn a_retransmitted_binding_request_is_answered_alike() {
    let mut world = world();
    let request = binding(&[(0x8022, b"test")]);
    let first = world.send(client(), &request).response();
    assert_eq!(world.send(client(), &request).response(), first);
}

/// RFC 8489 §6.3.2: its receipt has refreshed the NATs' bindings; nothing else happens.
#[test]
fn a_binding_indication_is_a_keep_alive() {
    let mut world = world();
    assert_dropped(&mut world, &raw(0x0011, &[]), Reason::KeepAlive);
    assert!(world.server.poll_timeout().is_none());
}
