//! TLS clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use turnstone::shard::StreamLimits;
use turnstone::stun::Method;
use turnstone::transport::TlsServer;
use turnstone::turn::{
    AllocationEnd, ConnectionEnd, Counter, Direction, Eviction, Family, HandshakeFailure, Source,
    Transport,
};

use crate::certificates::{Trusted, certificate, client, pair};
use crate::client::{Client, Link, channel_data};
use crate::harness::{Options, Shards, peer, start};

/// Running shards that serve TLS, and what a client of theirs needs.
fn serve(change: impl FnOnce(&mut StreamLimits)) -> (Shards, Arc<ClientConfig>) {
    let (server, config) = pair();
    let mut options = Options {
        tls: Some(server),
        ..Options::default()
    };
    change(&mut options.streams);
    (start(&options), config)
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).expect("a timeout");
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    end.is_ok_and(|_| true)
        || stream.take_error().is_ok_and(|error| {
            error.is_none_or(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
        })
}

#[test]
fn channel_data_travels_both_ways_in_any_pieces() {
    let (shards, config) = serve(|_| {});
    for server in shards.tls_addresses.clone() {
        let mut client = Client::tls(server, &config);
        assert_eq!(client.ping(), client.local());
        let relayed = client.allocate();
        let peer = peer(server.ip());
        client.bind(0x4000, peer.local_addr().expect("an address"));
        let payloads: Vec<Vec<u8>> = (0..9).map(|i| vec![i; usize::from(i) * 37]).collect();
        let stream: Vec<u8> = payloads
            .iter()
            .flat_map(|payload| channel_data(0x4000, payload, true))
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
                assert_eq!(client.receive_data(0x4000), *payload);
            }
        }
    }
    let stats = shards.stop().remove(0);
    assert_eq!(stats.get(Counter::TlsHandshakes), 2);
    assert_eq!(stats.get(Counter::ConnectionsAccepted(Transport::Tls)), 2);
    assert!(stats.get(Counter::ReceivedBytes(Source::ClientTls)) > 0);
    assert!(stats.get(Counter::ConnectionBytes(Transport::Tls)) > 0);
    assert_eq!(stats.get(Counter::ConnectionBytes(Transport::Tcp)), 0);
    let created = |family| stats.get(Counter::AllocationsCreated(Transport::Tls, family));
    assert_eq!((created(Family::V4), created(Family::V6)), (1, 1));
}

/// The bytes on the wire, in turn, one at a time: records in pieces, and pieces of several records.
#[test]
fn ciphertext_may_be_cut_anywhere() {
    let (shards, config) = serve(|_| {});
    for size in [1, 2, 5, 6, 29, 1000, usize::MAX] {
        let mut client = Client::tls(shards.tls_addresses[0], &config);
        client.ping();
        let requests: Vec<_> = (0..5)
            .map(|_| client.build(Method::BINDING, |_| {}))
            .collect();
        let Link::Tls(link) = &mut client.link else {
            panic!("a TLS link");
        };
        for request in requests {
            link.conn.writer().write_all(&request).expect("plaintext");
        }
        let mut bytes = Vec::new();
        while link.conn.wants_write() {
            link.conn.write_tls(&mut bytes).expect("ciphertext");
        }
        for piece in bytes.chunks(size.min(bytes.len())) {
            link.sock.write_all(piece).expect("sent");
        }
        for _ in 0..5 {
            client.receive();
        }
    }
    shards.stop();
}

#[test]
fn the_largest_frame_passes() {
    let (shards, config) = serve(|_| {});
    let mut client = Client::tls(shards.tls_addresses[0], &config);
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let largest: Vec<u8> = (0..65_507_u32).map(|i| i.to_le_bytes()[0]).collect();
    client.send_data(0x4000, &largest);
    let mut buffer = vec![0; 70_000];
    assert_eq!(peer.recv(&mut buffer).expect("a datagram"), largest.len());
    peer.send_to(&largest, relayed).expect("sent");
    assert!(client.receive_data(0x4000) == largest);
    shards.stop();
}

#[test]
fn both_versions_relay() {
    let trusted = certificate();
    let server = TlsServer::new(std::slice::from_ref(&trusted.certificate)).expect("random bytes");
    let shards = start(&Options {
        tls: Some(server),
        ..Options::default()
    });
    for version in [&TLS12, &TLS13] {
        let config = client(&[&trusted], &[version]);
        let mut client = Client::tls(shards.tls_addresses[0], &config);
        client.allocate();
        let Link::Tls(link) = &client.link else {
            panic!("a TLS link");
        };
        assert_eq!(link.conn.protocol_version(), Some(version.version));
    }
    shards.stop();
}

#[test]
fn close_notify_ends_the_allocation_and_is_answered() {
    let (shards, config) = serve(|_| {});
    let mut client = Client::tls(shards.tls_addresses[0], &config);
    client.allocate();
    shards.wait_for(Counter::Allocations(Transport::Tls, Family::V4), 1);
    let Link::Tls(link) = &mut client.link else {
        panic!("a TLS link");
    };
    link.conn.send_close_notify();
    link.conn.complete_io(&mut link.sock).expect("sent");
    shards.wait_for(Counter::AllocationsEnded(AllocationEnd::ClientGone), 1);
    // An end without close_notify would be an error.
    assert_eq!(link.read(&mut [0; 8]).expect("a clean end"), 0);
    shards.stop();
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
    let (shards, config) = serve(|limits| limits.silent_after = Duration::from_millis(400));
    let begin = Instant::now();
    let mut silent = Client::tcp(shards.tls_addresses[0]);
    let mut slow = Client::tcp(shards.tls_addresses[0]);
    let mut mute = Client::tls(shards.tls_addresses[0], &config);
    let Link::Tls(link) = &mut mute.link else {
        panic!("a TLS link");
    };
    // The handshake, and then nothing.
    link.conn.complete_io(&mut link.sock).expect("a handshake");
    for byte in [22_u8, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3, 0, 0, 0, 0, 0] {
        if slow.stream().write_all(&[byte]).is_err() {
            break;
        }
        sleep(Duration::from_millis(40));
    }
    for stream in [silent.stream(), slow.stream(), mute.stream()] {
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
    let (shards, config) = serve(|_| {});
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

#[test]
fn a_slow_reader_loses_old_media_and_no_answer() {
    let (shards, config) = serve(|limits| limits.media_age = Duration::from_secs(100));
    let mut client = Client::tls(shards.tls_addresses[0], &config);
    let buffer = socket2::SockRef::from(&*client.stream()).set_recv_buffer_size(64 * 1024);
    buffer.expect("an option");
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let mut payload = vec![7; 1000];
    const COUNT: u32 = 4000;
    for i in 0..COUNT {
        payload[..4].copy_from_slice(&i.to_be_bytes());
        peer.send_to(&payload, relayed).expect("sent");
        if i % 50 == 0 {
            sleep(Duration::from_millis(1));
        }
    }
    for _ in 0..5 {
        let request = client.build(Method::BINDING, |_| {});
        client.send(&request);
    }
    sleep(Duration::from_millis(200));
    let evicted = Counter::BacklogEvicted(Eviction::Size);
    assert!(shards.get(evicted) > 1000);

    let (mut answers, mut media) = (0, Vec::new());
    let number = |message: &[u8]| {
        assert_eq!((message[0], message.len()), (0x40, 1004));
        u32::from_be_bytes(message[4..8].try_into().expect("four bytes"))
    };
    let relayed = Counter::RelayedPackets(Direction::ToClient);
    let left = shards.get(relayed) - shards.get(evicted);
    while answers < 5 || (media.len() as u64) < left {
        let message = client.receive();
        if message[0] == 0x40 {
            media.push(number(&message));
        } else {
            answers += 1;
        }
    }
    assert!(media.is_sorted(), "what is left is in order");
    let newest = media.last().copied();
    assert!(newest.is_some_and(|last| last > COUNT - 100), "{newest:?}");
    shards.stop();
}

#[test]
fn a_certificate_swapped_under_load_loses_no_session() {
    let first = certificate();
    let server = TlsServer::new(std::slice::from_ref(&first.certificate)).expect("random bytes");
    let shards = start(&Options {
        tls: Some(server.clone()),
        shards: 2,
        ..Options::default()
    });
    let connect = |trusted: &Trusted| {
        let config = client(&[trusted], rustls::ALL_VERSIONS);
        let mut client = Client::tls(shards.tls_addresses[0], &config);
        let relayed = client.allocate();
        let peer = peer(relayed.ip());
        client.bind(0x4000, peer.local_addr().expect("an address"));
        (client, peer, relayed)
    };
    let mut sessions: Vec<_> = (0..4).map(|_| connect(&first)).collect();
    for swap in 0..10_u8 {
        let next = certificate();
        let renewed = server.with_certificates(std::slice::from_ref(&next.certificate));
        (0..2).for_each(|shard| shards.handle(shard).set_tls(renewed.clone()));
        sleep(Duration::from_millis(20));
        sessions.push(connect(&next));
        for (client, peer, relayed) in &mut sessions {
            client.send_data(0x4000, &[swap; 100]);
            let mut buffer = [0; 128];
            assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 100);
            peer.send_to(&buffer[..100], *relayed).expect("sent");
            assert_eq!(client.receive_data(0x4000), [swap; 100]);
        }
    }
    shards.wait_for(Counter::Connections(Transport::Tls), 14);
    let stats = shards.stop();
    let failed = |stats: &turnstone::turn::Stats| {
        let all = HandshakeFailure::ALL.iter();
        all.map(|failure| stats.get(Counter::TlsHandshakesFailed(*failure)))
            .sum::<u64>()
    };
    assert_eq!(stats.iter().map(failed).sum::<u64>(), 0);
}

#[test]
fn a_session_is_resumed_by_its_ticket() {
    let (shards, config) = serve(|_| {});
    let kinds = [
        rustls::HandshakeKind::Full,
        rustls::HandshakeKind::Resumed,
        rustls::HandshakeKind::Resumed,
    ];
    for kind in kinds {
        let mut client = Client::tls(shards.tls_addresses[0], &config);
        client.ping();
        let Link::Tls(link) = &client.link else {
            panic!("a TLS link");
        };
        assert_eq!(link.conn.handshake_kind(), Some(kind));
    }
    shards.stop();
}

#[test]
fn a_stop_says_goodbye() {
    let (shards, config) = serve(|_| {});
    let mut client = Client::tls(shards.tls_addresses[0], &config);
    client.allocate();
    let stats = shards.stop().remove(0);
    let Link::Tls(link) = &mut client.link else {
        panic!("a TLS link");
    };
    assert_eq!(link.read(&mut [0; 8]).expect("a clean end"), 0);
    let shutdown = Counter::ConnectionsClosed(Transport::Tls, ConnectionEnd::Shutdown);
    assert_eq!(stats.get(shutdown), 1);
}
