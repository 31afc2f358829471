//! ChannelBind (RFC 8656 §12, §12.2).

use turnstone::stun::{AttributeType, ChannelRange, Method};
use turnstone::turn::{Counter, Reason};

use crate::common::{Login, Out, World, address, channel_data, channel_number, lifetime, udp};
use crate::dialogue::{
    allocated, ask, assert_dropped, client, code, hears, peer, reaches, seconds, world, world_with,
};

fn bind(world: &mut World, number: u16, peer: &str) -> Option<u16> {
    world.bind_channel(client(), number, address(peer)).code()
}

/// RFC 8656 §12.2: no required attributes in the response.
#[test]
fn a_bound_channel_relays_both_ways() {
    let (mut world, relay) = allocated();
    let answer = world.bind_channel(client(), 0x4000, peer());
    assert_eq!(answer.code(), None);
    assert_eq!(answer.message().attributes().count(), 0);
    let out = world.send(client(), &channel_data(0x4000, b"ping"));
    let payload = b"ping".to_vec();
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer: peer(),
            payload
        }
    );
    let out = world.peer_sends(relay, peer(), b"pong");
    let message = channel_data(0x4000, b"pong");
    assert_eq!(
        out,
        Out::ToClient {
            to: client(),
            message
        }
    );
}

/// RFC 8656 §12.2: a ChannelBind installs a permission for the address, whatever the port.
#[test]
fn a_channel_brings_a_permission() {
    let (mut world, relay) = allocated();
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:9000"), None);
    let other_port = address("198.51.100.1:9001");
    assert!(reaches(&mut world, other_port) && hears(&mut world, relay, other_port));
    assert_eq!(world.server.stats().get(Counter::Permissions), 1);
}

/// RFC 8656 §12, table 2; §12.2.
#[test]
fn channel_numbers_are_0x4000_to_0x4fff() {
    let (mut world, _) = allocated();
    for number in [0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF] {
        assert_eq!(bind(&mut world, number, "198.51.100.1:1"), Some(400));
    }
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
    assert_eq!(bind(&mut world, 0x4FFF, "198.51.100.1:2"), None);
}

/// RFC 5766 §11, §11.2: the range of old clients, if the operator wants it, both ways and in a stream.
#[test]
fn channel_numbers_to_0x7ffe_are_an_option() {
    let mut world = world_with(|policy| policy.channels = ChannelRange::Rfc5766);
    let relay = world.allocate(client());
    for number in [0, 0x3FFF, 0x7FFF, 0x8000, 0xFFFF] {
        assert_eq!(bind(&mut world, number, "198.51.100.1:1"), Some(400));
    }
    for (number, port) in [(0x4000, 1), (0x4FFF, 2), (0x5000, 3), (0x7FFE, 4)] {
        let peer = address(&format!("198.51.100.1:{port}"));
        assert_eq!(world.bind_channel(client(), number, peer).code(), None);
        let out = world.send(client(), &channel_data(number, b"ping"));
        let payload = b"ping".to_vec();
        let from = relay;
        assert_eq!(
            out,
            Out::ToPeer {
                from,
                peer,
                payload
            }
        );
        let message = channel_data(number, b"pong");
        let to = client();
        let out = world.peer_sends(relay, peer, b"pong");
        assert_eq!(out, Out::ToClient { to, message });
    }
    let unbound = channel_data(0x7000, b"data");
    assert_dropped(&mut world, &unbound, Reason::NoChannel);
    let short = &channel_data(0x5000, b"data")[..7];
    assert_dropped(&mut world, short, Reason::Malformed);
    for first in [4, 63, 128, 255] {
        assert_dropped(&mut world, &[first; 8], Reason::Unclassified);
    }
}

/// RFC 8656 §12.6: with the option off nothing of it is there, whatever was bound.
#[test]
fn channel_data_from_0x5000_is_not_known_by_default() {
    let (mut world, _) = allocated();
    for number in [0x5000, 0x7FFE, 0x7FFF] {
        let data = channel_data(number, b"data");
        assert_dropped(&mut world, &data, Reason::Unclassified);
    }
}

/// RFC 8656 §12.2.
#[test]
fn a_request_without_number_or_peer_is_a_bad_request() {
    let (mut world, _) = allocated();
    let peer_alone = [world.xor_peer(peer())];
    for attributes in [&[][..], &[channel_number(0x4000)], &peer_alone] {
        assert_eq!(
            code(&mut world, Method::CHANNEL_BIND, attributes),
            Some(400)
        );
    }
}

/// RFC 8656 §18.1, §18.3: four bytes; an address.
#[test]
fn a_request_with_a_malformed_number_or_peer_is_a_bad_request() {
    let (mut world, _) = allocated();
    let short = (AttributeType::CHANNEL_NUMBER, vec![0x40, 0]);
    let attributes = [short, world.xor_peer(peer())];
    assert_eq!(
        code(&mut world, Method::CHANNEL_BIND, &attributes),
        Some(400)
    );
    let attributes = [
        channel_number(0x4000),
        (AttributeType::XOR_PEER_ADDRESS, vec![0, 1]),
    ];
    assert_eq!(
        code(&mut world, Method::CHANNEL_BIND, &attributes),
        Some(400)
    );
}

/// RFC 8656 §18.1: RFFU is ignored on reception.
#[test]
fn the_reserved_bytes_behind_the_number_are_ignored() {
    let (mut world, _) = allocated();
    let number = (AttributeType::CHANNEL_NUMBER, vec![0x40, 0, 0xFF, 0xFF]);
    let attributes = [number, world.xor_peer(peer())];
    assert_eq!(code(&mut world, Method::CHANNEL_BIND, &attributes), None);
}

/// RFC 8656 §12.2: same transport address is fine, a different one is not; a port makes it different.
#[test]
fn a_number_is_bound_to_one_peer() {
    let (mut world, _) = allocated();
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:2"), Some(400));
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.2:1"), Some(400));
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
}

/// RFC 8656 §12.2.
#[test]
fn a_peer_is_bound_to_one_number() {
    let (mut world, _) = allocated();
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
    assert_eq!(bind(&mut world, 0x4001, "198.51.100.1:1"), Some(400));
    assert_eq!(bind(&mut world, 0x4001, "198.51.100.1:2"), None);
}

/// RFC 8656 §12.2: a refused binding refreshes nothing.
#[test]
fn a_refused_binding_leaves_the_old_one_as_it_was() {
    let (mut world, relay) = allocated();
    bind(&mut world, 0x4000, "198.51.100.1:9000");
    world.pass(seconds(200));
    assert_eq!(bind(&mut world, 0x4001, "198.51.100.1:9000"), Some(400));
    let message = channel_data(0x4000, b"pong");
    let out = world.peer_sends(relay, peer(), b"pong");
    assert_eq!(
        out,
        Out::ToClient {
            to: client(),
            message
        }
    );
    world.pass(seconds(100));
    assert!(!hears(&mut world, relay, peer()));
}

/// RFC 8656 §12: once unbound, number and peer can be bound otherwise.
#[test]
fn an_expired_number_and_peer_can_be_bound_otherwise() {
    let (mut world, _) = allocated();
    assert_eq!(code(&mut world, Method::REFRESH, &[lifetime(3600)]), None);
    bind(&mut world, 0x4000, "198.51.100.1:1");
    world.pass(seconds(599));
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:2"), Some(400));
    world.pass(seconds(1));
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:2"), None);
    assert_eq!(bind(&mut world, 0x4001, "198.51.100.1:1"), None);
}

/// RFC 8656 §12.2.
#[test]
fn a_peer_of_another_family_is_a_mismatch() {
    let (mut world, _) = allocated();
    assert_eq!(bind(&mut world, 0x4000, "[2001:db8:1::1]:1"), Some(443));
}

/// RFC 8656 §12.2: 403 for a port value that is not allowed; no datagram goes to port 0.
#[test]
fn a_channel_to_port_zero_is_forbidden() {
    let (mut world, _) = allocated();
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:0"), Some(403));
    assert_eq!(world.server.stats().get(Counter::Permissions), 0);
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
}

/// RFC 8656 §12.2.
#[test]
fn a_peer_that_is_not_allowed_is_forbidden() {
    let (mut world, _) = allocated();
    assert_eq!(bind(&mut world, 0x4000, "127.0.0.1:1"), Some(403));
    assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
}

/// RFC 8656 §12.2: 508 at a limit on channels or on permissions; refreshing is still possible.
#[test]
fn beyond_the_limit_the_capacity_is_insufficient() {
    for (channels, permissions) in [(1, 9), (9, 1)] {
        let mut world = world_with(|policy| {
            policy.limits.channels_per_allocation = channels;
            policy.limits.permissions_per_allocation = permissions;
        });
        world.allocate(client());
        assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
        assert_eq!(bind(&mut world, 0x4001, "198.51.100.2:1"), Some(508));
        assert_eq!(bind(&mut world, 0x4000, "198.51.100.1:1"), None);
        assert!(!reaches(&mut world, address("198.51.100.2:1")));
    }
}

/// RFC 8656 §5.
#[test]
fn a_request_without_allocation_is_an_allocation_mismatch() {
    assert_eq!(bind(&mut world(), 0x4000, "198.51.100.1:1"), Some(437));
}

/// RFC 8656 §5.
#[test]
fn another_users_request_has_wrong_credentials() {
    let (mut world, _) = allocated();
    let attributes = [channel_number(0x4000), world.xor_peer(peer())];
    let refusal = world.ask(&Login::bob(), client(), Method::CHANNEL_BIND, &attributes);
    assert_eq!(refusal.code(), Some(441));
    assert!(!reaches(&mut world, peer()));
}

/// RFC 8656 §12: channel bindings are specific to an allocation.
#[test]
fn channels_belong_to_one_allocation() {
    let (mut world, _) = allocated();
    let other = udp("203.0.113.7:4001");
    let other_relay = world.allocate(other);
    bind(&mut world, 0x4000, "198.51.100.1:1");
    let second = address("198.51.100.2:1");
    assert_eq!(world.bind_channel(other, 0x4000, second).code(), None);
    let out = world.send(other, &channel_data(0x4000, b"data"));
    let payload = b"data".to_vec();
    assert_eq!(
        out,
        Out::ToPeer {
            from: other_relay,
            peer: second,
            payload
        }
    );
}

/// RFC 8656 §12.2: all 4096 numbers may be bound where the limit lets them.
#[test]
fn every_channel_number_can_be_bound() {
    let mut world = world_with(|policy| {
        policy.limits.channels_per_allocation = 4096;
        policy.limits.reflection_bytes_per_second = u32::MAX;
    });
    world.allocate(client());
    for number in 0x4000..=0x4FFF_u16 {
        let peer = address(&format!("198.51.100.1:{number}"));
        assert_eq!(world.bind_channel(client(), number, peer).code(), None);
    }
    let attributes = [channel_number(0x4000), world.xor_peer(peer())];
    assert_eq!(
        ask(&mut world, Method::CHANNEL_BIND, &attributes).code(),
        Some(400)
    );
}
