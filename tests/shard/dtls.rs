//! DTLS clients.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use turnstone::stun::Method;
use turnstone::transport::DtlsIdentity;
use turnstone::turn::{
    AllocationEnd, ConnectionEnd, Counter, Direction, Family, HandshakeFailure, Reason, Source,
    Transport,
};

use crate::client::{Client, Link};
use crate::conversation::relay_both_ways;
use crate::dtls_link::{DtlsLink, Version, certificate};
use crate::harness::{NEVER, Options, PATIENCE, Shards, peer, start};

const VERSIONS: [Version; 2] = [Version::Dtls12, Version::Dtls13];

pub(crate) fn with_dtls() -> Options {
    let (certificate, key) = certificate();
    let identity = DtlsIdentity::new([&certificate[..]], &key).expect("a good key");
    Options {
        dtls: Some(Some(Arc::new(identity))),
        ..Options::default()
    }
}

/// The client again, from the same port.
fn again(client: Client) -> Client {
    let Link::Dtls(link) = client.link else {
        panic!("not DTLS");
    };
    let mut link = DtlsLink::open(link.socket, Version::Dtls12);
    assert!(link.shake_hands(), "{:?}", link.failure);
    Client::over(Link::Dtls(Box::new(link)))
}

fn sessions(shards: &Shards, count: u64) {
    shards.wait_for(Counter::DtlsSessions, count);
}

#[test]
fn channel_data_travels_both_ways_over_both_versions_and_families() {
    let shards = start(&with_dtls());
    for version in VERSIONS {
        for server in [shards.v4(), shards.v6()] {
            let mut client = Client::dtls(server, version);
            assert_eq!(client.ping(), client.local());
            relay_both_ways(&mut client, 50);
        }
    }
    let allocations = Counter::AllocationsCreated(Transport::Dtls, Family::V4);
    shards.wait_for(allocations, 2);
    let stats = shards.stop().remove(0);
    for direction in Direction::ALL {
        assert_eq!(stats.get(Counter::RelayedPackets(*direction)), 200);
    }
    assert_eq!(stats.get(Counter::DtlsHandshakes), 4);
    assert_eq!(stats.get(Counter::DtlsSessions), 0);
}

#[test]
fn a_wildcard_listener_serves_each_address_apart() {
    let options = Options {
        listen: vec!["0.0.0.0:0"],
        ..with_dtls()
    };
    let shards = start(&options);
    let mut server = shards.v4();
    for home in ["127.0.0.1", "127.0.0.2"] {
        server.set_ip(home.parse().expect("an address"));
        let mut client = Client::dtls(server, Version::Dtls12);
        relay_both_ways(&mut client, 3);
    }
    shards.stop();
}

#[test]
fn plain_clients_are_served_on_the_same_port() {
    let shards = start(&with_dtls());
    let mut secure = Client::dtls(shards.v4(), Version::Dtls13);
    let mut plain = Client::udp(shards.v4());
    for _ in 0..3 {
        assert_eq!(plain.ping(), plain.local());
        assert_eq!(secure.ping(), secure.local());
    }
    shards.stop();
}

#[test]
fn where_dtls_alone_is_served_plain_datagrams_are_unclassified() {
    let shards = start(&Options {
        dtls_alone: true,
        ..with_dtls()
    });
    let mut secure = Client::dtls(shards.v4(), Version::Dtls12);
    relay_both_ways(&mut secure, 3);
    let mut plain = Client::udp(shards.v4());
    let request = plain.build(Method::BINDING, |_| {});
    plain.send(&request);
    shards.wait_for(Counter::Dropped(Reason::Unclassified), 1);
    assert_eq!(secure.ping(), secure.local());
    shards.stop();
}

#[test]
fn without_dtls_its_datagrams_are_unclassified() {
    let shards = start(&Options::default());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(shards.v4()).expect("a route");
    let link = DtlsLink::open(socket, Version::Dtls12);
    shards.wait_for(Counter::Dropped(Reason::Unclassified), 1);
    drop(link);
    shards.stop();
}

#[test]
fn what_fits_no_record_is_counted() {
    let shards = start(&with_dtls());
    let mut client = Client::dtls(shards.v4(), Version::Dtls12);
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    // With the channel header 16 384 bytes, and one more.
    peer.send_to(&[7; 16_380], relayed).expect("sent");
    assert_eq!(client.receive_data(0x4000), [7; 16_380]);
    peer.send_to(&[7; 16_381], relayed).expect("sent");
    shards.wait_for(Counter::Dropped(Reason::TooLarge), 1);
    assert_eq!(client.ping(), client.local());
    shards.stop();
}

#[test]
fn a_client_that_closes_takes_its_allocation_with_it() {
    let shards = start(&with_dtls());
    let mut client = Client::dtls(shards.v4(), Version::Dtls12);
    client.allocate();
    if let Link::Dtls(link) = &mut client.link {
        link.close();
    }
    shards.wait_for(Counter::AllocationsEnded(AllocationEnd::ClientGone), 1);
    sessions(&shards, 0);
    assert_eq!(client.try_receive(), None);
    let Link::Dtls(link) = &client.link else {
        panic!("not DTLS");
    };
    assert!(link.closed, "close_notify is answered");
    shards.stop();
}

#[test]
fn a_client_that_was_restarted_begins_anew() {
    let shards = start(&with_dtls());
    let mut client = Client::dtls(shards.v4(), Version::Dtls12);
    relay_both_ways(&mut client, 2);
    let mut client = again(client);
    relay_both_ways(&mut client, 2);
    shards.wait_for(Counter::AllocationsEnded(AllocationEnd::ClientGone), 1);
    sessions(&shards, 1);
    shards.stop();
}

#[test]
fn a_session_without_an_allocation_ends_when_it_is_idle_and_others_stay() {
    let mut options = with_dtls();
    options.streams.idle_after = NEVER;
    let shards = start(&options);
    let mut busy = Client::dtls(shards.v4(), Version::Dtls12);
    busy.allocate();
    let mut idle = Client::dtls(shards.v4(), Version::Dtls12);
    shards.limit(|limits| limits.idle_after = Duration::from_millis(300));
    // The limit holds from the next that they say.
    let request = idle.build(Method::BINDING, |_| {});
    idle.send(&request);
    busy.ping();
    shards.wait_for(Counter::DtlsSessionsEnded(ConnectionEnd::Silent), 1);
    while idle.try_receive().is_some() {}
    let Link::Dtls(link) = &idle.link else {
        panic!("not DTLS");
    };
    assert!(link.closed);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(busy.ping(), busy.local());
    busy.refresh(0);
    shards.wait_for(Counter::DtlsSessionsEnded(ConnectionEnd::Silent), 2);
    shards.stop();
}

#[test]
fn a_stop_says_goodbye() {
    let shards = start(&with_dtls());
    let mut client = Client::dtls(shards.v4(), Version::Dtls12);
    client.allocate();
    let stats = shards.stop().remove(0);
    assert_eq!(client.try_receive(), None);
    let ended = Counter::DtlsSessionsEnded(ConnectionEnd::Shutdown);
    assert_eq!(stats.get(ended), 1);
    let Link::Dtls(link) = &client.link else {
        panic!("not DTLS");
    };
    assert!(link.closed);
}

#[test]
fn a_new_certificate_is_for_new_sessions() {
    let mut options = with_dtls();
    let identity = options.dtls.replace(None).flatten();
    let shards = start(&options);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(shards.v4()).expect("a route");
    let link = DtlsLink::open(socket, Version::Dtls12);
    shards.wait_for(Counter::DtlsHandshakesFailed(HandshakeFailure::Refused), 1);
    drop(link);
    shards.handle(0).set_dtls_identity(identity);
    shards.heed();
    let mut client = Client::dtls(shards.v4(), Version::Dtls12);
    shards.handle(0).set_dtls_identity(None);
    shards.heed();
    assert_eq!(client.ping(), client.local());
    shards.stop();
}

#[test]
fn ten_thousand_half_open_handshakes_cost_a_good_client_nothing() {
    let mut options = with_dtls();
    options.streams.handshakes = 150;
    let shards = start(&options);
    let mut good = Client::dtls(shards.v4(), Version::Dtls12);
    let relayed = good.allocate();
    let peer = peer(relayed.ip());
    good.bind(0x4000, peer.local_addr().expect("an address"));
    let mut buffer = [0; 2048];
    for round in 0..100_u8 {
        let mut strangers: Vec<_> = (0..100).map(|_| stranger(&shards, round)).collect();
        if round % 4 < 2 {
            // These return their cookie.
            for stranger in &mut strangers {
                let begin = Instant::now();
                while !stranger.returned_cookie {
                    assert!(begin.elapsed() < PATIENCE, "no cookie came");
                    assert_eq!(stranger.failure, None);
                    stranger.look();
                }
            }
        }
        good.send_data(0x4000, &[round]);
        assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 1);
        peer.send_to(&buffer[..1], relayed).expect("sent");
        assert_eq!(good.receive_data(0x4000), [round]);
        drop(strangers);
    }
    let mut late = Client::dtls(shards.v4(), Version::Dtls13);
    assert_eq!(late.ping(), late.local());
    sessions(&shards, 2);
    let stats = shards.stop().remove(0);
    let failed = |failure| stats.get(Counter::DtlsHandshakesFailed(failure));
    let all = HandshakeFailure::ALL.iter().copied().map(failed);
    assert_eq!(all.sum::<u64>(), 5000, "one for each cookie that came back");
    assert!(failed(HandshakeFailure::Refused) > 0);
}

/// Somebody who says hello and is not heard of again.
fn stranger(shards: &Shards, round: u8) -> DtlsLink {
    // Not where other tests expect a port to be free, nor where a stranger of an earlier round was: the server
    // still repeats what it said to that one, and the library takes it for an answer to its own ClientHello.
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 9, round), 0)).expect("a port");
    socket.connect(shards.v4()).expect("a route");
    DtlsLink::open(socket, VERSIONS[usize::from(round % 2)])
}

#[test]
fn garbage_is_counted_and_harms_nobody() {
    let shards = start(&with_dtls());
    let mut client = Client::dtls(shards.v4(), Version::Dtls12);
    let Link::Dtls(link) = &client.link else {
        panic!("not DTLS");
    };
    for first in 20..=63_u8 {
        let mut garbage = vec![first; 200];
        link.socket.send(&garbage).expect("sent");
        garbage[1..3].copy_from_slice(&[0xFE, 0xFD]);
        garbage[3..13].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 99, 0, 187]);
        link.socket.send(&garbage).expect("sent");
    }
    shards.wait_for(Counter::Dropped(Reason::BadRecord), 88);
    assert!(shards.get(Counter::ReceivedPackets(Source::ClientDtls)) >= 88);
    client.succeed(Method::BINDING, |_| {});
    shards.stop();
}
