//! The largest and the smallest datagrams, both ways.

use std::net::UdpSocket;

use super::dialogue::{Dialogue, channel_data};
use super::families::dual_stack;
use super::process::{LIMIT, uninterrupted};

const CHANNEL: u16 = 0x4000;
/// The most that UDP carries over IPv4.
const LARGEST: usize = 65_507;

/// A stream carries what a relayed datagram can carry; a client's datagram less, by the header.
#[test]
fn the_largest_and_the_empty_datagram_arrive() {
    let server = dual_stack(&[]);
    let address = server.address_at("127.0.0.1");
    for (mut client, largest) in [
        (Dialogue::udp(address), LARGEST - 4),
        (Dialogue::tcp(address), LARGEST),
    ] {
        let relayed = client.allocate(None).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        client.bind(CHANNEL, peer.local_addr().unwrap()).unwrap();
        let mut buffer = vec![0; 65_536];
        for length in [0, 1, largest - 1, largest] {
            let payload = vec![7; length];
            let mut message = channel_data(CHANNEL, &payload);
            if largest < LARGEST {
                message.truncate(4 + length);
            }
            client.send(&message).unwrap();
            let heard = uninterrupted(|| peer.recv(&mut buffer));
            assert_eq!(heard.unwrap(), length);
            assert!(buffer[..length] == payload);
            peer.send_to(&payload, relayed).unwrap();
            let back = client.receive().unwrap();
            assert!(back == channel_data(CHANNEL, &payload)[..4 + length]);
        }
    }
    server.stop();
}
