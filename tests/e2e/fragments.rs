//! DONT-FRAGMENT and what is larger than the MTU, on a host whose loopback has the MTU of an Ethernet.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use stun::attributes::AttrType;
use stun::message::{CLASS_INDICATION, METHOD_SEND, MessageType, Setter};
use turn::proto::data::Data;
use turn::proto::reqfamily::{REQUESTED_FAMILY_IPV6, RequestedAddressFamily};

use super::dialogue::{Dialogue, message, peer_address};
use super::metrics::Metrics;
use super::namespace::Namespace;
use super::process::{LIMIT, uninterrupted};
use super::reservations::raw;
use super::server::Server;

const DONT_FRAGMENT: AttrType = AttrType(0x001A);

/// Only what asks for it is kept whole, so only that is lost when it is too large.
#[test]
fn a_datagram_that_may_not_be_fragmented_is_sent_whole_or_not_at_all() {
    if Namespace::unavailable("a_datagram_that_may_not_be_fragmented_is_sent_whole_or_not_at_all") {
        return;
    }
    let host = Arc::new(Namespace::new());
    host.ip("link set lo mtu 1500");
    let server = Server::on(&host, &["127.0.0.1"], &["--allow-peer", "127.0.0.1"]);
    let address = server.address_at("127.0.0.1");
    host.inside(|| {
        for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
            client.allocate(None).unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            let patience = Some(LIMIT);
            peer.set_read_timeout(patience).unwrap();
            let at = peer.local_addr().unwrap();
            client.permit(at).unwrap();
            for (whole, length) in [(true, 1400), (true, 3000), (false, 3000), (true, 1)] {
                send(&mut client, at, whole, length);
            }
            let mut buffer = [0; 4096];
            let mut lengths = (0..3).map(|_| uninterrupted(|| peer.recv(&mut buffer)).unwrap());
            assert!(lengths.by_ref().eq([1400, 3000, 1]));
            drop(client);
        }
    });
    let dropped = |metrics: &Metrics| metrics.with("turnstone_dropped_packets_total", "too_large");
    let metrics = server.metrics_when(|metrics| dropped(metrics) >= 2.0);
    assert!(dropped(&metrics) >= 2.0);
    server.stop();
}

/// REQUESTED-ADDRESS-FAMILY for relaying to `peer`.
pub(crate) fn family_of(peer: SocketAddr) -> Option<RequestedAddressFamily> {
    peer.is_ipv6().then_some(REQUESTED_FAMILY_IPV6)
}

/// Sends `length` bytes to `peer`, with DONT-FRAGMENT if they are to stay `whole`.
pub(crate) fn send(client: &mut Dialogue, peer: SocketAddr, whole: bool, length: usize) {
    let kind = MessageType::new(METHOD_SEND, CLASS_INDICATION);
    let mut attributes: Vec<Box<dyn Setter>> = vec![
        Box::new(peer_address(peer)),
        Box::new(Data(vec![7; length])),
    ];
    if whole {
        attributes.push(Box::new(raw(DONT_FRAGMENT, b"")));
    }
    client.send(&message(kind, &attributes).raw).unwrap();
}
