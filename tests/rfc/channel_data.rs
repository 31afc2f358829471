//! ChannelData (RFC 8656 §12.4 to §12.7).

use std::net::SocketAddr;

use turnstone::turn::Reason;

use crate::common::{Out, World, address, channel_data, send_indication, tcp};
use crate::dialogue::{allocated, assert_dropped, client, peer, seconds, world};

fn bound() -> (World, SocketAddr) {
    let (mut world, relay) = allocated();
    world.bind_channel(client(), 0x4000, peer());
    (world, relay)
}

/// RFC 8656 §12.6: from the relayed address to the channel's peer, the data field.
#[test]
fn channel_data_goes_to_the_peer_of_the_channel() {
    let (mut world, relay) = bound();
    for data in [&b"data"[..], b"x", &[0; 1400]] {
        let mut packet = channel_data(0x4000, data);
        packet.truncate(4 + data.len());
        let payload = data.to_vec();
        let out = world.send(client(), &packet);
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

/// RFC 8656 §12.4, §12.6: a length of zero is valid, the datagram is sent.
#[test]
fn empty_channel_data_is_sent() {
    let (mut world, relay) = bound();
    let out = world.send(client(), &channel_data(0x4000, b""));
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer: peer(),
            payload: vec![]
        }
    );
}

/// RFC 8656 §12.5: over UDP padding may be included; it is not part of the data.
#[test]
fn padding_over_udp_is_accepted_and_not_relayed() {
    let (mut world, relay) = bound();
    let packet = channel_data(0x4000, b"abcde");
    assert_eq!(packet.len(), 12);
    let payload = b"abcde".to_vec();
    let out = world.send(client(), &packet);
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer: peer(),
            payload
        }
    );
}

/// RFC 8656 §12.6: too short to contain the claimed length.
#[test]
fn channel_data_shorter_than_it_claims_is_discarded() {
    let (mut world, _) = bound();
    let packet = channel_data(0x4000, b"data");
    for length in 1..packet.len() {
        assert_dropped(&mut world, &packet[..length], Reason::Malformed);
    }
}

/// RFC 8656 §12.6: not bound to any peer.
#[test]
fn channel_data_on_an_unbound_channel_is_discarded() {
    let (mut world, _) = bound();
    for number in [0x4001, 0x4FFF] {
        assert_dropped(
            &mut world,
            &channel_data(number, b"data"),
            Reason::NoChannel,
        );
    }
}

/// RFC 8656 §12, table 3; §12.6: the reserved range, RTP, DTLS and the rest.
#[test]
fn packets_of_other_protocols_are_discarded() {
    let (mut world, _) = bound();
    for first in (4..=63).chain(80..=255) {
        let packet = [first, 0, 0, 4, 1, 2, 3, 4];
        assert_dropped(&mut world, &packet, Reason::Unclassified);
    }
    assert_dropped(&mut world, &[], Reason::Unclassified);
}

/// RFC 8656 §5: silently ignored.
#[test]
fn channel_data_without_allocation_is_discarded() {
    let mut world = world();
    assert_dropped(
        &mut world,
        &channel_data(0x4000, b"data"),
        Reason::NoAllocation,
    );
}

/// RFC 8656 §12.6, S5: a live channel is not enough, the permission has to live too.
#[test]
fn channel_data_after_the_permission_has_expired_is_discarded() {
    let (mut world, relay) = bound();
    world.pass(seconds(300));
    assert_dropped(
        &mut world,
        &channel_data(0x4000, b"data"),
        Reason::NoPermission,
    );
    assert_eq!(world.peer_sends(relay, peer(), b"data"), Out::Nothing);
    world.permit(client(), peer());
    let out = world.send(client(), &channel_data(0x4000, b"data"));
    assert!(matches!(out, Out::ToPeer { .. }));
}

/// RFC 8656 §12.5: the server must use ChannelData when a channel is bound to the peer.
#[test]
fn data_from_the_peer_of_a_channel_is_channel_data() {
    let (mut world, relay) = bound();
    let _ = world.send(client(), &send_indication(peer(), b"not by channel"));
    for data in [&b"data"[..], b"", &[1; 1400]] {
        let out = world.peer_sends(relay, peer(), data);
        let message = channel_data(0x4000, data);
        assert_eq!(
            out,
            Out::ToClient {
                to: client(),
                message
            }
        );
    }
}

/// RFC 8656 §12.5: over UDP the server does not pad.
#[test]
fn channel_data_to_a_udp_client_is_not_padded() {
    let (mut world, relay) = bound();
    let out = world.peer_sends(relay, peer(), b"abcde");
    let message = b"\x40\x00\x00\x05abcde".to_vec();
    assert_eq!(
        out,
        Out::ToClient {
            to: client(),
            message
        }
    );
}

/// RFC 8656 §12.5: over TCP it is padded to four bytes, and the length does not tell it.
#[test]
fn channel_data_to_a_tcp_client_is_padded() {
    let mut world = world();
    let from = tcp("203.0.113.7:4000");
    let relay = world.allocate(from);
    world.bind_channel(from, 0x4ABC, peer());
    for (data, padded) in [(&b"abcde"[..], 12), (b"abcd", 8), (b"", 4)] {
        let Out::ToClient { message, .. } = world.peer_sends(relay, peer(), data) else {
            panic!("nothing came");
        };
        assert_eq!(message, channel_data(0x4ABC, data));
        assert_eq!(message.len(), padded);
    }
}

/// RFC 8656 §12.5, §12.6: frames of a stream come with their padding.
#[test]
fn channel_data_from_a_tcp_client_is_relayed_without_padding() {
    let mut world = world();
    let from = tcp("203.0.113.7:4000");
    let relay = world.allocate(from);
    world.bind_channel(from, 0x4000, peer());
    let payload = b"abcde".to_vec();
    let out = world.send(from, &channel_data(0x4000, &payload));
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer: peer(),
            payload
        }
    );
}

/// RFC 8656 §12: data on a channel goes to the peer's very port.
#[test]
fn two_ports_of_one_address_are_two_channels() {
    let (mut world, relay) = bound();
    let second = address("198.51.100.1:9001");
    assert_eq!(world.bind_channel(client(), 0x4001, second).code(), None);
    for (number, peer) in [(0x4000, peer()), (0x4001, second)] {
        let out = world.peer_sends(relay, peer, b"data");
        let message = channel_data(number, b"data");
        assert_eq!(
            out,
            Out::ToClient {
                to: client(),
                message
            }
        );
    }
}

/// RFC 8656 §6: the largest datagram that a message to the client can carry.
#[test]
fn channel_data_carries_up_to_a_whole_datagram() {
    let (mut world, relay) = bound();
    let fits = vec![7; 65_507 - 4];
    let out = world.peer_sends(relay, peer(), &fits);
    assert!(matches!(out, Out::ToClient { .. }));
    assert_eq!(world.peer_sends(relay, peer(), &[7; 65_507]), Out::Nothing);
}
