//! What clients and their peers say to each other, whatever the transport.

use std::net::SocketAddr;

use crate::client::{Client, channel_data};
use crate::harness::peer;

const CHANNEL: u16 = 0x4000;

/// Relays `count` datagrams each way over a channel; the relayed transport address.
pub(crate) fn relay_both_ways(client: &mut Client, count: u8) -> SocketAddr {
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(CHANNEL, peer.local_addr().expect("an address"));
    for i in 0..count {
        let payload = vec![i; 1 + usize::from(i) * 7];
        client.send_data(CHANNEL, &payload);
        let mut buffer = [0; 2048];
        let (length, from) = peer.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((&buffer[..length], from), (&payload[..], relayed));
        peer.send_to(&payload, relayed).expect("sent");
        assert_eq!(client.receive_data(CHANNEL), payload);
    }
    relayed
}

/// Relays datagrams of many sizes both ways for a client of `server` whose stream comes in pieces of
/// many sizes.
pub(crate) fn relay_in_pieces(client: &mut Client, server: SocketAddr) {
    assert_eq!(client.ping(), client.local());
    let relayed = client.allocate();
    let peer = peer(server.ip());
    client.bind(CHANNEL, peer.local_addr().expect("an address"));
    let payloads: Vec<Vec<u8>> = (0..9).map(|i| vec![i; usize::from(i) * 37]).collect();
    let stream: Vec<u8> = payloads
        .iter()
        .flat_map(|payload| channel_data(CHANNEL, payload, true))
        .collect();
    for size in [1, 3, 7, 100, stream.len()] {
        for piece in stream.chunks(size) {
            client.send(piece);
        }
        let mut buffer = [0; 2048];
        for payload in &payloads {
            let (length, from) = peer.recv_from(&mut buffer).expect("a datagram");
            assert_eq!((&buffer[..length], from), (&payload[..], relayed));
            peer.send_to(payload, relayed).expect("sent");
        }
        for payload in &payloads {
            assert_eq!(client.receive_data(CHANNEL), *payload);
        }
    }
}
