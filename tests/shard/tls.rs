//! TLS clients.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use turnstone::shard::StreamLimits;
use turnstone::stun::Method;
use turnstone::transport::TlsServer;
use turnstone::turn::{
    AllocationEnd, ConnectionEnd, Counter, Eviction, Family, HandshakeFailure, Source, Transport,
};

use crate::certificates::{Trusted, certificate, client, pair};
use crate::client::{Client, Link};
use crate::conversation::relay_in_pieces;
use crate::harness::{NEVER, Options, Shards, peer, start};
use crate::streams::{FLOOD, flood, read_flood};

/// Running shards that serve TLS, and what a client of theirs needs.
pub(crate) fn serve(change: impl FnOnce(&mut StreamLimits)) -> (Shards, Arc<ClientConfig>) {
    let (server, config) = pair();
    let mut options = Options {
        tls: Some(server),
        ..Options::default()
    };
    change(&mut options.streams);
    (start(&options), config)
}

#[test]
fn channel_data_travels_both_ways_in_any_pieces() {
    let (shards, config) = serve(|_| {});
    for server in shards.tls_addresses.clone() {
        let mut client = Client::tls(server, &config);
        relay_in_pieces(&mut client, server);
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
fn a_slow_reader_loses_old_media_and_no_answer() {
    let (shards, config) = serve(|limits| limits.media_age = NEVER);
    let mut client = Client::tls(shards.tls_addresses[0], &config);
    flood(&mut client, &shards);
    assert!(shards.get(Counter::BacklogEvicted(Eviction::Size)) > 1000);
    let media = read_flood(&mut client, &shards);
    assert!(media.is_sorted(), "what is left is in order");
    let newest = media.last().copied();
    assert!(newest.is_some_and(|last| last > FLOOD - 100), "{newest:?}");
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
        shards.set_tls(&renewed);
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
