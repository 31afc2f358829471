//! Datagrams from peers and Data indications (RFC 8656 §9, §11.3).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Class, Method};
use turnstone::turn::{Counter, Reason, Verdict};

use crate::common::{Out, World, address, tcp, udp};
use crate::dialogue::{allocated, client, dropped, peer, world};

fn permitted() -> (World, SocketAddr) {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    (world, relay)
}

/// RFC 8656 §11.3: a Data indication with the peer's address and the datagram.
#[test]
fn a_datagram_becomes_a_data_indication() {
    let (mut world, relay) = permitted();
    for data in [&b"data"[..], b"", b"odd", &[0xA5; 1400]] {
        let answer = world.peer_sends(relay, peer(), data).response();
        let message = answer.message();
        assert_eq!(message.class(), Class::Indication);
        assert_eq!(message.method(), Method::DATA);
        assert_eq!(answer.value(AttributeType::DATA), Some(data.to_vec()));
        let from = answer.xor_address(AttributeType::XOR_PEER_ADDRESS);
        assert_eq!(from, Some(peer()));
    }
}

/// RFC 8656 §11.3: sent on the five-tuple of the allocation.
#[test]
fn a_data_indication_goes_to_the_client_of_the_relayed_address() {
    let mut world = world();
    for (from, family, peer) in [
        (client(), 1, "198.51.100.1:1"),
        (tcp("203.0.113.7:4000"), 2, "[2001:db8:1::1]:1"),
        (udp("[2001:db8:2::7]:1"), 1, "198.51.100.1:1"),
        (tcp("[2001:db8:2::7]:1"), 2, "[2001:db8:1::1]:1"),
    ] {
        let relay = world.allocate_family(from, Some(family));
        let peer = address(peer);
        world.permit(from, peer);
        let Out::ToClient { to, message } = world.peer_sends(relay, peer, b"hi") else {
            panic!("nothing came");
        };
        assert_eq!(to, from);
        let data = crate::common::Response(message);
        assert_eq!(
            data.xor_address(AttributeType::XOR_PEER_ADDRESS),
            Some(peer)
        );
    }
}

/// RFC 8656 §9: silently discarded.
#[test]
fn a_datagram_without_permission_is_discarded() {
    let (mut world, relay) = permitted();
    let stranger = address("198.51.100.2:9000");
    assert_eq!(world.peer_sends(relay, stranger, b"data"), Out::Nothing);
    assert_eq!(dropped(&world, Reason::NoPermission), 1);
}

/// RFC 8656 §12.5: with a channel bound to the very peer, ChannelData; else a Data indication.
#[test]
fn a_datagram_from_another_port_of_a_channels_peer_is_a_data_indication() {
    let (mut world, relay) = allocated();
    world.bind_channel(client(), 0x4000, peer());
    let other_port = address("198.51.100.1:9001");
    let data = world.peer_sends(relay, other_port, b"data").response();
    assert_eq!(data.message().method(), Method::DATA);
}

/// RFC 8489 §5: indications have transaction ids too, chosen by the sender.
#[test]
fn data_indications_have_transaction_ids_of_their_own() {
    let (mut world, relay) = permitted();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let data = world.peer_sends(relay, peer(), b"data").response();
        assert!(seen.insert(data.message().transaction().0));
    }
}

/// RFC 8656 §5, §11.3: a Data indication has neither integrity nor FINGERPRINT, and no more than that.
#[test]
fn a_data_indication_carries_peer_and_data_alone() {
    let (mut world, relay) = permitted();
    let data = world.peer_sends(relay, peer(), b"data").response();
    assert_eq!(data.message().attributes().count(), 2);
    assert_eq!(data.0.len(), 20 + 12 + 8);
}

/// What does not fit a datagram to the client is dropped whole, never cut.
#[test]
fn a_datagram_that_fits_no_message_is_dropped() {
    let (mut world, relay) = permitted();
    let whole = vec![1; 65_507];
    assert_eq!(world.peer_sends(relay, peer(), &whole), Out::Nothing);
    let fits = vec![1; 65_507 - 20 - 12 - 4 - 3];
    let data = world.peer_sends(relay, peer(), &fits).response();
    assert_eq!(data.value(AttributeType::DATA), Some(fits));
    assert_eq!(dropped(&world, Reason::TooLarge), 1);
}

/// RFC 8656 §6: what arrives after the end of the allocation is nobody's.
#[test]
fn a_datagram_at_the_address_of_an_ended_allocation_is_discarded() {
    let (mut world, relay) = permitted();
    let key = world.relays[&relay];
    world.client_gone(client());
    world.allocate(client());
    world.permit(client(), peer());
    let now = world.now;
    let verdict = world.server.handle_peer(now, key, peer(), b"late");
    assert_eq!(verdict, Verdict::Discard(Reason::NoAllocation));
    assert_eq!(
        world
            .server
            .stats()
            .get(Counter::Dropped(Reason::NoAllocation)),
        1
    );
}
