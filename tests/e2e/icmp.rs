//! A peer whose port is closed: the client learns of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use stun::attributes::AttrType;
use stun::message::{Getter, METHOD_DATA, Message};
use turn::proto::peeraddr::PeerAddress;
use turn::proto::reqfamily::{
    REQUESTED_FAMILY_IPV4, REQUESTED_FAMILY_IPV6, RequestedAddressFamily,
};

use super::dialogue::Dialogue;
use super::families::dual_stack;
use super::metrics::Metrics;
use super::process::{LIMIT, uninterrupted, until};

const ICMP: AttrType = AttrType(0x8004);
const LOOK: Duration = Duration::from_secs(1);

/// Over UDP and TCP, to peers of both families.
#[test]
fn an_unreachable_port_is_told_in_a_data_indication() {
    let server = dual_stack(&[]);
    let address = server.address_at("127.0.0.1");
    for (family, peer, kind, code) in [
        (REQUESTED_FAMILY_IPV4, "127.0.0.1:0", 3, 3),
        (REQUESTED_FAMILY_IPV6, "[::1]:0", 1, 4),
    ] {
        for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
            let family = RequestedAddressFamily(family.0);
            client.allocate(Some(family)).unwrap();
            let closed = UdpSocket::bind(peer).unwrap().local_addr().unwrap();
            client.permit(closed).unwrap();
            // The kernel makes no more than so many reports in a second.
            let mut report = None;
            let heard = until(LIMIT, || {
                client.indicate(b"anybody there?", closed);
                report = client.receive_within(LOOK);
                report.is_some()
            });
            assert!(heard, "nothing is told");
            let told = told(&report.unwrap());
            assert_eq!(told, (closed, vec![0, 0, kind, code, 0, 0, 0, 0]));
        }
    }
    server.stop();
}

/// An error that waits on the relay socket loses no packet.
#[test]
fn a_closed_port_keeps_nothing_from_an_open_one() {
    let server = dual_stack(&[]);
    let mut client = Dialogue::udp(server.address_at("127.0.0.1"));
    client.allocate(None).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let open = peer.local_addr().unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    client.permit(open).unwrap();
    for i in 0..200_u8 {
        client.indicate(&[i], closed);
        client.indicate(&[i], open);
        client.indicate(&[i], closed);
    }
    let mut buffer = [0; 16];
    for i in 0..200_u8 {
        let length = uninterrupted(|| peer.recv(&mut buffer));
        assert_eq!(length.unwrap(), 1);
        assert_eq!(buffer[0], i);
    }
    let reports = |metrics: &Metrics| metrics.sum("turnstone_icmp_reports_total");
    let metrics = server.metrics_when(|metrics| {
        client.indicate(b"more", closed);
        reports(metrics) > 0.0
    });
    assert!(reports(&metrics) >= 1.0);
    let dropped = metrics.with("turnstone_dropped_packets_total", "send_failed");
    assert!(dropped < 0.5, "{dropped} packets were lost");
    server.stop();
}

pub(crate) fn told(bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
    let mut message = Message::new();
    message.raw = bytes.to_vec();
    message.decode().unwrap();
    assert_eq!(message.typ.method, METHOD_DATA, "{message}");
    let mut peer = PeerAddress::default();
    peer.get_from(&message).unwrap();
    (
        SocketAddr::new(peer.ip, peer.port),
        message.get(ICMP).unwrap(),
    )
}
