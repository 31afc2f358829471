//! UDP clients.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use turnstone::stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};
use turnstone::turn::{AllocationEnd, Counter, Direction, Family, Reason, Source, Transport};

use crate::client::{Client, channel_data, xor_address};
use crate::conversation::relay_both_ways;
use crate::harness::{Options, peer, policy, start};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn channel_data_travels_both_ways_over_both_families() {
    let shards = start(&Options::default());
    for server in [shards.v4(), shards.v6()] {
        let mut client = Client::udp(server);
        assert_eq!(client.ping(), client.local());
        assert_eq!(relay_both_ways(&mut client, 50).ip(), server.ip());
    }
    let stats = shards.stop().remove(0);
    for direction in Direction::ALL {
        assert_eq!(stats.get(Counter::RelayedPackets(*direction)), 100);
    }
    assert_eq!(stats.get(Counter::ReceivedPackets(Source::Peer)), 100);
}

#[test]
fn indications_travel_both_ways() {
    let shards = start(&Options::default());
    let mut client = Client::udp(shards.v4());
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    let place = peer.local_addr().expect("an address");
    client.permit(place);
    let mut send = Vec::new();
    MessageBuilder::new(
        &mut send,
        Class::Indication,
        Method::SEND,
        TransactionId([1; 12]),
    )
    .xor_address(AttributeType::XOR_PEER_ADDRESS, place)
    .attribute(AttributeType::DATA, b"hello");
    client.send(&send);
    let mut buffer = [0; 64];
    assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 5);
    peer.send_to(b"odd", relayed).expect("sent");
    let data = client.receive();
    assert_eq!(data.len() % 4, 0);
    assert_eq!(xor_address(&data, AttributeType::XOR_PEER_ADDRESS), place);
    let message = Message::parse(&data).expect("a message");
    let value = message.attribute(AttributeType::DATA).expect("DATA").value;
    assert_eq!(value, b"odd");
    shards.stop();
}

#[test]
fn the_largest_datagram_passes_and_a_larger_one_is_counted() {
    let shards = start(&Options::default());
    let mut client = Client::udp(shards.v4());
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let largest = vec![9; 65_503];
    client.send_data(0x4000, &largest);
    let mut buffer = vec![0; 70_000];
    assert_eq!(peer.recv(&mut buffer).expect("a datagram"), largest.len());
    peer.send_to(&largest, relayed).expect("sent");
    assert!(client.receive_data(0x4000) == largest);
    // A datagram, but no room for the channel header.
    peer.send_to(&[0; 65_507], relayed).expect("sent");
    shards.wait_for(Counter::Dropped(Reason::TooLarge), 1);
    shards.stop();
}

#[test]
fn a_burst_is_relayed_in_order_and_lost_nowhere() {
    let shards = start(&Options::default());
    let mut client = Client::udp(shards.v4());
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    for round in 0..20_u8 {
        for i in 0..100_u8 {
            client.send_data(0x4000, &[round, i]);
        }
        for i in 0..100_u8 {
            let mut buffer = [0; 8];
            assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 2);
            assert_eq!(buffer[..2], [round, i]);
            peer.send_to(&buffer[..2], relayed).expect("sent");
        }
        for i in 0..100_u8 {
            assert_eq!(client.receive_data(0x4000), [round, i]);
        }
    }
    shards.stop();
}

#[test]
fn a_wildcard_listener_answers_and_relays_from_the_address_that_was_reached() {
    let options = Options {
        listen: vec!["0.0.0.0:0", "[::]:0"],
        ..Options::default()
    };
    let shards = start(&options);
    for (home, any) in [("127.0.0.2", shards.v4()), ("::1", shards.v6())] {
        let reached = SocketAddr::new(ip(home), any.port());
        // The client's socket is connected: it hears that address only.
        assert_eq!(
            relay_both_ways(&mut Client::udp(reached), 10).ip(),
            ip(home)
        );
        assert_eq!(
            relay_both_ways(&mut Client::tcp(reached), 10).ip(),
            ip(home)
        );
    }
    shards.stop();
}

#[test]
fn two_shards_serve_many_clients() {
    let options = Options {
        shards: 2,
        ..Options::default()
    };
    let shards = start(&options);
    let mut clients: Vec<Client> = (0..40).map(|_| Client::udp(shards.v4())).collect();
    clients.extend((0..40).map(|_| Client::tcp(shards.v4())));
    for client in &mut clients {
        assert_eq!(relay_both_ways(client, 3).ip(), shards.v4().ip());
    }
    let stats = shards.stop();
    for stats in &stats {
        let relayed = stats.get(Counter::RelayedPackets(Direction::ToPeer));
        assert!(relayed > 0, "both shards have clients");
    }
    let sum = |counter| stats.iter().map(|stats| stats.get(counter)).sum::<u64>();
    let created = Counter::AllocationsCreated(Transport::Tcp, Family::V4);
    assert_eq!(sum(created), 40);
}

#[test]
fn two_relays_reach_each_other() {
    let options = Options {
        shards: 2,
        ..Options::default()
    };
    let shards = start(&options);
    let [mut a, mut b] = [Client::udp(shards.v4()), Client::tcp(shards.v4())];
    let (at_a, at_b) = (a.allocate(), b.allocate());
    a.bind(0x4001, at_b);
    b.bind(0x4002, at_a);
    a.send_data(0x4001, b"from a");
    assert_eq!(b.receive_data(0x4002), b"from a");
    b.send_data(0x4002, b"from b");
    assert_eq!(a.receive_data(0x4001), b"from b");
    shards.stop();
}

#[test]
fn a_taken_relay_port_is_passed_over_and_none_left_is_508() {
    // Where no other test would take the port meanwhile.
    let taken = peer(ip("127.0.0.3"));
    let port = taken.local_addr().expect("an address").port();
    let options = Options {
        listen: vec!["127.0.0.3:0"],
        relay_ports: port..=port,
        ..Options::default()
    };
    let shards = start(&options);
    let mut client = Client::udp(shards.v4());
    let allocate = |request: &mut MessageBuilder<'_>| {
        request.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    };
    let response = client.request(Method::ALLOCATE, allocate);
    let message = Message::parse(&response).expect("a message");
    let code = message
        .attribute(AttributeType::ERROR_CODE)
        .expect("an error");
    assert_eq!(code.value[2..4], [5, 8]);
    drop(taken);
    assert_eq!(client.allocate().port(), port);
    shards.stop();
}

#[test]
fn a_deleted_allocation_closes_its_socket_after_what_it_has_to_send() {
    // Where no other test would take the port meanwhile.
    let shards = start(&Options {
        listen: vec!["127.0.0.4:0"],
        ..Options::default()
    });
    let mut client = Client::udp(shards.v4());
    for _ in 0..20 {
        let relayed = client.allocate();
        let peer = peer(relayed.ip());
        client.bind(0x4000, peer.local_addr().expect("an address"));
        client.send_data(0x4000, b"last words");
        client.refresh(0);
        let mut buffer = [0; 32];
        assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 10);
        std::net::UdpSocket::bind(relayed).expect("the port is free again");
    }
    let stats = shards.stop().remove(0);
    let ended = Counter::AllocationsEnded(AllocationEnd::Deleted);
    assert_eq!(stats.get(ended), 20);
    assert_eq!(stats.get(Counter::RelayPorts), 0);
}

#[test]
fn a_new_policy_is_obeyed() {
    let options = Options::default();
    let shards = start(&options);
    let mut client = Client::udp(shards.v4());
    for allocations in [0, 10, 0] {
        let mut changed = policy(&options);
        changed.limits.allocations = allocations;
        shards.handle(0).set_policy(Arc::new(changed));
        shards.heed();
        let wanted = if allocations == 0 {
            Class::Error
        } else {
            Class::Success
        };
        assert_eq!(try_to_allocate(&mut client), wanted);
    }
    assert_eq!(shards.handle(0).index(), 0);
    assert!(!shards.handle(0).is_finished());
    shards.stop();
}

/// Allocates and lets go again.
fn try_to_allocate(client: &mut Client) -> Class {
    let response = client.request(Method::ALLOCATE, |request| {
        request.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    let class = Message::parse(&response).expect("a message").class();
    if class == Class::Success {
        client.refresh(0);
    }
    class
}

#[test]
fn noise_is_counted_and_harms_nobody() {
    let shards = start(&Options::default());
    let mut client = Client::udp(shards.v4());
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let mut noise = Client::udp(shards.v4());
    for i in 0..=255_u8 {
        noise.send(&[i; 40]);
        noise.send(&channel_data(0x4000, &[i], false));
        if i % 32 == 0 {
            // All of it is to be heard.
            noise.ping();
        }
    }
    noise.send(&[]);
    client.send_data(0x4000, b"media");
    let mut buffer = [0; 32];
    assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 5);
    shards.stop();
}

#[test]
fn an_idle_shard_sleeps() {
    let shards = start(&Options::default());
    let mut clients: Vec<Client> = (0..20).map(|_| Client::udp(shards.v4())).collect();
    clients.iter_mut().for_each(|client| {
        client.allocate();
    });
    let mut silent = Client::tcp(shards.v4());
    silent.allocate();
    shards.wait_for(Counter::RelayPorts, 21);
    // Counters that were asked for are no news any more.
    let before = shards.passes(0);
    sleep(Duration::from_secs(2));
    let passes = shards.passes(0).wrapping_sub(before);
    // One to say so, and one each time that the process was stopped.
    assert!(passes <= 3, "{passes} passes: it does not sleep");
    shards.stop();
}
