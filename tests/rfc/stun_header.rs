//! The header and who may say what (RFC 8489 §5, §6.3).

use turnstone::stun::{Class, Method};
use turnstone::turn::Reason;

use crate::common::{Login, Out, Response, address, lifetime, requested_transport, tcp, udp};
use crate::dialogue::{allocated, assert_dropped, binding, client, raw, world};

/// RFC 8489 §5.
#[test]
fn the_two_most_significant_bits_of_a_message_are_zero() {
    let mut world = world();
    let mut request = binding(&[]);
    for bits in [0x80, 0xC0] {
        request[0] = bits;
        assert_dropped(&mut world, &request, Reason::Unclassified);
    }
}

/// RFC 8489 §5.
#[test]
fn a_message_without_the_magic_cookie_is_discarded() {
    let mut world = world();
    for byte in 4..8 {
        let mut request = binding(&[]);
        request[byte] ^= 1;
        assert_dropped(&mut world, &request, Reason::Malformed);
    }
}

/// RFC 8489 §5: the last two bits of the length are zero.
#[test]
fn a_length_that_is_no_multiple_of_four_is_discarded() {
    let mut world = world();
    for extra in 1..4 {
        let mut request = binding(&[]);
        request[3] = extra;
        request.resize(20 + usize::from(extra), 0);
        assert_dropped(&mut world, &request, Reason::Malformed);
    }
}

/// RFC 8489 §6.3: the length is sensible.
#[test]
fn a_length_other_than_that_of_the_datagram_is_discarded() {
    let mut world = world();
    let mut request = binding(&[(0x8022, b"test")]);
    for length in [0, 4, 12, 0xFC] {
        request[3] = length;
        assert_dropped(&mut world, &request, Reason::Malformed);
    }
    for length in 0..20 {
        let reason = if length == 0 {
            Reason::Unclassified
        } else {
            Reason::Malformed
        };
        assert_dropped(&mut world, &binding(&[])[..length], reason);
    }
}

/// RFC 8489 §5: the types of Binding, and those of every method of RFC 8656 §17.
#[test]
fn a_response_has_the_method_of_its_request_and_a_response_class() {
    let mut world = world();
    let cases = [
        (0x0001, 0x0101),
        (0x0003, 0x0113),
        (0x0004, 0x0114),
        (0x0008, 0x0118),
        (0x0009, 0x0119),
    ];
    for (request, response) in cases {
        let packet = raw(request, &[(0x8022, b"test")]);
        let answer = world.send(client(), &packet).response();
        assert_eq!(&answer.0[..2], u16::to_be_bytes(response));
    }
}

/// RFC 8489 §5.
#[test]
fn success_and_error_responses_echo_the_transaction_id() {
    let mut world = world();
    for packet in [binding(&[]), raw(0x0003, &[(0x0019, &[17, 0, 0, 0])])] {
        let answer = world.send(client(), &packet).response();
        assert_eq!(answer.0[4..20], packet[4..20]);
    }
}

/// RFC 8489 §6.3: the method is a supported one.
#[test]
fn a_request_of_an_unknown_method_is_discarded() {
    let mut world = world();
    for bits in [0x0000, 0x0002, 0x0005, 0x000A, 0x000B, 0x0080, 0x02EF] {
        let packet = raw(bits, &[(0x8022, b"test")]);
        assert_dropped(&mut world, &packet, Reason::UnknownMethod);
    }
}

/// RFC 8489 §6.3, RFC 8656 §17: Send and Data are indications only.
#[test]
fn a_request_of_a_method_that_has_indications_only_is_discarded() {
    let (mut world, _) = allocated();
    for method in [Method::SEND, Method::DATA] {
        let request = world.signed(&Login::alice(), client(), method, &[]);
        assert_dropped(&mut world, &request, Reason::UnknownMethod);
    }
}

/// RFC 8489 §6.3, RFC 8656 §17: the other methods have requests only.
#[test]
fn an_indication_of_a_method_that_has_requests_only_is_discarded() {
    let (mut world, _) = allocated();
    for bits in [0x0013, 0x0014, 0x0018, 0x0019] {
        let packet = raw(bits, &[(0x000D, &[0; 4])]);
        assert_dropped(&mut world, &packet, Reason::UnexpectedIndication);
    }
    assert!(world.server.has_allocation(&client()));
}

/// RFC 8656 §11.3: Data indications come from the server.
#[test]
fn a_data_indication_from_a_client_is_discarded() {
    let (mut world, _) = allocated();
    let packet = raw(0x0017, &[(0x0013, b"data")]);
    assert_dropped(&mut world, &packet, Reason::UnexpectedIndication);
}

/// RFC 8489 §6.3: the server has no transaction in progress.
#[test]
fn a_response_from_a_client_is_discarded() {
    let mut world = world();
    for bits in [0x0101, 0x0111, 0x0103, 0x0113] {
        assert_dropped(&mut world, &raw(bits, &[]), Reason::UnexpectedResponse);
    }
}

/// RFC 8489 §6.3.2.
#[test]
fn no_response_is_generated_for_an_indication() {
    let mut world = world();
    assert_dropped(&mut world, &raw(0x0011, &[]), Reason::KeepAlive);
}

/// RFC 8489 §6.3.1.2: the response goes back on the five-tuple of the request.
#[test]
fn a_response_goes_to_where_the_request_came_from() {
    let mut world = world();
    let elsewhere = {
        let mut from = client();
        from.server = address("192.0.2.11:3479");
        from
    };
    let clients = [
        client(),
        tcp("203.0.113.7:4000"),
        udp("[2001:db8:2::7]:4000"),
        elsewhere,
    ];
    for from in clients {
        for request in [binding(&[]), raw(0x0003, &[(0x0019, &[17, 0, 0, 0])])] {
            let Out::ToClient { to, .. } = world.send(from, &request) else {
                panic!("no response");
            };
            assert_eq!(to, from);
        }
    }
}

/// RFC 8489 §5: the length field is the size of the message without its header.
#[test]
fn the_length_of_every_response_is_its_size() {
    let (mut world, _) = allocated();
    let methods = [
        (Method::ALLOCATE, requested_transport(17)),
        (Method::REFRESH, lifetime(600)),
        (Method::CREATE_PERMISSION, lifetime(1)),
        (Method::CHANNEL_BIND, lifetime(1)),
    ];
    for (method, attribute) in methods {
        let Response(bytes) = world.ask(&Login::alice(), client(), method, &[attribute]);
        let length = u16::from_be_bytes([bytes[2], bytes[3]]);
        assert_eq!(usize::from(length) + 20, bytes.len());
        assert_ne!(Response(bytes).message().class(), Class::Request);
    }
}
