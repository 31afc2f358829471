//! Send indications (RFC 8656 §11.2).

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::turn::{Counter, Direction, Reason};

use crate::common::{Out, World, address, send_indication, tcp, udp};
use crate::dialogue::{allocated, assert_dropped, client, peer, world};

/// A Send indication with these attributes.
fn send(attributes: &[(AttributeType, &[u8])]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let id = TransactionId([7; 12]);
    let mut builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id);
    for (kind, value) in attributes {
        builder.attribute(*kind, value);
    }
    buffer
}

/// A world in which the usual client may send to the usual peer.
fn permitted() -> (World, std::net::SocketAddr) {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    (world, relay)
}

/// XOR-PEER-ADDRESS of the usual peer.
fn peer_value() -> Vec<u8> {
    send_indication(peer(), b"")[24..32].to_vec()
}

/// RFC 8656 §11.2: from the relayed address, to the peer, the value of DATA.
#[test]
fn the_data_goes_from_the_relayed_address_to_the_peer() {
    let (mut world, relay) = permitted();
    for data in [&b"data"[..], b"odd", &[0; 1400]] {
        let out = world.send(client(), &send_indication(peer(), data));
        let payload = data.to_vec();
        assert_eq!(
            out,
            Out::ToPeer {
                from: relay,
                peer: peer(),
                payload
            }
        );
    }
}

/// RFC 8656 §11.2: zero bytes of data are allowed and sent.
#[test]
fn empty_data_is_sent() {
    let (mut world, relay) = permitted();
    let out = world.send(client(), &send_indication(peer(), b""));
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer: peer(),
            payload: vec![]
        }
    );
}

/// RFC 8656 §11.2.
#[test]
fn an_indication_without_peer_or_data_is_discarded() {
    let (mut world, _) = permitted();
    let value = peer_value();
    for attributes in [
        &[][..],
        &[(AttributeType::DATA, b"data".as_slice())],
        &[(AttributeType::XOR_PEER_ADDRESS, value.as_slice())],
    ] {
        assert_dropped(&mut world, &send(attributes), Reason::InvalidSend);
    }
}

/// RFC 8656 §11.2: or invalid.
#[test]
fn an_indication_with_a_malformed_peer_is_discarded() {
    let (mut world, _) = permitted();
    let value = peer_value();
    for length in 0..value.len() {
        let attributes = [
            (AttributeType::XOR_PEER_ADDRESS, &value[..length]),
            (AttributeType::DATA, b"data"),
        ];
        assert_dropped(&mut world, &send(&attributes), Reason::InvalidSend);
    }
}

/// RFC 8656 §11.2: a port value that is not allowed; no datagram goes to port 0.
#[test]
fn an_indication_to_port_zero_is_discarded() {
    let (mut world, _) = permitted();
    let nowhere = std::net::SocketAddr::new(peer().ip(), 0);
    let packet = send_indication(nowhere, b"data");
    assert_dropped(&mut world, &packet, Reason::InvalidSend);
}

/// RFC 8656 §11.2: no permission, no data; and none is made by it.
#[test]
fn an_indication_to_a_peer_without_permission_is_discarded() {
    let (mut world, _) = permitted();
    let stranger = address("198.51.100.2:9000");
    for _ in 0..2 {
        let packet = send_indication(stranger, b"data");
        assert_dropped(&mut world, &packet, Reason::NoPermission);
    }
}

/// RFC 8656 §5.
#[test]
fn an_indication_without_allocation_is_discarded() {
    let (mut world, _) = permitted();
    let packet = send_indication(peer(), b"data");
    for from in [udp("203.0.113.7:4001"), tcp("203.0.113.7:4000")] {
        assert_eq!(world.send(from, &packet), Out::Nothing);
    }
    let no_allocation = Counter::Dropped(Reason::NoAllocation);
    assert_eq!(world.server.stats().get(no_allocation), 2);
}

/// RFC 8656 §11.2: to a peer of the relayed address's family only.
#[test]
fn an_indication_to_a_peer_of_another_family_is_discarded() {
    let (mut world, _) = permitted();
    let packet = send_indication(address("[2001:db8:1::1]:9000"), b"data");
    assert_dropped(&mut world, &packet, Reason::InvalidSend);
}

/// RFC 8656 §12.5: Send indications and ChannelData may be mixed freely.
#[test]
fn a_bound_channel_does_not_keep_from_sending() {
    let (mut world, relay) = permitted();
    world.bind_channel(client(), 0x4000, peer());
    let out = world.send(client(), &send_indication(peer(), b"data"));
    let payload = b"data".to_vec();
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer: peer(),
            payload
        }
    );
}

/// RFC 8656 §3.1: the same over TCP, and from a client of the other family.
#[test]
fn clients_over_tcp_and_of_the_other_family_send_alike() {
    let mut world = world();
    for (from, family, peer) in [
        (tcp("203.0.113.7:1"), 1, "198.51.100.1:9000"),
        (tcp("203.0.113.7:2"), 2, "[2001:db8:1::1]:9000"),
        (udp("[2001:db8:2::7]:1"), 1, "198.51.100.1:9000"),
        (udp("[2001:db8:2::7]:2"), 2, "[2001:db8:1::1]:9000"),
    ] {
        let relay = world.allocate_family(from, Some(family));
        let peer = address(peer);
        world.permit(from, peer);
        let out = world.send(from, &send_indication(peer, b"data"));
        let payload = b"data".to_vec();
        assert_eq!(
            out,
            Out::ToPeer {
                from: relay,
                peer,
                payload
            }
        );
    }
}

/// What is relayed is counted when it is, in packets and bytes of application data.
#[test]
fn what_is_sent_is_counted() {
    let (mut world, _) = permitted();
    let _ = world.send(client(), &send_indication(peer(), b"hello"));
    let stats = world.server.stats();
    assert_eq!(stats.get(Counter::RelayedPackets(Direction::ToPeer)), 1);
    assert_eq!(stats.get(Counter::RelayedBytes(Direction::ToPeer)), 5);
}
