//! Allocate: what it is answered with when all is well (RFC 8656 §7.2).

use std::collections::BTreeSet;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{External, FiveTuple, RelaySource};

use crate::common::{Login, Out, address, ip, requested_family, requested_transport, tcp, udp};
use crate::dialogue::{ask, client, code, hears, peer, world, world_with};

const UDP: u8 = 17;

/// RFC 8656 §7.2: relayed address, lifetime and mapped address.
#[test]
fn a_success_response_tells_relayed_address_lifetime_and_mapped_address() {
    let mut world = world();
    let answer = ask(&mut world, Method::ALLOCATE, &[requested_transport(UDP)]);
    let relayed = answer
        .xor_address(AttributeType::XOR_RELAYED_ADDRESS)
        .unwrap();
    assert!(world.relays.contains_key(&relayed));
    assert_eq!(answer.lifetime(), Some(600));
    let mapped = answer.xor_address(AttributeType::XOR_MAPPED_ADDRESS);
    assert_eq!(mapped, Some(client().client));
    assert_eq!(answer.value(AttributeType::RESERVATION_TOKEN), None);
}

/// RFC 8656 §5.
#[test]
fn allocate_and_refresh_responses_name_the_software() {
    let mut world = world();
    for method in [
        Method::REFRESH,
        Method::ALLOCATE,
        Method::ALLOCATE,
        Method::REFRESH,
    ] {
        let answer = ask(&mut world, method, &[requested_transport(UDP)]);
        let software = answer.value(AttributeType::SOFTWARE);
        assert_eq!(software, Some(b"Turnstone".to_vec()), "{:?}", answer.code());
    }
}

/// RFC 8656 §7.2 step 6, §18.7: the R bit is clear, so no reservation is asked for.
#[test]
fn an_even_port_is_even() {
    for port in 4000..4020 {
        let mut world = world();
        let attributes = [
            requested_transport(UDP),
            (AttributeType::EVEN_PORT, vec![0x00]),
        ];
        let from = udp(&format!("203.0.113.7:{port}"));
        let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        let relayed = answer.xor_address(AttributeType::XOR_RELAYED_ADDRESS);
        assert_eq!(relayed.unwrap().port() % 2, 0);
    }
}

/// RFC 8656 §7.2 step 7: IPv4 unless the client asks for another, whatever family the client has.
#[test]
fn without_a_requested_family_the_relayed_address_is_ipv4() {
    let mut world = world();
    for from in [client(), udp("[2001:db8:2::7]:4000")] {
        assert_eq!(world.allocate(from).ip(), ip("192.0.2.10"));
    }
}

/// RFC 8656 §7.2 step 7.
#[test]
fn the_relayed_address_is_of_the_requested_family() {
    let mut world = world();
    assert!(world.allocate_family(client(), Some(1)).is_ipv4());
    assert!(
        world
            .allocate_family(udp("203.0.113.7:4001"), Some(2))
            .is_ipv6()
    );
    assert!(
        world
            .allocate_family(udp("[2001:db8:2::7]:1"), Some(2))
            .is_ipv6()
    );
    assert!(
        world
            .allocate_family(udp("[2001:db8:2::7]:2"), Some(1))
            .is_ipv4()
    );
}

/// RFC 8656 §18.6, §18.8: reserved bits are ignored.
#[test]
fn reserved_bits_of_transport_and_family_are_ignored() {
    let mut world = world();
    let attributes = [
        (AttributeType::REQUESTED_TRANSPORT, vec![UDP, 0xFF, 1, 2]),
        (AttributeType::REQUESTED_ADDRESS_FAMILY, vec![2, 0xFF, 1, 2]),
    ];
    let answer = ask(&mut world, Method::ALLOCATE, &attributes);
    let relayed = answer
        .xor_address(AttributeType::XOR_RELAYED_ADDRESS)
        .unwrap();
    assert!(relayed.is_ipv6());
}

/// RFC 8656 §7.2: ports of the dynamic range, in no order.
#[test]
fn ports_are_random_ones_of_the_dynamic_range() {
    let mut world = world();
    let ports: Vec<u16> = (1..=100)
        .map(|port| world.allocate(udp(&format!("203.0.113.7:{port}"))).port())
        .collect();
    assert!(ports.iter().all(|port| *port >= 49_152));
    let ascending = ports.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((20..80).contains(&ascending), "{ports:?}");
    let neighbours = ports
        .windows(2)
        .filter(|pair| pair[0].abs_diff(pair[1]) < 3)
        .count();
    assert!(neighbours < 5, "{ports:?}");
}

/// RFC 8656 §6: relayed transport addresses are unique across all allocations.
#[test]
fn relayed_addresses_are_unique() {
    let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_009);
    let relays: BTreeSet<_> = (1..=10)
        .map(|port| world.allocate(udp(&format!("203.0.113.7:{port}"))))
        .collect();
    assert_eq!(relays.len(), 10);
}

/// RFC 8656 §3, §6: the five-tuple is addresses, ports and transport of both ends.
#[test]
fn allocations_are_told_apart_by_all_of_the_five_tuple() {
    let mut world = world();
    let other_server = |server| FiveTuple {
        server: address(server),
        ..client()
    };
    let five_tuples = [
        client(),
        udp("203.0.113.7:4001"),
        udp("203.0.113.8:4000"),
        tcp("203.0.113.7:4000"),
        other_server("192.0.2.10:3479"),
        other_server("192.0.2.11:3478"),
    ];
    let relays: BTreeSet<_> = five_tuples.map(|from| world.allocate(from)).into();
    assert_eq!(relays.len(), five_tuples.len());
    for from in five_tuples {
        assert!(world.server.has_allocation(&from));
    }
}

/// RFC 8656 §7.2: the list of permissions is initially empty.
#[test]
fn a_new_allocation_has_no_permissions() {
    let mut world = world();
    let relay = world.allocate(client());
    assert!(!hears(&mut world, relay, peer()));
}

/// RFC 8656 §7.2: the response is sent back on the five-tuple.
#[test]
fn the_response_that_had_to_wait_goes_back_on_the_five_tuple() {
    let mut world = world();
    for from in [client(), tcp("[2001:db8:2::7]:4000")] {
        let transport = [requested_transport(UDP)];
        let request = world.signed(&Login::alice(), from, Method::ALLOCATE, &transport);
        let Out::ToClient { to, .. } = world.send(from, &request) else {
            panic!("no response");
        };
        assert_eq!(to, from);
    }
}

/// RFC 8656 §7.2: behind a 1:1 NAT the relayed address is the one that peers see.
#[test]
fn the_relayed_address_is_the_public_one() {
    let mut world = world_with(|policy| {
        policy.relay.external.push(External {
            local: None,
            public: ip("198.51.100.200"),
        });
    });
    let relayed = world.allocate(client());
    assert_eq!(relayed.ip(), ip("198.51.100.200"));
    let bound = address(&format!("192.0.2.10:{}", relayed.port()));
    assert!(world.relays.contains_key(&bound));
}

/// RFC 8656 §7.2 step 7: with no address configured it is the one that the client reached.
#[test]
fn the_relayed_address_may_be_the_one_that_the_client_reached() {
    let as_reached = RelaySource::AsReached { otherwise: None };
    let mut world = world_with(|policy| {
        policy.relay.v4 = as_reached.clone();
        policy.relay.v6 = as_reached.clone();
    });
    let mut from = client();
    from.server = address("192.0.2.77:3478");
    assert_eq!(world.allocate(from).ip(), ip("192.0.2.77"));
    let v6 = [requested_transport(UDP), requested_family(2)];
    assert_eq!(code(&mut world, Method::ALLOCATE, &v6), Some(440));
}
