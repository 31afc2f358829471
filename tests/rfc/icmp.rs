//! ICMP errors in Data indications (RFC 8656 §11.5, §18.13).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Class, Message, Method};
use turnstone::turn::{Counter, External, Icmp};

use crate::common::{Out, World, address, ip, tcp, udp};
use crate::dialogue::{allocated, client, peer, seconds, world, world_with};

/// An error of this type and code that names an MTU of 1280.
fn icmp(kind: u8, code: u8) -> Icmp {
    Icmp {
        kind,
        code,
        mtu: 1280,
    }
}

const PORT_UNREACHABLE: (u8, u8) = (3, 3);

fn meets(world: &mut World, relay: SocketAddr, peer: SocketAddr, (kind, code): (u8, u8)) -> Out {
    world.meets_icmp(relay, peer, icmp(kind, code))
}

/// The peer and the ICMP attribute of a Data indication.
fn report(out: Out) -> (SocketAddr, Vec<u8>) {
    let data = out.response();
    let message: Message<'_> = data.message();
    let kind = (message.class(), message.method());
    assert_eq!(kind, (Class::Indication, Method::DATA));
    assert_eq!(data.value(AttributeType::DATA), None);
    let peer = data.xor_address(AttributeType::XOR_PEER_ADDRESS);
    let icmp = data.value(AttributeType::ICMP);
    (peer.expect("a peer"), icmp.expect("an ICMP attribute"))
}

/// A world whose usual client has a permission for the usual peer.
fn permitted() -> (World, SocketAddr) {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    (world, relay)
}

/// RFC 8656 §11.5, §18.13: type and code, and the peer with its port.
#[test]
fn an_error_is_told_in_a_data_indication() {
    let (mut world, relay) = permitted();
    let out = meets(&mut world, relay, peer(), PORT_UNREACHABLE);
    let Out::ToClient { to, .. } = &out else {
        panic!("{out:?}");
    };
    assert_eq!(*to, client());
    assert_eq!(report(out), (peer(), vec![0, 0, 3, 3, 0, 0, 0, 0]));
    assert_eq!(world.server.stats().get(Counter::IcmpReports), 1);
}

/// RFC 8656 §11.5: types 3 and 11 of ICMPv4, whatever the code.
#[test]
fn icmpv4_destination_unreachable_and_time_exceeded_are_told() {
    for kind in 0..=255 {
        for code in [0, 1, 13] {
            let (mut world, relay) = permitted();
            let out = meets(&mut world, relay, peer(), (kind, code));
            let is_told = matches!(kind, 3 | 11);
            assert_eq!(out != Out::Nothing, is_told, "type {kind}");
        }
    }
}

/// RFC 8656 §11.5: types 1, 2 and 3 of ICMPv6, to clients of either family and transport.
#[test]
fn icmpv6_unreachable_too_big_and_time_exceeded_are_told() {
    let peer = address("[2001:db8:1::1]:9000");
    for from in [client(), tcp("203.0.113.7:1"), udp("[2001:db8:2::7]:1")] {
        for kind in [0, 1, 2, 3, 4, 11, 128] {
            let mut world = world();
            let relay = world.allocate_family(from, Some(2));
            world.permit(from, peer);
            let out = meets(&mut world, relay, peer, (kind, 0));
            if matches!(kind, 1..=3) {
                let (told, value) = report(out);
                assert_eq!((told, value[2]), (peer, kind));
            } else {
                assert_eq!(out, Out::Nothing, "type {kind}");
            }
        }
    }
}

/// RFC 8656 §18.13: the MTU where the datagram was too large, zero elsewhere.
#[test]
fn only_too_large_datagrams_are_told_the_mtu() {
    let mtu = 1280_u32.to_be_bytes();
    for (kind, code, data) in [(3, 4, mtu), (3, 3, [0; 4]), (11, 4, [0; 4])] {
        let (mut world, relay) = permitted();
        let (_, value) = report(meets(&mut world, relay, peer(), (kind, code)));
        assert_eq!(value[4..], data);
    }
    let peer = address("[2001:db8:1::1]:9000");
    for (kind, data) in [(2, mtu), (1, [0; 4]), (3, [0; 4])] {
        let mut world = world();
        let relay = world.allocate_family(client(), Some(2));
        world.permit(client(), peer);
        let (_, value) = report(meets(&mut world, relay, peer, (kind, 0)));
        assert_eq!(value[4..], data);
    }
}

/// RFC 8656 §12.5: in a Data indication even if a channel is bound to the peer.
#[test]
fn an_error_of_a_channels_peer_is_told_in_a_data_indication() {
    let (mut world, relay) = allocated();
    assert_eq!(world.bind_channel(client(), 0x4000, peer()).code(), None);
    let (told, value) = report(meets(&mut world, relay, peer(), PORT_UNREACHABLE));
    assert_eq!((told, value[2]), (peer(), 3));
}

/// RFC 8656 §11.5: the permission is for the address, whatever the port.
#[test]
fn the_port_is_not_compared() {
    let (mut world, relay) = permitted();
    let other = SocketAddr::new(peer().ip(), 1);
    let (told, _) = report(meets(&mut world, relay, other, PORT_UNREACHABLE));
    assert_eq!(told, other);
}

/// RFC 8656 §11.5: without a permission, or after it, nothing is told.
#[test]
fn an_error_of_a_peer_without_permission_is_not_told() {
    let (mut world, relay) = permitted();
    let stranger = address("198.51.100.2:9000");
    let out = meets(&mut world, relay, stranger, PORT_UNREACHABLE);
    assert_eq!(out, Out::Nothing);
    world.pass(seconds(300));
    let out = meets(&mut world, relay, peer(), PORT_UNREACHABLE);
    assert_eq!(out, Out::Nothing);
}

/// A flood of errors does not become a flood of indications.
#[test]
fn errors_are_told_at_a_bounded_rate() {
    let (mut world, relay) = permitted();
    let told = |world: &mut World| {
        let out = (0..100).map(|_| meets(world, relay, peer(), PORT_UNREACHABLE));
        out.filter(|out| *out != Out::Nothing).count()
    };
    assert_eq!(told(&mut world), 10);
    world.pass(seconds(1));
    assert_eq!(told(&mut world), 10);
}

/// RFC 8656 §11.5 behind a 1:1 NAT: another client's relay goes by its public address.
#[test]
fn a_relay_behind_a_nat_is_named_by_its_public_address() {
    let mut world = world_with(|policy| {
        policy.relay.external.push(External {
            local: None,
            public: ip("198.51.100.200"),
        });
    });
    world.allocate(client());
    let other = world.allocate(udp("203.0.113.8:1"));
    world.permit(client(), other);
    let local = |public: SocketAddr| SocketAddr::new(ip("192.0.2.10"), public.port());
    let mine = *world.relays.keys().find(|at| **at != local(other)).unwrap();
    let (told, _) = report(meets(&mut world, mine, local(other), PORT_UNREACHABLE));
    assert_eq!(told, other);
}
