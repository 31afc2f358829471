//! Connections that load balancers pass on, with a header of the PROXY protocol.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use turnstone::transport::ProxyHeader;
use turnstone::turn::{AllocationEnd, ConnectionEnd, Counter, Transport};

use crate::certificates::{NAME, pair};
use crate::client::{Client, Link};
use crate::harness::{Options, Shards, start, uninterrupted};

const CLIENT: &str = "192.0.2.1:5000";

/// Shards to which loopback is a load balancer.
fn balanced(change: impl FnOnce(&mut Options)) -> Shards {
    let loopback = ["127.0.0.0/8", "::1/128"].map(|text| text.parse().expect("a network"));
    let mut options = Options {
        proxy_protocol_from: loopback.to_vec(),
        ..Options::default()
    };
    change(&mut options);
    start(&options)
}

fn header(source: &str) -> ProxyHeader {
    ProxyHeader::Client {
        source: source.parse().expect("an address"),
        destination: "198.51.100.7:443".parse().expect("an address"),
    }
}

/// A connection that has said `greeting`.
fn greeted(server: SocketAddr, greeting: &[u8]) -> Client {
    let mut client = Client::tcp(server);
    client.send(greeting);
    client
}

fn is_closed(client: &mut Client) -> bool {
    let end = uninterrupted(|| client.stream().read(&mut [0; 64]));
    end.as_ref().is_ok_and(|length| *length == 0)
        || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

fn closed(end: ConnectionEnd) -> Counter {
    Counter::ConnectionsClosed(Transport::Tcp, end)
}

#[test]
fn the_mapped_address_is_the_one_in_the_header() {
    let shards = balanced(|_| {});
    let v2 = header(CLIENT).to_bytes();
    let greetings: [(&[u8], &str); 4] = [
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.7 5001 443\r\n",
            "192.0.2.1:5001",
        ),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 443\r\n",
            "[2001:db8::1]:5000",
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:192.0.2.8 5 6\r\n",
            "192.0.2.9:5",
        ),
        (&v2, CLIENT),
    ];
    for (greeting, seen) in greetings {
        let mut client = greeted(shards.v4(), greeting);
        assert_eq!(client.ping().to_string(), seen);
        client.allocate();
    }
    shards.stop();
}

#[test]
fn a_health_check_has_the_addresses_of_its_connection() {
    let shards = balanced(|_| {});
    let local = ProxyHeader::Local.to_bytes();
    for greeting in [&b"PROXY UNKNOWN\r\n"[..], &local] {
        let mut client = greeted(shards.v4(), greeting);
        assert_eq!(client.ping(), client.local());
    }
    shards.stop();
}

#[test]
fn header_and_request_may_be_cut_anywhere() {
    let shards = balanced(|_| {});
    for (port, header) in [
        (1, b"PROXY TCP4 192.0.2.1 198.51.100.7 1 443\r\n".to_vec()),
        (2, header("192.0.2.1:2").to_bytes()),
    ] {
        let mut client = Client::tcp(shards.v4());
        let request = client.build(turnstone::stun::Method::BINDING, |_| {});
        for byte in [header, request].concat() {
            client.send(&[byte]);
        }
        let response = client.receive();
        let kind = turnstone::stun::AttributeType::XOR_MAPPED_ADDRESS;
        let mapped = crate::client::xor_address(&response, kind);
        assert_eq!(mapped, SocketAddr::from(([192, 0, 2, 1], port)));
    }
    shards.stop();
}

#[test]
fn without_a_sound_header_a_balancers_connection_is_closed() {
    let shards = balanced(|_| {});
    let mut plain = Client::tcp(shards.v4());
    let request = plain.build(turnstone::stun::Method::BINDING, |_| {});
    let bad: [&[u8]; 4] = [
        &request,
        b"PROXY TCP4 192.0.2.1 198.51.100.7 99999 443\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 3, 1, 0, 5],
    ];
    for greeting in bad {
        assert!(is_closed(&mut greeted(shards.v4(), greeting)));
    }
    drop(plain);
    shards.wait_for(closed(ConnectionEnd::ProxyHeader), 4);
    shards.stop();
}

#[test]
fn half_a_header_is_waited_for_as_long_as_any_silence() {
    let shards = balanced(|options| options.streams.silent_after = Duration::from_millis(300));
    let mut client = greeted(shards.v4(), b"PROXY TCP4 192.0");
    assert!(is_closed(&mut client));
    shards.wait_for(closed(ConnectionEnd::Silent), 1);
    shards.stop();
}

#[test]
fn from_anywhere_else_a_header_is_garbage() {
    let shards = balanced(|options| {
        options.proxy_protocol_from = vec!["192.0.2.0/24".parse().expect("a network")];
    });
    let v2 = header(CLIENT).to_bytes();
    for greeting in [&b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\r\n"[..], &v2] {
        assert!(is_closed(&mut greeted(shards.v4(), greeting)));
    }
    shards.wait_for(closed(ConnectionEnd::Garbled), 2);
    shards.stop();
}

/// Requirement S15: one client cannot take the room of all others behind a balancer.
#[test]
fn connections_are_counted_against_the_client_and_not_the_balancer() {
    let shards = balanced(|options| options.streams.connections_per_source = 2);
    let at = |source: &str| greeted(shards.v4(), &header(source).to_bytes());
    let mut kept: Vec<Client> = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2"]
        .map(at)
        .into();
    kept.iter_mut().for_each(|client| {
        client.ping();
    });
    assert!(is_closed(&mut at("192.0.2.1:3")));
    shards.wait_for(closed(ConnectionEnd::Refused), 1);
    drop(kept.remove(0));
    shards.wait_for(Counter::Connections(Transport::Tcp), 3);
    at("192.0.2.1:4").ping();
    shards.stop();
}

#[test]
fn who_claims_a_five_tuple_again_replaces_the_older_connection() {
    let shards = balanced(|_| {});
    let greeting = header(CLIENT).to_bytes();
    let mut older = greeted(shards.v4(), &greeting);
    older.allocate();
    let mut newer = greeted(shards.v4(), &greeting);
    newer.allocate();
    assert!(is_closed(&mut older));
    newer.ping();
    shards.wait_for(Counter::AllocationsEnded(AllocationEnd::ClientGone), 1);
    // Another port of the balancer is another five-tuple.
    let mut other = greeted(
        shards.v4(),
        b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 3478\r\n",
    );
    other.allocate();
    newer.ping();
    shards.wait_for(Counter::Connections(Transport::Tcp), 2);
    shards.stop();
}

#[test]
fn tls_may_follow_the_header() {
    let (server, config) = pair();
    for shared in [false, true] {
        let shards = balanced(|options| {
            options.tls = Some(server.clone());
            options.shared = shared;
        });
        let mut stream = TcpStream::connect(shards.tls_addresses[0]).expect("a listener");
        stream.write_all(&header(CLIENT).to_bytes()).expect("sent");
        let name = NAME.try_into().expect("a name");
        let session = ClientConnection::new(config.clone(), name).expect("a session");
        let link = StreamOwned::new(session, stream);
        let mut client = Client::over(Link::Tls(Box::new(link)));
        assert_eq!(client.ping().to_string(), CLIENT);
        client.allocate();
        assert_eq!(shards.stop()[0].get(Counter::TlsHandshakes), 1);
    }
}
