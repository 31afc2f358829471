//! Allocations that move with their clients, from shard to shard (RFC 8016).

use std::net::{SocketAddr, UdpSocket};

use turnstone::stun::{AttributeType, Message, Method};
use turnstone::turn::{AllocationEnd, Counter, Stats};

use crate::client::{Client, xor_address};
use crate::harness::{Options, Shards, peer, start};

const CHANNEL: u16 = 0x4000;

fn mobile() -> Shards {
    let options = Options {
        shards: 3,
        mobility: true,
        ..Options::default()
    };
    start(&options)
}

fn ticket_of(response: &[u8]) -> Vec<u8> {
    let message = Message::parse(response).expect("a message");
    let ticket = message.attribute(AttributeType::MOBILITY_TICKET);
    ticket.expect("a ticket").value.to_vec()
}

/// Relayed transport address and ticket.
pub(crate) fn depart(client: &mut Client) -> (SocketAddr, Vec<u8>) {
    let response = client.succeed(Method::ALLOCATE, |request| {
        request
            .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .attribute(AttributeType::MOBILITY_TICKET, &[]);
    });
    let relayed = xor_address(&response, AttributeType::XOR_RELAYED_ADDRESS);
    (relayed, ticket_of(&response))
}

pub(crate) fn come(client: &mut Client, ticket: &[u8]) -> Vec<u8> {
    let response = client.succeed(Method::REFRESH, |request| {
        request.attribute(AttributeType::MOBILITY_TICKET, ticket);
    });
    ticket_of(&response)
}

/// `count` messages each way, both sides ahead of the other: nothing is lost and all is in order.
fn talk(client: &mut Client, peer: &UdpSocket, relayed: SocketAddr, count: u8) {
    for i in 0..count {
        client.send_data(CHANNEL, &[1, i]);
        peer.send_to(&[2, i], relayed).expect("sent");
    }
    let mut buffer = [0; 16];
    for i in 0..count {
        let (length, from) = peer.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((&buffer[..length], from), (&[1, i][..], relayed));
    }
    for i in 0..count {
        assert_eq!(client.receive_data(CHANNEL), [2, i]);
    }
}

/// A client of any kind that has not said anything yet.
fn newcomer(shards: &Shards, kind: usize) -> Client {
    match kind % 4 {
        0 => Client::udp(shards.v4()),
        1 => Client::tcp(shards.v4()),
        2 => Client::udp(shards.v6()),
        _ => Client::tcp(shards.v6()),
    }
}

#[test]
fn allocations_move_between_shards_transports_and_families() {
    let shards = mobile();
    let mut moves = 0;
    for first in 0..4 {
        let mut client = newcomer(&shards, first);
        let (relayed, mut ticket) = depart(&mut client);
        let peer = peer(relayed.ip());
        client.bind(CHANNEL, peer.local_addr().expect("an address"));
        talk(&mut client, &peer, relayed, 10);
        for step in 0..8 {
            let mut next = newcomer(&shards, first + step);
            ticket = come(&mut next, &ticket);
            talk(&mut client, &peer, relayed, 3);
            next.send_data(CHANNEL, b"here");
            assert_eq!(peer.recv(&mut [0; 16]).expect("a datagram"), 4);
            talk(&mut next, &peer, relayed, 10);
            // The old connection closes after the move.
            client = next;
            moves += 1;
            shards.wait_for(Counter::AllocationsMoved, moves);
        }
        client.refresh(0);
    }
    let ended = Counter::AllocationsEnded(AllocationEnd::Deleted);
    shards.wait_for(ended, 4);
    let stats = shards.stop();
    let is_reached = |stats: &Stats| stats.get(Counter::AllocationsMoved) > 0;
    let reached = stats.iter().filter(|stats| is_reached(stats)).count();
    assert!(reached > 1, "from shard to shard");
    for gauge in [Counter::RelayPorts, Counter::Channels, Counter::Permissions] {
        assert!(stats.iter().all(|stats| stats.get(gauge) == 0));
    }
}

/// A burst at the new five-tuple waits for the allocation; what the peer sends meanwhile does too.
#[test]
fn nothing_is_lost_while_an_allocation_is_on_its_way() {
    let shards = mobile();
    let mut client = Client::udp(shards.v4());
    let (relayed, mut ticket) = depart(&mut client);
    let peer = peer(relayed.ip());
    client.bind(CHANNEL, peer.local_addr().expect("an address"));
    for _ in 0..20 {
        let mut next = Client::udp(shards.v4());
        ticket = come(&mut next, &ticket);
        for i in 0..20 {
            next.send_data(CHANNEL, &[i]);
        }
        let mut buffer = [0; 16];
        for i in 0..20 {
            assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 1);
            assert_eq!(buffer[0], i);
        }
        talk(&mut next, &peer, relayed, 5);
        client = next;
    }
    client.refresh(0);
    shards.wait_for(Counter::RelayPorts, 0);
    shards.stop();
}

/// The connection may close before, between and after; the allocation lives as long as its lifetime.
#[test]
fn a_mobile_allocation_outlives_its_connection() {
    let shards = mobile();
    for round in 0..12 {
        let mut client = Client::tcp(shards.v4());
        let (relayed, first) = depart(&mut client);
        let peer = peer(relayed.ip());
        client.bind(CHANNEL, peer.local_addr().expect("an address"));
        let mut old = Some(client);
        let mut close = |when| {
            if round % 3 == when {
                old = None;
            }
        };
        close(0);
        let mut client = Client::tcp(shards.v4());
        come(&mut client, &first);
        close(1);
        client.send_data(CHANNEL, b"here");
        assert_eq!(peer.recv(&mut [0; 16]).expect("a datagram"), 4);
        close(2);
        talk(&mut client, &peer, relayed, 5);
        client.refresh(0);
    }
    shards.wait_for(Counter::RelayPorts, 0);
    shards.stop();
}
