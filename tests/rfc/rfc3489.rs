//! Clients of RFC 3489: no magic cookie, 16 bytes of transaction id (RFC 5389 §12.2).

use turnstone::turn::{FiveTuple, Reason, Transport};

use crate::common::{Out, World, tcp, udp};
use crate::dialogue::{assert_dropped, client, dropped, world, world_with};

const ID: &[u8; 16] = b"sixteen bytes id";

fn on() -> World {
    world_with(|policy| policy.rfc3489 = true)
}

/// A message of RFC 3489 of type `bits` with `attributes` as bytes.
fn classic(bits: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).expect("short");
    let mut message = [bits.to_be_bytes(), length.to_be_bytes()].concat();
    message.extend_from_slice(ID);
    message.extend_from_slice(attributes);
    message
}

fn answer(world: &mut World, request: &[u8]) -> Vec<u8> {
    match world.send(client(), request) {
        Out::ToClient { to, message } => {
            assert_eq!(to, client());
            message
        }
        other => panic!("no answer but {other:?}"),
    }
}

/// RFC 5389 §12.2: the whole id is echoed, and the address stands in MAPPED-ADDRESS.
#[test]
fn a_binding_request_without_cookie_gets_its_mapped_address() {
    // 203.0.113.7:4000
    let mapped = [0, 1, 0, 8, 0, 1, 0x0F, 0xA0, 203, 0, 113, 7];
    let plain = answer(&mut on(), &classic(0x0001, &[]));
    assert_eq!(plain, classic(0x0101, &mapped));
    // Many clients always send CHANGE-REQUEST, and a USERNAME is known.
    for ignored in [&[0, 3, 0, 4, 0, 0, 0, 0][..], b"\0\x06\0\x04name"] {
        let response = answer(&mut on(), &classic(0x0001, ignored));
        assert_eq!(response, plain);
    }
}

/// RFC 5389 §12.2: RESPONSE-ADDRESS and CHANGE-REQUEST are unknown comprehension-required attributes.
#[test]
fn what_asks_for_another_address_is_refused_with_420() {
    for attribute in [
        &[0, 3, 0, 4, 0, 0, 0, 6][..],
        &[0, 2, 0, 8, 0, 1, 0x10, 0, 192, 0, 2, 1],
    ] {
        let response = answer(&mut on(), &classic(0x0001, attribute));
        assert_eq!(response[..2], [0x01, 0x11]);
        assert_eq!(response[4..20], ID[..]);
        assert_eq!(response[20..28], [0, 9, 0, 21, 0, 0, 4, 20]);
        let unknown = [0, 10, 0, 4, 0, attribute[1], 0, attribute[1]];
        assert_eq!(response[response.len() - 8..], unknown);
    }
}

/// Nothing else is served to them: no other method or class, nothing malformed, nothing over TCP.
#[test]
fn nothing_but_a_binding_request_is_served() {
    for bits in [
        0x0002, 0x0003, 0x0004, 0x0008, 0x0009, 0x0011, 0x0101, 0x0111,
    ] {
        assert_dropped(&mut on(), &classic(bits, &[]), Reason::Malformed);
    }
    let mut trailing = classic(0x0001, &[]);
    trailing.push(0);
    assert_dropped(&mut on(), &trailing, Reason::Malformed);
    let overrun = classic(0x0001, &[0, 6, 0, 9]);
    assert_dropped(&mut on(), &overrun, Reason::Malformed);
    let mut world = on();
    let out = world.send(tcp("203.0.113.7:4000"), &classic(0x0001, &[]));
    assert_eq!(out, Out::Nothing);
}

/// RFC 8489 §11: over DTLS all requests without the magic cookie MUST generate a 500 and indications MUST
/// be ignored, whatever the switch.
#[test]
fn over_dtls_every_request_without_cookie_gets_a_server_error() {
    let from = FiveTuple {
        transport: Transport::Dtls,
        ..client()
    };
    for mut world in [on(), world()] {
        for (request, response) in [(0x0001, 0x0111), (0x0002, 0x0112), (0x0003, 0x0113)] {
            let Out::ToClient { to, message } = world.send(from, &classic(request, &[])) else {
                panic!("no answer");
            };
            let error = [&[0, 9, 0, 16, 0, 0, 5, 0][..], b"Server Error"].concat();
            assert_eq!((to, message), (from, classic(response, &error)));
        }
        for bits in [0x0011, 0x0017, 0x0101, 0x0111] {
            assert_eq!(world.send(from, &classic(bits, &[])), Out::Nothing);
        }
    }
}

/// The switch.
#[test]
fn switched_off_they_get_nothing() {
    assert_dropped(&mut world(), &classic(0x0001, &[]), Reason::Malformed);
}

/// S7: they are bounded as everybody is.
#[test]
fn the_limiter_holds_for_them_too() {
    let mut world = world_with(|policy| {
        policy.rfc3489 = true;
        policy.limits.reflection_bytes_per_second = 320;
    });
    for _ in 0..100 {
        world.send(udp("203.0.113.9:1"), &classic(0x0001, &[]));
    }
    assert_eq!(dropped(&world, Reason::RateLimited), 90);
}
