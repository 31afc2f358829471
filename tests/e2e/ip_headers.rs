//! The IP headers of what is relayed (RFC 8656 §13 to §16), as they are on the wire: the alternate
//! behaviour, which asks nothing of the packet that came in.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::dialogue::{Dialogue, channel_data};
use super::fragments;
use super::namespace::Namespace;
use super::process::{LIMIT, uninterrupted};
use super::server::Server;

const CHANNEL: u16 = 0x4001;
/// Expedited Forwarding, and capable of ECN: ECT(1).
const MARKED: u32 = 46 << 2 | 1;
/// A TTL that is nobody's default.
const TTL: u32 = 33;
const DEFAULT_TTL: u32 = 64;

/// What a test wants to know of an IP header.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// DSCP and ECN.
    traffic_class: u32,
    /// The DF bit of IPv4.
    dont_fragment: bool,
    /// TTL or hop limit.
    ttl: u32,
    /// Options of IPv4, extension headers of IPv6.
    has_more: bool,
}

/// A header by the alternate behaviour.
const PLAIN: Header = Header {
    traffic_class: 0,
    dont_fragment: false,
    ttl: DEFAULT_TTL,
    has_more: false,
};

impl Header {
    /// The header of `packet` and what follows it.
    fn parse(packet: &[u8]) -> (Self, &[u8]) {
        let [first, second, ..] = *packet else {
            panic!("an empty packet");
        };
        if first >> 4 == 4 {
            let end = usize::from(first & 0x0F) * 4;
            let header = Self {
                traffic_class: second.into(),
                dont_fragment: packet[6] & 0x40 != 0,
                ttl: packet[8].into(),
                has_more: end > 20,
            };
            return (header, &packet[end..]);
        }
        let header = Self {
            traffic_class: u32::from(first & 0x0F) << 4 | u32::from(second >> 4),
            dont_fragment: false,
            ttl: packet[7].into(),
            has_more: packet[6] != 17,
        };
        (header, &packet[40..])
    }
}

/// All packets of one family on a host.
struct Wire(Socket);

impl Wire {
    fn tap(ip: &str) -> Self {
        let is_v4 = ip.parse::<IpAddr>().unwrap().is_ipv4();
        let kind: u16 = if is_v4 { 0x0800 } else { 0x86DD };
        let protocol = Protocol::from(i32::from(kind.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
        let patience = Some(LIMIT);
        socket.set_read_timeout(patience).unwrap();
        Self(socket)
    }

    /// The header of the next datagram to `port` that carries `payload`.
    fn header_of(&mut self, port: u16, payload: &[u8]) -> Header {
        let mut buffer = [0; 2048];
        loop {
            let length = uninterrupted(|| self.0.read(&mut buffer)).unwrap();
            let (header, rest) = Header::parse(&buffer[..length]);
            let is_to_port = rest.get(2..4) == Some(&port.to_be_bytes());
            if is_to_port && rest[8..].ends_with(payload) {
                return header;
            }
        }
    }
}

/// RFC 8656 §14: the alternate behaviour sets DSCP to Best Effort and ECN to Not-ECT, takes the incoming
/// DF bit for 0, and the TTL is the host's. §15: so does the preferred one for clients over TCP. DF is set
/// for a Send indication with DONT-FRAGMENT alone.
#[test]
fn over_ipv4_relayed_headers_have_the_default_ttl_and_neither_dscp_nor_ecn_nor_df() {
    relayed_headers_are_plain(
        "over_ipv4_relayed_headers_have_the_default_ttl_and_neither_dscp_nor_ecn_nor_df",
        "127.0.0.1",
    );
}

/// RFC 8656 §13.2: the alternate behaviour sets hop limit and traffic class to the defaults; no extension
/// headers.
#[test]
fn over_ipv6_relayed_headers_have_the_default_hop_limit_and_neither_dscp_nor_ecn() {
    relayed_headers_are_plain(
        "over_ipv6_relayed_headers_have_the_default_hop_limit_and_neither_dscp_nor_ecn",
        "::1",
    );
}

fn relayed_headers_are_plain(test: &str, ip: &str) {
    if Namespace::unavailable(test) {
        return;
    }
    let host = Arc::new(Namespace::new());
    let server = Server::on(&host, &[ip], &["--allow-peer", ip]);
    let address = server.address_at(ip);
    host.inside(|| {
        for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
            if let Some(socket) = client.datagrams() {
                mark(socket);
            }
            let peer = UdpSocket::bind((ip, 0)).unwrap();
            mark(&peer);
            let family = fragments::family_of(peer.local_addr().unwrap());
            let relay = client.allocate(family).unwrap();
            client.bind(CHANNEL, peer.local_addr().unwrap()).unwrap();
            to_the_peer(&mut client, &peer, Wire::tap(ip));
            to_the_client(&client, &peer, relay, Wire::tap(ip));
        }
    });
    server.stop();
}

fn to_the_peer(client: &mut Dialogue, peer: &UdpSocket, mut wire: Wire) {
    let at = peer.local_addr().unwrap();
    let data = channel_data(CHANNEL, b"on a channel");
    client.send(&data).unwrap();
    if client.datagrams().is_some() {
        let sent = wire.header_of(client.server().port(), &data);
        assert_eq!((sent.traffic_class, sent.ttl), (MARKED, TTL));
    }
    assert_eq!(wire.header_of(at.port(), b"on a channel"), PLAIN);
    client.indicate(b"in an indication", at);
    assert_eq!(wire.header_of(at.port(), b"in an indication"), PLAIN);
    fragments::send(client, at, true, 100);
    let whole = Header {
        dont_fragment: at.is_ipv4(),
        ..PLAIN
    };
    assert_eq!(wire.header_of(at.port(), &[7; 100]), whole);
    client.indicate(b"and another", at);
    assert_eq!(wire.header_of(at.port(), b"and another"), PLAIN);
}

fn to_the_client(client: &Dialogue, peer: &UdpSocket, relay: SocketAddr, mut wire: Wire) {
    peer.send_to(b"back", relay).unwrap();
    let sent = wire.header_of(relay.port(), b"back");
    assert_eq!((sent.traffic_class, sent.ttl), (MARKED, TTL));
    if let Some(socket) = client.datagrams() {
        let port = socket.local_addr().unwrap().port();
        assert_eq!(wire.header_of(port, b"back"), PLAIN);
    }
}

/// Has what `socket` sends carry marks that must not be copied.
fn mark(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    if socket.domain().unwrap() == Domain::IPV4 {
        socket.set_tos_v4(MARKED).unwrap();
        socket.set_ttl_v4(TTL).unwrap();
    } else {
        socket.set_tclass_v6(MARKED).unwrap();
        socket.set_unicast_hops_v6(TTL).unwrap();
    }
}

/// RFC 8656 §11.5, §18.13: the router's report that fragmentation was needed reaches the client with the
/// MTU; for IPv6 "packet too big".
#[test]
fn a_router_with_a_smaller_mtu_is_told_of_in_a_data_indication() {
    let test = "a_router_with_a_smaller_mtu_is_told_of_in_a_data_indication";
    let Some(network) = Network::new(test) else {
        return;
    };
    let addresses = ["192.0.2.10", "2001:db8::10"];
    let allow = ["--allow-peer", "198.51.100.0/24"];
    let allow = [&allow[..], &["--allow-peer", "2001:db8:1::/64"]].concat();
    let server = Server::on(&network.server, &addresses, &allow);
    for (home, peer, told) in [
        ("192.0.2.10", "198.51.100.2:9000", [0, 0, 3, 4]),
        ("2001:db8::10", "[2001:db8:1::2]:9000", [0, 0, 2, 0]),
    ] {
        let address = server.address_at(home);
        let peer: SocketAddr = peer.parse().unwrap();
        let told = [told, 1300_u32.to_be_bytes()].concat();
        network.server.inside(|| {
            for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
                client.allocate(fragments::family_of(peer)).unwrap();
                client.permit(peer).unwrap();
                fragments::send(&mut client, peer, true, 1400);
                let report = super::icmp::told(&client.receive().unwrap());
                assert_eq!(report, (peer, told.clone()));
                // The path's MTU that the host has learnt is the next client's too.
                flush_routes();
            }
        });
    }
    server.stop();
}

fn flush_routes() {
    for family in ["-4", "-6"] {
        let mut ip = std::process::Command::new("ip");
        ip.args([family, "route", "flush", "cache"]);
        assert!(ip.status().unwrap().success());
    }
}

/// A server at 192.0.2.10, and behind a router whose other side has an MTU of 1300 a peer at
/// 198.51.100.2; the same in IPv6.
struct Network {
    server: Arc<Namespace>,
    _router: Namespace,
    _peer: Namespace,
}

impl Network {
    fn new(test: &str) -> Option<Self> {
        if Namespace::unavailable(test) {
            return None;
        }
        let [server, router, peer] = [(); 3].map(|()| Namespace::new());
        router.connect(("near", "192.0.2.1/24"), &server, ("eth0", "192.0.2.10/24"));
        router.connect(
            ("far", "198.51.100.1/24"),
            &peer,
            ("eth0", "198.51.100.2/24"),
        );
        for (host, address, link) in [
            (&router, "2001:db8::1/64", "near"),
            (&server, "2001:db8::10/64", "eth0"),
            (&router, "2001:db8:1::1/64", "far"),
            (&peer, "2001:db8:1::2/64", "eth0"),
        ] {
            host.ip(&format!("-6 address add {address} dev {link} nodad"));
        }
        router.ip("link set far mtu 1300");
        peer.ip("link set eth0 mtu 1300");
        for (host, v4, v6) in [
            (&server, "192.0.2.1", "2001:db8::1"),
            (&peer, "198.51.100.1", "2001:db8:1::1"),
        ] {
            host.ip(&format!("route add default via {v4}"));
            host.ip(&format!("-6 route add default via {v6}"));
        }
        router.inside(|| {
            for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
            }
        });
        Some(Self {
            server: Arc::new(server),
            _router: router,
            _peer: peer,
        })
    }
}
