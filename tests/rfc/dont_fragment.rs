//! DONT-FRAGMENT (RFC 8656 §7.2 step 4, §11.2, §14, §18.9).

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::turn::{Counter, Direction, Reason, Verdict};

use crate::common::{
    Login, World, additional_family, address, channel_data, requested_transport, send_indication,
    tcp, udp,
};
use crate::dialogue::{assert_dropped, client, code, peer, world};

/// A world whose usual client has allocated with DONT-FRAGMENT and may send to the usual peer.
fn permitted() -> World {
    let mut world = world();
    let attributes = [
        requested_transport(17),
        (AttributeType::DONT_FRAGMENT, vec![]),
    ];
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), None);
    world.bind_channel(client(), 0x4000, peer());
    world
}

/// A Send indication that asks for the DF bit.
fn send(to: std::net::SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let id = TransactionId([7; 12]);
    MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, to)
        .attribute(AttributeType::DONT_FRAGMENT, b"")
        .attribute(AttributeType::DATA, data);
    buffer
}

/// RFC 8656 §7.2 step 4: the server can set the DF bit, so the attribute is known.
#[test]
fn an_allocate_with_dont_fragment_succeeds() {
    permitted();
}

/// RFC 8656 §11.2: that datagram gets the DF bit.
#[test]
fn a_send_with_dont_fragment_is_sent_whole() {
    let mut world = permitted();
    for data in [&b"data"[..], b"", &[7; 1400]] {
        let packet = send(peer(), data);
        let verdict = world.server.handle_client(world.now, client(), &packet);
        let Verdict::ToPeerUnfragmented {
            peer: to, payload, ..
        } = verdict
        else {
            panic!("{verdict:?}");
        };
        assert_eq!((to, payload), (peer(), data));
    }
    let relayed = Counter::RelayedPackets(Direction::ToPeer);
    assert_eq!(world.server.stats().get(relayed), 3);
}

/// RFC 8656 §11.2, §14: without the attribute, and on a channel, it does not.
#[test]
fn what_does_not_ask_for_it_may_be_fragmented() {
    let mut world = permitted();
    for packet in [
        send_indication(peer(), b"data"),
        channel_data(0x4000, b"data"),
    ] {
        let verdict = world.server.handle_client(world.now, client(), &packet);
        assert!(matches!(verdict, Verdict::ToPeer { .. }), "{verdict:?}");
    }
}

/// RFC 8656 §13.1 to §13.3: MUST be ignored from UDP to UDP as soon as IPv6 is on one side; §14, §15: it
/// is heeded between IPv4 and IPv4, and for clients over TCP.
#[test]
fn dont_fragment_is_ignored_where_udp_is_relayed_from_or_to_ipv6() {
    let peers = [
        address("198.51.100.1:9000"),
        address("[2001:db8:1::1]:9000"),
    ];
    let (v4, v6) = ("203.0.113.7:4000", "[2001:db8:2::1]:4000");
    for (from, heeded) in [
        (udp(v4), [true, false]),
        (udp(v6), [false, false]),
        (tcp(v4), [true, true]),
        (tcp(v6), [true, true]),
    ] {
        let mut world = world();
        let both = [requested_transport(17), additional_family(2)];
        let allocated = world.ask(&Login::alice(), from, Method::ALLOCATE, &both);
        assert_eq!(allocated.code(), None);
        for (peer, heeded) in peers.into_iter().zip(heeded) {
            assert_eq!(world.permit(from, peer).code(), None);
            let packet = send(peer, b"data");
            let verdict = world.server.handle_client(world.now, from, &packet);
            let is_whole = matches!(verdict, Verdict::ToPeerUnfragmented { .. });
            let is_sent = is_whole || matches!(verdict, Verdict::ToPeer { .. });
            assert!(
                is_sent && is_whole == heeded,
                "{from:?} to {peer}: {verdict:?}"
            );
        }
    }
}

/// RFC 8656 §11.2: it takes a permission like any other.
#[test]
fn a_send_with_dont_fragment_needs_a_permission() {
    let mut world = permitted();
    let stranger = address("198.51.100.99:9");
    assert_dropped(&mut world, &send(stranger, b"data"), Reason::NoPermission);
}

/// RFC 8489 §6.3: known but unexpected in other requests.
#[test]
fn dont_fragment_in_a_refresh_is_ignored() {
    let mut world = permitted();
    let attributes = [(AttributeType::DONT_FRAGMENT, vec![])];
    assert_eq!(code(&mut world, Method::REFRESH, &attributes), None);
}
