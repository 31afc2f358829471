//! Bursts, which the kernel hands over and takes in one piece: every datagram arrives, as it was and in the
//! order of its flow.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;

use rustix::thread::UnshareFlags;
use turnstone::net::{Outgoing, SendBatch};
use turnstone::stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};
use turnstone::turn::{Counter, Direction, Reason};

use crate::client::{Client, Link, channel_data, xor_address};
use crate::dtls::with_dtls;
use crate::dtls_link::Version;
use crate::harness::{Options, Shards, peer, start, uninterrupted};

/// Lengths of payloads: runs of one length, with shorter and longer ones between them.
const LENGTHS: [usize; 24] = [
    160, 160, 160, 160, 160, 160, 160, 40, 1200, 1200, 1200, 1200, 1, 1, 1, 3, 0, 7, 7, 5, 1200,
    1200, 0, 160,
];

/// The payloads of flow `flow`, no two of which are alike but those without bytes.
fn payloads(flow: u8) -> Vec<Vec<u8>> {
    let numbered = (0_u8..).zip(LENGTHS);
    numbered
        .map(|(i, length)| {
            let mut payload = vec![flow; length];
            payload.iter_mut().take(1).for_each(|first| *first = i);
            payload
        })
        .collect()
}

/// Sends `messages` from `socket`, runs of one length as one message to the kernel.
fn send_burst(socket: &UdpSocket, to: SocketAddr, messages: &[Vec<u8>]) {
    let messages = messages.iter().map(|bytes| Outgoing {
        to,
        source: None,
        head: &[],
        bytes,
    });
    SendBatch::default().send_from(socket, messages, |i, error| panic!("{i}: {error}"));
}

impl Client {
    fn send_burst(&mut self, to: SocketAddr, messages: &[Vec<u8>]) {
        match &self.link {
            Link::Udp(socket) => send_burst(socket, to, messages),
            Link::Dtls(_) => messages.iter().for_each(|bytes| self.send(bytes)),
            Link::Tcp(_) | Link::Tls(_) => self.send(&messages.concat()),
        }
    }
}

fn recv(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let received = uninterrupted(|| socket.recv_from(&mut buffer));
    let (length, from) = received.expect("a datagram");
    buffer.truncate(length);
    (buffer, from)
}

/// Relays bursts both ways over a channel, `rounds` times.
fn relay_bursts(client: &mut Client, server: SocketAddr, rounds: usize) {
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    let place = peer.local_addr().expect("an address");
    client.bind(0x4001, place);
    let padded = client.is_stream();
    let payloads = payloads(7);
    let messages: Vec<_> = payloads
        .iter()
        .map(|payload| channel_data(0x4001, payload, padded))
        .collect();
    for _ in 0..rounds {
        client.send_burst(server, &messages);
        for payload in &payloads {
            assert_eq!(recv(&peer), (payload.clone(), relayed));
        }
        send_burst(&peer, relayed, &payloads);
        for payload in &payloads {
            assert_eq!(&client.receive_data(0x4001), payload);
        }
    }
}

fn check(shards: Shards, relayed: usize) {
    let stats = shards.stop().remove(0);
    for direction in Direction::ALL {
        let counted = stats.get(Counter::RelayedPackets(*direction));
        assert_eq!(counted, relayed as u64);
    }
}

#[test]
fn bursts_of_clients_over_udp_travel_both_ways() {
    let shards = start(&Options::default());
    for server in [shards.v4(), shards.v6()] {
        relay_bursts(&mut Client::udp(server), server, 5);
    }
    check(shards, 2 * 5 * LENGTHS.len());
}

#[test]
fn bursts_of_a_client_of_a_wildcard_travel_both_ways() {
    let options = Options {
        listen: vec!["0.0.0.0:0", "[::]:0"],
        ..Options::default()
    };
    let shards = start(&options);
    for (home, any) in [("127.0.0.2", shards.v4()), ("::1", shards.v6())] {
        let reached = SocketAddr::new(home.parse().expect("an address"), any.port());
        relay_bursts(&mut Client::udp(reached), reached, 5);
    }
    check(shards, 2 * 5 * LENGTHS.len());
}

#[test]
fn bursts_travel_between_a_tcp_client_and_a_peer() {
    let shards = start(&Options::default());
    let server = shards.v4();
    relay_bursts(&mut Client::tcp(server), server, 5);
    check(shards, 5 * LENGTHS.len());
}

#[test]
fn bursts_travel_between_a_dtls_client_and_a_peer() {
    let shards = start(&with_dtls());
    let server = shards.v4();
    relay_bursts(&mut Client::dtls(server, Version::Dtls13), server, 5);
    check(shards, 5 * LENGTHS.len());
}

/// A Send or Data indication.
fn indication(method: Method, peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let transaction = TransactionId([1; 12]);
    MessageBuilder::new(&mut bytes, Class::Indication, method, transaction)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
        .attribute(AttributeType::DATA, payload);
    bytes
}

#[test]
fn bursts_of_indications_travel_both_ways() {
    let shards = start(&Options::default());
    for server in [shards.v4(), shards.v6()] {
        let mut client = Client::udp(server);
        let relayed = client.allocate();
        let peer = peer(relayed.ip());
        let place = peer.local_addr().expect("an address");
        client.permit(place);
        let payloads = payloads(9);
        let messages: Vec<_> = payloads
            .iter()
            .map(|payload| indication(Method::SEND, place, payload))
            .collect();
        for _ in 0..3 {
            client.send_burst(server, &messages);
            for payload in &payloads {
                assert_eq!(recv(&peer), (payload.clone(), relayed));
            }
            send_burst(&peer, relayed, &payloads);
            for payload in &payloads {
                let data = client.receive();
                assert_eq!(xor_address(&data, AttributeType::XOR_PEER_ADDRESS), place);
                let message = Message::parse(&data).expect("a message");
                let value = message.attribute(AttributeType::DATA).expect("DATA").value;
                assert_eq!((value, data.len() % 4), (&payload[..], 0));
            }
        }
    }
    shards.stop();
}

#[test]
fn flows_that_take_turns_keep_their_order() {
    let shards = start(&Options::default());
    let server = shards.v4();
    let mut clients = [Client::udp(server), Client::udp(server)];
    let relayed = clients.each_mut().map(Client::allocate);
    let peers = [peer(server.ip()), peer(server.ip())];
    let places = peers
        .each_ref()
        .map(|peer| peer.local_addr().expect("an address"));
    for client in &mut clients {
        client.bind(0x4000, places[0]);
        client.bind(0x4001, places[1]);
    }
    let flows = [payloads(1), payloads(2)];
    // One train holds ChannelData of both channels.
    let taking_turns: Vec<_> = flows[0]
        .iter()
        .zip(&flows[1])
        .flat_map(|(a, b)| {
            [
                channel_data(0x4000, a, false),
                channel_data(0x4001, b, false),
            ]
        })
        .collect();
    for _ in 0..5 {
        for client in &mut clients {
            client.send_burst(server, &taking_turns);
        }
        for (peer, payloads) in peers.iter().zip(&flows) {
            let mut next = [0; 2];
            for _ in 0..2 * payloads.len() {
                let (payload, from) = recv(peer);
                let client = usize::from(from == relayed[1]);
                assert_eq!((&payload, from), (&payloads[next[client]], relayed[client]));
                next[client] += 1;
            }
        }
        for i in 0..LENGTHS.len() {
            for (flow, peer) in flows.iter().zip(&peers) {
                for to in relayed {
                    let one = &flow[i..=i];
                    send_burst(peer, to, one);
                }
            }
        }
        for client in &mut clients {
            let mut next = [0; 2];
            for _ in 0..2 * LENGTHS.len() {
                let message = client.receive();
                let flow = usize::from(message[1]);
                let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
                assert_eq!(&message[4..4 + length], &flows[flow][next[flow]][..]);
                next[flow] += 1;
            }
        }
    }
    check(shards, 5 * 4 * LENGTHS.len());
}

#[test]
fn each_datagram_of_a_burst_is_judged_by_itself() {
    let shards = start(&Options::default());
    let server = shards.v4();
    let mut client = Client::udp(server);
    let relayed = client.allocate();
    let stranger = peer([127, 0, 0, 3].into());
    let good = peer(relayed.ip());
    client.bind(0x4000, good.local_addr().expect("an address"));
    // A channel that is not bound, in the middle of a train; what a stranger sends.
    let numbers = [0x4000, 0x4000, 0x4002, 0x4000];
    let messages = numbers.map(|number| channel_data(number, b"text", false));
    client.send_burst(server, &messages);
    for _ in 0..3 {
        assert_eq!(recv(&good).0, b"text");
    }
    send_burst(&stranger, relayed, &payloads(1));
    send_burst(&good, relayed, &vec![b"back".to_vec(); 5]);
    for _ in 0..5 {
        assert_eq!(client.receive_data(0x4000), b"back");
    }
    shards.wait_for(Counter::Dropped(Reason::NoChannel), 1);
    let strange = LENGTHS.len() as u64;
    shards.wait_for(Counter::Dropped(Reason::NoPermission), strange);
    shards.stop();
}

/// Runs `scene` on a thread in a network of its own, whose loopback has an MTU of `mtu`.
fn with_mtu(mtu: &str, scene: fn()) {
    let mtu = mtu.to_owned();
    let alone = thread::spawn(move || {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for flags other than this one"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network");
        let set = ["link", "set", "lo", "mtu", &mtu, "up"];
        let status = Command::new("ip").args(set).status();
        assert!(status.expect("ip").success());
        scene();
    });
    alone.join().expect("no panic");
}

#[test]
fn where_the_kernel_refuses_trains_nothing_is_lost() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes networks");
        return;
    }
    // IPv4 fragments everything longer than 1172 bytes.
    with_mtu("1200", || {
        let options = Options {
            listen: vec!["127.0.0.1:0"],
            ..Options::default()
        };
        let shards = start(&options);
        let server = shards.v4();
        relay_bursts(&mut Client::udp(server), server, 5);
        check(shards, 5 * LENGTHS.len());
    });
}

/// What follows the ChannelData header, or the value of DATA.
fn payload_of(message: &[u8]) -> Vec<u8> {
    if message[0] & 0x40 != 0 {
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        return message[4..4 + length].to_vec();
    }
    let message = Message::parse(message).expect("a message");
    let data = message.attribute(AttributeType::DATA).expect("DATA");
    data.value.to_vec()
}

#[test]
fn bursts_travel_from_client_to_client() {
    for shards in [1, 2] {
        let shards = start(&Options {
            shards,
            ..Options::default()
        });
        let server = shards.v4();
        let others: [fn(SocketAddr) -> Client; 2] = [Client::udp, Client::tcp];
        for (other, by_channel) in others
            .iter()
            .flat_map(|other| [(other, true), (other, false)])
        {
            let (mut from, mut to) = (Client::udp(server), other(server));
            let relayed = [from.allocate(), to.allocate()];
            from.bind(0x4000, relayed[1]);
            if by_channel {
                to.bind(0x4001, relayed[0]);
            } else {
                to.permit(relayed[0]);
            }
            let payloads = payloads(3);
            let messages: Vec<_> = payloads
                .iter()
                .map(|payload| channel_data(0x4000, payload, false))
                .collect();
            for _ in 0..5 {
                from.send_burst(server, &messages);
                for payload in &payloads {
                    assert_eq!(&payload_of(&to.receive()), payload);
                }
            }
        }
        shards.stop();
    }
}
