//! A peer whose port is closed: the client learns of it.

use std::net::{SocketAddr, UdpSocket};

use stun::attributes::AttrType;
use stun::message::{Getter, METHOD_DATA, Message};
use turn::proto::peeraddr::PeerAddress;
use turn::proto::reqfamily::{
    REQUESTED_FAMILY_IPV4, REQUESTED_FAMILY_IPV6, RequestedAddressFamily,
};

use super::dialogue::Dialogue;
use super::families::dual_stack;

const ICMP: AttrType = AttrType(0x8004);

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
            client.indicate(b"anybody there?", closed);
            let told = told(&client.receive().unwrap());
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
    peer.set_read_timeout(Some(std::time::Duration::from_secs(3)))
        .unwrap();
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
        assert_eq!(peer.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], i);
    }
    let metrics = server.metrics_when(|metrics| metrics.sum("turnstone_icmp_reports_total") > 0.0);
    assert!(metrics.sum("turnstone_icmp_reports_total") >= 1.0);
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
