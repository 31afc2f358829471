//! The `turn` crate's client talks through the relay.

use std::net::{SocketAddr, UdpSocket};

use tokio::task::JoinHandle;

use super::client::Client;
use super::dialogue::Dialogue;
use super::server::Server;

const LOOPBACK_PEERS: &[&str] = &["--allow-peer", "127.0.0.1"];

#[tokio::test]
async fn udp_client_reaches_an_echo_peer() {
    let server = Server::start(LOOPBACK_PEERS);
    let client = Client::udp(server.address()).await;
    converses_with_echo(&client).await;
    client.close().await;
    server.stop();
}

#[tokio::test]
async fn tcp_client_reaches_an_echo_peer() {
    let server = Server::start(LOOPBACK_PEERS);
    let client = Client::tcp(server.address()).await;
    converses_with_echo(&client).await;
    client.close().await;
    server.stop();
}

#[tokio::test]
async fn two_clients_talk_relay_to_relay_by_default() {
    let server = Server::start(&[]);
    let alice = Client::udp(server.address()).await;
    let bob = Client::tcp(server.address()).await;
    assert_ne!(alice.relayed(), bob.relayed());
    converse(&alice, &bob).await;
    alice.close().await;
    bob.close().await;
    server.stop();
}

#[tokio::test]
async fn many_clients_on_all_shards_talk_to_each_other() {
    let server = Server::start(&["--workers", "2"]);
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::udp(server.address()).await);
        clients.push(Client::tcp(server.address()).await);
    }
    for pair in clients.windows(2) {
        converse(&pair[0], &pair[1]).await;
    }
    let metrics = server.metrics_when(|metrics| metrics.sum("turnstone_allocations") == 8.0);
    assert_eq!(metrics.sum("turnstone_allocations"), 8.0);
    for client in clients {
        client.close().await;
    }
    let ended = |name| {
        server
            .metrics_when(|metrics| metrics.sum(name) == 0.0)
            .sum(name)
    };
    assert_eq!(ended("turnstone_allocations"), 0.0);
    assert_eq!(ended("turnstone_permissions"), 0.0);
    assert_eq!(ended("turnstone_channels"), 0.0);
    assert_eq!(ended("turnstone_relay_ports"), 0.0);
    server.stop();
}

#[test]
fn peers_are_refused_by_default() {
    let server = Server::start(&["--log-level", "debug", "--deny-peer", "9.9.9.0/24"]);
    let mut client = Dialogue::udp(server.address());
    client.allocate(None).unwrap();
    // Only asked for: a server that errs must not send anything there.
    for peer in [
        "127.0.0.2:53",
        "10.0.0.1:80",
        "169.254.169.254:80",
        "224.0.0.1:5353",
    ] {
        assert_eq!(client.permit(peer.parse().unwrap()), Err(403), "{peer}");
    }
    assert_eq!(client.permit("9.9.9.9:53".parse().unwrap()), Err(403));
    let name = "turnstone_refused_peers_total";
    let metrics = server.metrics_when(|metrics| metrics.sum(name) >= 5.0);
    assert_eq!(metrics.with(name, "special_purpose"), 4.0);
    assert_eq!(metrics.with(name, "operator_rule"), 1.0);
    let log = server.stop();
    for told in ["169.254.169.254", "169.254.0.0/16", "9.9.9.9", "9.9.9.0/24"] {
        assert!(log.contains(told), "{told}: {log}");
    }
}

#[test]
fn behind_a_relay_address_only_live_relays_are_reached() {
    let server = Server::start(&[]);
    let service = UdpSocket::bind("127.0.0.1:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let mut client = Dialogue::udp(server.address());
    let relayed = client.allocate(None).unwrap();
    let (service_address, own) = (service.local_addr().unwrap(), server.address());
    // A permission is for an address, and this one is a relay's own (RFC 8656 §9).
    client.permit(relayed).unwrap();
    for refused in [service_address, own] {
        client.indicate(b"let me in", refused);
        assert!(client.bind(0x4000, refused).is_err(), "{refused}");
    }
    client.indicate(b"to myself", relayed);
    assert_eq!(client.indicated(), (b"to myself".to_vec(), relayed));
    assert!(
        service.recv(&mut [0; 16]).is_err(),
        "a local service was reached"
    );
    let name = "turnstone_dropped_packets_total";
    let metrics = server.metrics_when(|metrics| metrics.with(name, "forbidden_peer") >= 2.0);
    assert_eq!(metrics.with(name, "forbidden_peer"), 2.0);
    server.stop();
}

#[tokio::test]
async fn wrong_password_gets_no_allocation() {
    let server = Server::start(&[]);
    let refused = Client::udp_as(server.address(), "alice", "white-rabbit").await;
    assert!(refused.is_err());
    let name = "turnstone_auth_failures_total";
    let failures = |metrics: &super::metrics::Metrics| metrics.with(name, "wrong_password");
    assert!(failures(&server.metrics_when(|metrics| failures(metrics) > 0.0)) >= 1.0);
    server.stop();
}

#[tokio::test]
async fn binding_tells_the_mapped_address() {
    let server = Server::start(&[]);
    let client = Client::udp(server.address()).await;
    assert!(client.mapped().await.ip().is_loopback());
    client.close().await;
    server.stop();
}

/// Payloads of many sizes go to an echo peer and come back unchanged.
async fn converses_with_echo(client: &Client) {
    let (peer, echo) = echo_peer("127.0.0.1").await;
    for round in 0..200u8 {
        let payload = vec![round; 1 + usize::from(round) * 6];
        client.send(&payload, peer).await;
        assert_eq!(client.receive().await, Some((payload, peer)));
    }
    echo.abort();
}

/// Each hears what the other says, by way of both relayed addresses.
async fn converse(alice: &Client, bob: &Client) {
    // The first datagrams only open the ways; they arrive where the way back is open already.
    alice.send(b"knock", bob.relayed()).await;
    bob.send(b"knock", alice.relayed()).await;
    for round in 0..100u8 {
        let said = vec![round; 1 + usize::from(round) * 9];
        bob.send(&said, alice.relayed()).await;
        assert_eq!(heard(alice).await, Some((said, bob.relayed())));
        let answer = vec![!round; 1 + usize::from(round) * 9];
        alice.send(&answer, bob.relayed()).await;
        assert_eq!(heard(bob).await, Some((answer, alice.relayed())));
    }
}

async fn heard(client: &Client) -> Option<(Vec<u8>, SocketAddr)> {
    loop {
        let heard = client.receive().await?;
        if heard.0 != b"knock" {
            return Some(heard);
        }
    }
}

/// A peer at `ip` that sends everything back, until its task is aborted.
pub(crate) async fn echo_peer(ip: &str) -> (SocketAddr, JoinHandle<()>) {
    let socket = tokio::net::UdpSocket::bind((ip, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    (address, task)
}
