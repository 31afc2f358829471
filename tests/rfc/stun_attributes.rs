//! Attributes: padding, duplicates, the unknown and the unexpected (RFC 8489 §6.3, §14).

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::Reason;

use crate::common::{Login, Out, lifetime, requested_transport, send_indication, xor_peer_address};
use crate::dialogue::{
    UNKNOWN, allocated, ask, assert_dropped, binding, client, code, peer, raw, world,
};

/// RFC 8489 §14.
#[test]
fn an_attribute_that_reaches_past_the_message_is_discarded() {
    let mut world = world();
    for length in [5, 8, 0xFFFF_u16] {
        let mut request = binding(&[(0x8022, b"test")]);
        request[22..24].copy_from_slice(&length.to_be_bytes());
        assert_dropped(&mut world, &request, Reason::Malformed);
    }
}

/// RFC 8489 §14: padding is ignored by the receiver.
#[test]
fn padding_of_any_value_is_accepted() {
    let mut world = world();
    let mut request = binding(&[(0x8022, b"t")]);
    request[25..28].fill(0xFF);
    assert_eq!(world.send(client(), &request).response().code(), None);
}

/// RFC 8489 §14: padding is zero on sending.
#[test]
fn padding_of_what_the_server_sends_is_zero() {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    let refusal = world.nonce(client()).len();
    let challenge = world
        .send(client(), &raw(0x0003, &[(0x8022, b"test")]))
        .response();
    assert_ne!((refusal % 4, "Unauthenticated".len() % 4), (0, 0));
    let data = world.peer_sends(relay, peer(), b"\xFF").response();
    for response in [challenge, data] {
        for attribute in response.message().attributes() {
            let end = attribute.offset + 4 + attribute.value.len();
            let padding = &response.0[end..end.next_multiple_of(4)];
            assert!(padding.iter().all(|byte| *byte == 0));
        }
    }
}

/// RFC 8489 §14: only the first occurrence counts.
#[test]
fn the_first_of_several_attributes_of_one_type_counts() {
    let (mut world, _) = allocated();
    let twice = [lifetime(1200), lifetime(0)];
    let answer = ask(&mut world, Method::REFRESH, &twice);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(1200)));
}

/// RFC 8489 §6.3.
#[test]
fn unknown_comprehension_optional_attributes_are_ignored() {
    let mut world = world();
    let unknown = (AttributeType(0xFFFE), vec![1, 2, 3]);
    let attributes = [requested_transport(17), unknown];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), None);
    let request = binding(&[(0x8000, b"x"), (0xFFFF, b"")]);
    assert_eq!(world.send(client(), &request).response().code(), None);
}

/// RFC 8489 §6.3.1, §14.13.
#[test]
fn unknown_comprehension_required_attributes_are_refused_and_all_listed() {
    let mut world = world();
    let request = binding(&[
        (0x7FFE, b"x"),
        (0x8022, b"test"),
        (0x0002, b"y"),
        (0x7000, b""),
    ]);
    let answer = world.send(client(), &request).response();
    assert_eq!(answer.code(), Some(420));
    let listed = answer.value(AttributeType::UNKNOWN_ATTRIBUTES);
    assert_eq!(listed, Some(vec![0x7F, 0xFE, 0x00, 0x02, 0x70, 0x00]));
}

/// RFC 8489 §6.3: authentication comes first.
#[test]
fn unknown_attributes_are_looked_for_after_authentication() {
    let mut world = world();
    let attributes = [requested_transport(17), (UNKNOWN, vec![])];
    let request = world.request(Method::ALLOCATE, &attributes);
    assert_eq!(world.send(client(), &request).response().code(), Some(401));
    let refusal = ask(&mut world, Method::ALLOCATE, &attributes);
    assert_eq!(refusal.code(), Some(420));
    assert!(refusal.is_signed_by(&Login::alice()));
}

/// RFC 8489 §6.3.1: before any other check of the method.
#[test]
fn every_method_refuses_unknown_comprehension_required_attributes() {
    let mut world = world();
    let methods = [
        Method::ALLOCATE,
        Method::REFRESH,
        Method::CREATE_PERMISSION,
        Method::CHANNEL_BIND,
    ];
    for method in methods {
        assert_eq!(code(&mut world, method, &[(UNKNOWN, vec![])]), Some(420));
    }
}

/// RFC 8489 §6.3.
#[test]
fn known_but_unexpected_attributes_are_ignored() {
    let mut world = world();
    let unexpected = [
        requested_transport(17),
        (AttributeType::DATA, vec![1]),
        (AttributeType::ERROR_CODE, vec![0, 0, 4, 0]),
        (AttributeType::CHANNEL_NUMBER, vec![]),
        (AttributeType::XOR_MAPPED_ADDRESS, vec![9]),
    ];
    assert_eq!(code(&mut world, Method::ALLOCATE, &unexpected), None);
    let request = binding(&[(0x000D, &[0; 4]), (0x0006, b"nobody")]);
    assert_eq!(world.send(client(), &request).response().code(), None);
}

/// RFC 8489 §6.3.2.
#[test]
fn an_indication_with_unknown_comprehension_required_attributes_is_discarded() {
    let (mut world, _) = allocated();
    world.permit(client(), peer());
    let mut send = send_indication(peer(), b"data");
    let known = [0x80, 0x22, 0, 0];
    let unknown = [0x7F, 0xFE, 0, 0];
    send[3] += 4;
    send.extend_from_slice(&unknown);
    assert_dropped(&mut world, &send, Reason::UnexpectedIndication);
    let place = send.len() - 4;
    send[place..].copy_from_slice(&known);
    assert!(matches!(world.send(client(), &send), Out::ToPeer { .. }));
}

/// RFC 8489 §14.1, §14.2: the first byte of an address is ignored.
#[test]
fn the_reserved_byte_of_an_address_is_ignored() {
    let (mut world, _) = allocated();
    let (kind, mut value) = world.xor_peer(peer());
    value[0] = 0xA5;
    let answer = ask(&mut world, Method::CREATE_PERMISSION, &[(kind, value)]);
    assert_eq!(answer.code(), None);
}

/// RFC 8489 §14.1: 32 bits of IPv4, 128 of IPv6, no other family.
#[test]
fn an_address_of_another_family_or_length_is_a_bad_request() {
    let (mut world, _) = allocated();
    let (kind, good) = xor_peer_address(peer(), turnstone::stun::TransactionId([0; 12]));
    let mut other_family = good.clone();
    other_family[1] = 3;
    let mut long = good.clone();
    long.push(0);
    let mut v6_of_four_bytes = good.clone();
    v6_of_four_bytes[1] = 2;
    for value in [
        vec![],
        good[..7].to_vec(),
        other_family,
        long,
        v6_of_four_bytes,
    ] {
        let answer = ask(&mut world, Method::CREATE_PERMISSION, &[(kind, value)]);
        assert_eq!(answer.code(), Some(400));
    }
}
