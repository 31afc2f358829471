//! Allocations that move with their clients, between the shards of the real binary (RFC 8016).

use std::net::{SocketAddr, UdpSocket};

use stun::attributes::AttrType;
use stun::message::{Getter, METHOD_ALLOCATE, METHOD_REFRESH, Message, Setter};
use turn::proto::PROTO_UDP;
use turn::proto::relayaddr::RelayedAddress;
use turn::proto::reqtrans::RequestedTransport;

use super::coturn_tools::{LOOPBACK_PEERS, Peer, Tally, account};
use super::dialogue::{Dialogue, channel_data};
use super::families::heard;
use super::process::lacks;
use super::reservations::raw;
use super::server::Server;

const CHANNEL: u16 = 0x4000;
const MOBILITY_TICKET: AttrType = AttrType(0x8030);
const MOVED: &str = "turnstone_allocations_moved_total";
const ENDED: &str = "turnstone_allocations_ended_total";

/// A server with three workers that lets allocations move.
fn mobile() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mobile.toml");
    std::fs::write(&file, "[mobility]\nenabled = true\n").unwrap();
    let config = file.display().to_string();
    let arguments = [LOOPBACK_PEERS, &["--workers", "3", "--config", &config]].concat();
    Server::start(&arguments)
}

/// Over UDP and TCP, from clients that land on different shards.
#[test]
fn an_allocation_follows_its_client_to_every_shard() {
    let server = mobile();
    let mut client = Dialogue::udp(server.address());
    let (relayed, mut ticket) = depart(&mut client);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.bind(CHANNEL, peer.local_addr().unwrap()).unwrap();
    for round in 0..12 {
        let mut next = if round % 3 == 0 {
            Dialogue::tcp(server.address())
        } else {
            Dialogue::udp(server.address())
        };
        let used = ticket.clone();
        ticket = come(&mut next, &used).unwrap();
        talks(&mut client, relayed, &peer);
        talks(&mut next, relayed, &peer);
        let mut thief = Dialogue::udp(server.address());
        assert_eq!(come(&mut thief, &used).err(), Some(400));
        client = next;
    }
    let metrics = server.metrics_when(|metrics| metrics.sum(MOVED) == 12.0);
    assert_eq!(metrics.sum(MOVED), 12.0);
    assert_eq!(metrics.sum("turnstone_relay_ports"), 1.0);
    let log = server.stop();
    assert!(!log.contains(std::str::from_utf8(&ticket).unwrap()));
}

#[test]
fn mobility_is_off_by_default() {
    let server = Server::start(&[]);
    let mut client = Dialogue::udp(server.address());
    let refused = allocate(&mut client, &[]);
    assert_eq!(refused.err(), Some(405));
    server.stop();
}

#[test]
fn uclient_moves_over_udp() {
    moves("uclient_moves_over_udp", "-s");
}

#[test]
fn uclient_moves_over_tcp() {
    moves("uclient_moves_over_tcp", "-s -t");
}

/// Five clients change their port as soon as they have an allocation, then send 20 messages each to an
/// echo peer. The tool's first allocation, a probe, moves too; nobody deletes it.
fn moves(test: &str, flags: &str) {
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let server = mobile();
    let peer = Peer::at("127.0.0.1");
    let flags = format!("{} {} -M {flags}", peer.flags(), account());
    Tally::of(&server, &flags).check(100);
    let metrics = server.metrics_when(|metrics| metrics.sum(MOVED) >= 5.0);
    assert!(metrics.sum(MOVED) >= 5.0, "{metrics:#?}");
    let client_gone = metrics.with(ENDED, "client_gone");
    assert_eq!(client_gone, 0.0, "tickets outlive connections");
    server.stop();
}

/// Data to the peer and back.
fn talks(client: &mut Dialogue, relayed: SocketAddr, peer: &UdpSocket) {
    client.send(&channel_data(CHANNEL, b"to and")).unwrap();
    assert_eq!(heard(peer), (b"to and".to_vec(), relayed));
    peer.send_to(b"fro", relayed).unwrap();
    let answer = &channel_data(CHANNEL, b"fro")[..4 + 3];
    assert_eq!(client.receive().unwrap(), answer);
}

fn depart(client: &mut Dialogue) -> (SocketAddr, Vec<u8>) {
    let response = allocate(client, &[]).unwrap();
    let mut relayed = RelayedAddress::default();
    relayed.get_from(&response).unwrap();
    let ticket = response.get(MOBILITY_TICKET).unwrap();
    (SocketAddr::new(relayed.ip, relayed.port), ticket)
}

fn allocate(client: &mut Dialogue, ticket: &[u8]) -> Result<Message, u16> {
    let transport = RequestedTransport {
        protocol: PROTO_UDP,
    };
    let attributes: [Box<dyn Setter>; 2] =
        [Box::new(transport), Box::new(raw(MOBILITY_TICKET, ticket))];
    client.request(METHOD_ALLOCATE, &attributes)
}

/// The new ticket, or the error code.
fn come(client: &mut Dialogue, ticket: &[u8]) -> Result<Vec<u8>, u16> {
    let attributes: [Box<dyn Setter>; 1] = [Box::new(raw(MOBILITY_TICKET, ticket))];
    let response = client.request(METHOD_REFRESH, &attributes)?;
    Ok(response.get(MOBILITY_TICKET).unwrap())
}
