//! TLS handshakes that fail, dawdle or never end (requirement S8).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use turnstone::turn::{ConnectionEnd, Counter, Direction, HandshakeFailure, Transport};

use crate::certificates::client;
use crate::client::{Client, Link};
use crate::harness::{NEVER, PATIENCE, peer};
use crate::streams::is_closed_under;
use crate::tls::serve;

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    end.is_ok_and(|_| true)
        || stream.take_error().is_ok_and(|error| {
            error.is_none_or(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
        })
}

#[test]
fn what_is_not_tls_is_closed_and_its_neighbour_is_not() {
    let (shards, config) = serve(|_| {});
    let mut good = Client::tls(shards.tls_addresses[0], &config);
    good.ping();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42],
    ] {
        let mut bad = Client::tcp(shards.tls_addresses[0]);
        bad.send(bytes);
        assert!(is_closed(bad.stream()));
        good.ping();
    }
    shards.wait_for(Counter::TlsHandshakesFailed(HandshakeFailure::NotTls), 2);
    let handshake = Counter::ConnectionsClosed(Transport::Tls, ConnectionEnd::Handshake);
    shards.wait_for(handshake, 2);
    shards.wait_for(Counter::TlsHandshaking, 0);
    shards.stop();
}

#[test]
fn a_client_that_distrusts_the_certificate_is_counted() {
    let (shards, _) = serve(|_| {});
    let stranger = client(&[], rustls::ALL_VERSIONS);
    let mut client = Client::tls(shards.tls_addresses[0], &stranger);
    let Link::Tls(link) = &mut client.link else {
        panic!("a TLS link");
    };
    assert!(link.write_all(&[0; 20]).is_err());
    drop(client);
    shards.wait_for(
        Counter::TlsHandshakesFailed(HandshakeFailure::Certificate),
        1,
    );
    shards.stop();
}

/// Requirement S8.
#[test]
fn half_open_and_slow_handshakes_are_closed() {
    let (shards, config) = serve(|limits| limits.silent_after = NEVER);
    let mut mute = Client::tls(shards.tls_addresses[0], &config);
    let Link::Tls(link) = &mut mute.link else {
        panic!("a TLS link");
    };
    // The handshake, and then nothing that means something.
    link.conn.complete_io(&mut link.sock).expect("a handshake");
    shards.wait_for(Counter::TlsHandshakes, 1);
    shards.limit(|limits| {
        limits.silent_after = Duration::from_millis(400);
        limits.idle_after = NEVER;
    });
    let begin = Instant::now();
    let mut silent = Client::tcp(shards.tls_addresses[0]);
    let mut slow = Client::tcp(shards.tls_addresses[0]);
    // A hello of which more follows than ever comes.
    slow.send(&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]);
    assert!(is_closed_under(&mut slow, &[0]));
    mute.send(&[0x40, 0, 0, 0]);
    for stream in [silent.stream(), mute.stream()] {
        assert!(is_closed(stream));
    }
    assert!(begin.elapsed() >= Duration::from_millis(400));
    shards.wait_for(Counter::TlsHandshakesFailed(HandshakeFailure::Timeout), 2);
    let silent = Counter::ConnectionsClosed(Transport::Tls, ConnectionEnd::Silent);
    shards.wait_for(silent, 1);
    shards.wait_for(Counter::TlsHandshaking, 0);
    shards.stop();
}

#[test]
fn too_many_handshakes_end_the_oldest_and_no_session() {
    let (shards, config) = serve(|limits| limits.handshakes = 3);
    let mut good = Client::tls(shards.tls_addresses[0], &config);
    good.ping();
    let mut half: Vec<Client> = Vec::new();
    for open in 1..=5_u64 {
        half.push(Client::tcp(shards.tls_addresses[0]));
        shards.wait_for(Counter::TlsHandshaking, open.min(3));
    }
    for client in &mut half[..2] {
        assert!(is_closed(client.stream()));
    }
    shards.wait_for(Counter::TlsHandshakesFailed(HandshakeFailure::Refused), 2);
    good.ping();
    // Another still gets in.
    Client::tls(shards.tls_addresses[0], &config).ping();
    shards.stop();
}

/// Requirement S8: 500 that never finish a handshake, and media goes on.
#[test]
fn five_hundred_slow_clients_cost_a_good_one_nothing() {
    let (shards, config) = serve(|limits| limits.silent_after = NEVER);
    let mut good = Client::tls(shards.tls_addresses[0], &config);
    let relayed = good.allocate();
    let peer = peer(relayed.ip());
    good.bind(0x4000, peer.local_addr().expect("an address"));
    let mut slow: Vec<Client> = Vec::new();
    let mut buffer = [0; 2048];
    for i in 0..500_u32 {
        let mut client = Client::tcp(shards.tls_addresses[0]);
        client.send(&[22, 3, 1, 2]);
        slow.push(client);
        let payload = i.to_be_bytes().repeat(100);
        good.send_data(0x4000, &payload);
        let length = peer.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..length], payload);
        peer.send_to(&payload, relayed).expect("sent");
        assert_eq!(good.receive_data(0x4000), payload);
        // Each of them goes on, a byte at a time.
        let turn = slow.len() / 2;
        slow[turn].send(&[0]);
    }
    shards.wait_for(Counter::TlsHandshaking, 500);
    let stats = shards.stop().remove(0);
    for direction in Direction::ALL {
        assert_eq!(stats.get(Counter::RelayedPackets(*direction)), 500);
    }
}

/// Requirement S8: handshakes that never end, more than there may be at a time.
#[test]
fn ten_thousand_half_open_handshakes_cost_a_good_client_nothing() {
    let (shards, config) = serve(|limits| {
        limits.handshakes = 200;
        limits.connections_per_source = 20_000;
        limits.silent_after = NEVER;
    });
    let mut good = Client::tls(shards.tls_addresses[0], &config);
    let relayed = good.allocate();
    let peer = peer(relayed.ip());
    good.bind(0x4000, peer.local_addr().expect("an address"));
    let mut half_open = VecDeque::new();
    for i in 0..10_000_u32 {
        let mut stream = TcpStream::connect(shards.tls_addresses[0]).expect("a listener");
        // The server may have ended it already.
        let _ = stream.write_all(&[22, 3, 1, 2, 0, 1, 0]);
        half_open.push_back(stream);
        if half_open.len() > 400 {
            half_open.pop_front();
        }
        if i % 100 == 0 {
            let payload = i.to_be_bytes().repeat(100);
            good.send_data(0x4000, &payload);
            let mut buffer = [0; 2048];
            let length = peer.recv(&mut buffer).expect("a datagram");
            peer.send_to(&buffer[..length], relayed).expect("sent");
            assert_eq!(good.receive_data(0x4000), payload);
        }
    }
    Client::tls(shards.tls_addresses[0], &config).ping();
    shards.wait_for(Counter::TlsHandshakes, 2);
    let refused = Counter::TlsHandshakesFailed(HandshakeFailure::Refused);
    assert!(shards.get(refused) > 5000, "{}", shards.get(refused));
    shards.stop();
}
