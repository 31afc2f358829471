//! NAT behaviour discovery (RFC 5780 §6, §7), and what it must not become (requirement S7).

use std::net::SocketAddr;

use turnstone::stun::AttributeType;
use turnstone::turn::{FiveTuple, NatDiscovery, Policy, Reason};

use crate::common::{Out, Response, World, address, tcp, udp};
use crate::dialogue::{UNKNOWN, ask, binding, client, dropped, raw, world, world_with};

const CHANGE_REQUEST: u16 = 0x0003;
const PADDING: u16 = 0x0026;
const RESPONSE_PORT: u16 = 0x0027;

const CHANGE_IP: &[u8] = &[0, 0, 0, 4];
const CHANGE_PORT: &[u8] = &[0, 0, 0, 2];
const CHANGE_BOTH: &[u8] = &[0, 0, 0, 6];
const CHANGE_NOTHING: &[u8] = &[0, 0, 0, 0];

/// A1:P1, A1:P2, A2:P1, A2:P2.
const FOUR: [&str; 4] = [
    "192.0.2.10:3478",
    "192.0.2.10:3479",
    "192.0.2.11:3478",
    "192.0.2.11:3479",
];

fn switch_on(policy: &mut Policy) {
    policy.nat_discovery = NatDiscovery::new(address(FOUR[0]), address(FOUR[3]));
    assert!(policy.nat_discovery.is_some());
}

fn on() -> World {
    world_with(switch_on)
}

/// The usual client, at the server's address `server`.
fn at(server: &str) -> FiveTuple {
    FiveTuple {
        server: address(server),
        ..client()
    }
}

/// Where the answer to `attributes` sent to `server` goes from and to, and the answer.
fn answer(
    world: &mut World,
    server: &str,
    attributes: &[(u16, &[u8])],
) -> (SocketAddr, SocketAddr, Response) {
    match world.send(at(server), &binding(attributes)) {
        Out::ToClient { to, message } => (to.server, to.client, Response(message)),
        other => panic!("no answer but {other:?}"),
    }
}

fn plain(response: &Response, kind: AttributeType) -> Option<SocketAddr> {
    let message = response.message();
    let attribute = message.attribute(kind)?;
    Some(message.address(&attribute).expect("an address"))
}

/// RFC 5780 §7.4, §6: without a second address there is no OTHER-ADDRESS, and nothing else changes.
#[test]
fn without_an_alternate_address_nothing_is_added() {
    let mut world = world();
    let response = world.send(client(), &binding(&[])).response();
    assert_eq!(response.0.len(), 20 + 12, "XOR-MAPPED-ADDRESS only");
}

/// RFC 5780 §6.1: without an alternate address CHANGE-REQUEST is answered with 420.
#[test]
fn without_an_alternate_address_change_request_is_unknown() {
    let mut world = world();
    for (kind, value) in [
        (CHANGE_REQUEST, CHANGE_BOTH),
        (PADDING, &[0; 4]),
        (RESPONSE_PORT, &[0x10, 0, 0, 0]),
    ] {
        let request = binding(&[(kind, value)]);
        let response = world.send(client(), &request).response();
        assert_eq!(response.code(), Some(420));
        let unknown = response.value(AttributeType::UNKNOWN_ATTRIBUTES);
        assert_eq!(unknown, Some(kind.to_be_bytes().to_vec()));
    }
}

/// RFC 5780 §6.1: without CHANGE-REQUEST the answer comes from where the request went; it carries
/// RESPONSE-ORIGIN, and OTHER-ADDRESS with the other address and port.
#[test]
fn every_one_of_the_four_names_itself_and_its_opposite() {
    for (i, server) in FOUR.iter().enumerate() {
        for attributes in [&[][..], &[(CHANGE_REQUEST, CHANGE_NOTHING)]] {
            let (from, to, response) = answer(&mut on(), server, attributes);
            assert_eq!((from, to), (address(server), client().client));
            let origin = plain(&response, AttributeType::RESPONSE_ORIGIN);
            assert_eq!(origin, Some(address(server)));
            let other = plain(&response, AttributeType::OTHER_ADDRESS);
            assert_eq!(other, Some(address(FOUR[3 - i])));
        }
    }
}

/// RFC 5780 §6.1, table 1: where the answer comes from, by flags and by where the request went.
#[test]
fn change_request_moves_the_source_of_the_answer() {
    let places = |flags: &[u8], server: usize| {
        let (from, _, response) = answer(&mut on(), FOUR[server], &[(CHANGE_REQUEST, flags)]);
        let origin = plain(&response, AttributeType::RESPONSE_ORIGIN);
        assert_eq!(origin, Some(from), "RESPONSE-ORIGIN says where from");
        let other = plain(&response, AttributeType::OTHER_ADDRESS);
        assert_eq!(other, Some(address(FOUR[3 - server])), "whatever the flags");
        FOUR.iter().position(|at| address(at) == from)
    };
    for server in 0..4 {
        assert_eq!(places(CHANGE_PORT, server), Some(server ^ 1));
        assert_eq!(places(CHANGE_IP, server), Some(server ^ 2));
        assert_eq!(places(CHANGE_BOTH, server), Some(server ^ 3));
    }
}

/// RFC 5780 §6.1: MUST include both MAPPED-ADDRESS and XOR-MAPPED-ADDRESS.
#[test]
fn the_mapped_address_is_told_plainly_and_xored() {
    let (_, _, response) = answer(&mut on(), FOUR[0], &[]);
    let mapped = plain(&response, AttributeType::MAPPED_ADDRESS);
    assert_eq!(mapped, Some(client().client));
    let mapped = response.xor_address(AttributeType::XOR_MAPPED_ADDRESS);
    assert_eq!(mapped, Some(client().client));
}

/// RFC 5780 §7.2: the other 30 bits mean nothing; §7.2 the attribute is four bytes long.
#[test]
fn change_request_is_four_bytes_of_which_two_bits_count() {
    let flags = &[0xFF, 0xFF, 0xFF, 0xF9];
    let (from, _, _) = answer(&mut on(), FOUR[0], &[(CHANGE_REQUEST, flags)]);
    assert_eq!(from, address(FOUR[0]));
    for value in [&[][..], &[0, 6], &[0; 8]] {
        let (from, to, response) = answer(&mut on(), FOUR[0], &[(CHANGE_REQUEST, value)]);
        assert_eq!(response.code(), Some(400));
        assert_eq!((from, to), (address(FOUR[0]), client().client));
    }
}

/// RFC 5780 §7.5: the answer goes to the source address of the request and the port that it names;
/// the mapped address is still the source.
#[test]
fn response_port_moves_the_destination_port() {
    for value in [&[0x10, 0x01][..], &[0x10, 0x01, 0, 0]] {
        let (from, to, response) = answer(&mut on(), FOUR[0], &[(RESPONSE_PORT, value)]);
        assert_eq!(from, address(FOUR[0]));
        assert_eq!(to, address("203.0.113.7:4097"));
        let mapped = response.xor_address(AttributeType::XOR_MAPPED_ADDRESS);
        assert_eq!(mapped, Some(client().client));
    }
}

/// RFC 5780 §7.5: 16 bits; nothing can be sent to port 0.
#[test]
fn a_response_port_that_cannot_be_is_refused_at_the_source() {
    for value in [&[][..], &[1], &[0, 0], &[0, 0, 1, 1], &[0; 8]] {
        let (_, to, response) = answer(&mut on(), FOUR[0], &[(RESPONSE_PORT, value)]);
        assert_eq!(response.code(), Some(400), "{value:?}");
        assert_eq!(to, client().client);
    }
}

/// RFC 5780 §6.1: CHANGE-REQUEST and RESPONSE-PORT go together (§4.6).
#[test]
fn change_request_and_response_port_go_together() {
    let attributes = [
        (CHANGE_REQUEST, CHANGE_BOTH),
        (RESPONSE_PORT, &[0x10, 0x01]),
    ];
    let (from, to, _) = answer(&mut on(), FOUR[1], &attributes);
    assert_eq!(from, address(FOUR[2]));
    assert_eq!(to, address("203.0.113.7:4097"));
}

/// RFC 5780 §6.1, §10: PADDING with RESPONSE-PORT is refused with 400, at the source.
#[test]
fn padding_with_response_port_is_refused() {
    let attributes = [(PADDING, &[0; 8][..]), (RESPONSE_PORT, &[0x10, 0x01])];
    let (_, to, response) = answer(&mut on(), FOUR[0], &attributes);
    assert_eq!(response.code(), Some(400));
    assert_eq!(to, client().client);
}

/// RFC 5780 §6.1: PADDING is answered with PADDING; as much as was sent, so that nothing is gained.
#[test]
fn padding_is_answered_with_as_much() {
    let (_, _, without) = answer(&mut on(), FOUR[0], &[]);
    assert_eq!(without.value(AttributeType::PADDING), None);
    for (sent, expected) in [(0, 0), (1, 4), (1500, 1500), (9001, 9004)] {
        let padding = vec![0x55; sent];
        let (_, _, response) = answer(&mut on(), FOUR[0], &[(PADDING, &padding)]);
        let value = response.value(AttributeType::PADDING).expect("PADDING");
        assert_eq!(value, vec![0; expected], "zeros");
    }
}

/// RFC 5780 §7.6: the datagram is not over 64K.
#[test]
fn padding_never_makes_a_datagram_over_64k() {
    let padding = vec![0; 65_507 - 24 - 8];
    let mut request = binding(&[(PADDING, &padding)]);
    // With FINGERPRINT, so that the answer has one too.
    let length = u16::try_from(request.len() - 20 + 8).expect("it fits");
    request[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = crc32fast::hash(&request) ^ 0x5354_554E;
    request.extend_from_slice(&[0x80, 0x28, 0, 4]);
    request.extend_from_slice(&sum.to_be_bytes());
    let response = on().send(client(), &request).response();
    assert!(response.message().has_fingerprint());
    assert!((65_000..=65_507).contains(&response.0.len()));
}

/// S7: nobody is sent more than they pay for: a padded answer is hardly longer than its request.
#[test]
fn padding_amplifies_nothing() {
    for sent in [0, 4, 100, 1500, 60_000] {
        let request = binding(&[(PADDING, &vec![0; sent])]);
        let response = on().send(client(), &request).response();
        assert!(response.0.len() <= request.len() + 4 * 12);
    }
}

/// RFC 5780 §3, §7: these attributes are for UDP; over TCP they are unknown, and the rest is served.
#[test]
fn over_tcp_nothing_can_be_changed() {
    let mut world = on();
    for (kind, value) in [
        (CHANGE_REQUEST, CHANGE_BOTH),
        (PADDING, &[0; 4]),
        (RESPONSE_PORT, &[0x10, 0x01]),
    ] {
        let request = binding(&[(kind, value)]);
        let response = world.send(tcp("203.0.113.7:4000"), &request).response();
        assert_eq!(response.code(), Some(420));
    }
    let response = world
        .send(tcp("203.0.113.7:4000"), &binding(&[]))
        .response();
    let other = plain(&response, AttributeType::OTHER_ADDRESS);
    assert_eq!(other, Some(address(FOUR[3])));
}

/// RFC 5780 §7: these attributes belong to Binding; in other requests they are unknown.
#[test]
fn other_methods_know_none_of_it() {
    let mut world = on();
    let attributes = [
        (AttributeType::REQUESTED_TRANSPORT, vec![17, 0, 0, 0]),
        (AttributeType::CHANGE_REQUEST, CHANGE_BOTH.to_vec()),
    ];
    let response = ask(&mut world, turnstone::stun::Method::ALLOCATE, &attributes);
    assert_eq!(response.code(), Some(420));
}

/// RFC 8489 §6.3.1: what is unknown is still refused, and what is known is not listed.
#[test]
fn other_unknown_attributes_are_still_refused() {
    let attributes = [(CHANGE_REQUEST, CHANGE_BOTH), (UNKNOWN.0, &[][..])];
    let (from, _, response) = answer(&mut on(), FOUR[0], &attributes);
    assert_eq!(response.code(), Some(420));
    assert_eq!(
        from,
        address(FOUR[0]),
        "an error comes from where it was asked"
    );
    let unknown = response.value(AttributeType::UNKNOWN_ATTRIBUTES);
    assert_eq!(unknown, Some(UNKNOWN.0.to_be_bytes().to_vec()));
}

/// RFC 5780 §6: an address that is none of the four has no alternate.
#[test]
fn an_address_apart_has_no_alternate() {
    let mut world = on();
    let apart = udp("[2001:db8:2::7]:4000");
    let response = world.send(apart, &binding(&[])).response();
    assert_eq!(plain(&response, AttributeType::OTHER_ADDRESS), None);
    let request = binding(&[(CHANGE_REQUEST, CHANGE_BOTH)]);
    assert_eq!(world.send(apart, &request).response().code(), Some(420));
}

/// RFC 5780 §7.3, §7.4 behind a 1:1 NAT: clients are told what they can reach; the source is local.
#[test]
fn behind_a_nat_clients_are_told_the_public_addresses() {
    let mut world = world_with(|policy| {
        switch_on(policy);
        let public = |ip: std::net::IpAddr| match ip == address(FOUR[0]).ip() {
            true => address("203.0.113.50:0").ip(),
            false => address("203.0.113.51:0").ip(),
        };
        policy.nat_discovery = policy.nat_discovery.map(|four| four.seen_as(public));
    });
    let (from, _, response) = answer(&mut world, FOUR[0], &[(CHANGE_REQUEST, CHANGE_BOTH)]);
    assert_eq!(from, address(FOUR[3]));
    let origin = plain(&response, AttributeType::RESPONSE_ORIGIN);
    assert_eq!(origin, Some(address("203.0.113.51:3479")));
}

/// RFC 5780 §7.2: CHANGE-REQUEST is for Binding requests; an indication is a keep-alive.
#[test]
fn an_indication_draws_nothing_from_any_address() {
    let mut world = on();
    let indication = raw(0x0011, &[(CHANGE_REQUEST, CHANGE_BOTH)]);
    assert_eq!(world.send(client(), &indication), Out::Nothing);
}

/// S7: the limiter holds for all four addresses together and by the source, whatever port is named.
#[test]
fn the_limiter_holds_whatever_is_asked_for() {
    let mut world = world_with(|policy| {
        switch_on(policy);
        policy.limits.reflection_bytes_per_second = 3200;
    });
    let mut answered = 0;
    for round in 0..1000_u16 {
        let server = FOUR[usize::from(round % 4)];
        let port = (1024 + round).to_be_bytes();
        let attributes = [(CHANGE_REQUEST, CHANGE_BOTH), (RESPONSE_PORT, &port[..])];
        if let Out::ToClient { message, .. } = world.send(at(server), &binding(&attributes)) {
            answered += message.len();
            assert!(world.server.poll_response().is_none(), "one for one");
        }
    }
    assert!((3000..=3200).contains(&answered), "{answered} bytes");
    assert!(dropped(&world, Reason::RateLimited) > 900);
}
