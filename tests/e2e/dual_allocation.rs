//! One client, one allocation, a relayed address of each family.

use std::net::{SocketAddr, UdpSocket};

use stun::attributes::{ATTR_XOR_RELAYED_ADDRESS, AttrType};
use stun::message::{METHOD_ALLOCATE, METHOD_REFRESH, Message, Setter};
use stun::xoraddr::XorMappedAddress;
use turn::proto::PROTO_UDP;
use turn::proto::reqtrans::RequestedTransport;

use super::dialogue::Dialogue;
use super::families::{dual_stack_with, talks};
use super::reservations::raw;
use super::server::free_port;

const LIFETIME: AttrType = AttrType(0x000D);
const REQUESTED_ADDRESS_FAMILY: AttrType = AttrType(0x0017);
const ADDITIONAL_ADDRESS_FAMILY: AttrType = AttrType(0x8000);

/// Over UDP and TCP, until one family and then the other is deleted. Nobody else draws the relay's ports.
#[test]
fn a_client_relays_from_both_families_at_once() {
    let port = free_port();
    let ports = format!("ports = \"{port}-{}\"\n", port + 1);
    let server = dual_stack_with(&ports, &["--workers", "1"]);
    let address = server.address_at("127.0.0.1");
    for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
        let [v4, v6] = allocate(&mut client);
        assert!(v4.is_ipv4() && v6.is_ipv6());
        let peers = ["127.0.0.1:0", "[::1]:0"].map(|at| UdpSocket::bind(at).unwrap());
        for (channel, relayed, peer) in [(0x4000, v4, &peers[0]), (0x4001, v6, &peers[1])] {
            talks(&mut client, channel, relayed, peer);
        }
        for (family, relayed, peer) in [(1, v4, &peers[0]), (2, v6, &peers[1])] {
            end(&mut client, family).unwrap();
            UdpSocket::bind(relayed).expect("the port is free");
            let refused = client.permit(peer.local_addr().unwrap());
            assert_eq!(refused, Err(if family == 1 { 443 } else { 437 }));
        }
    }
    server.stop();
}

fn allocate(client: &mut Dialogue) -> [SocketAddr; 2] {
    let transport = RequestedTransport {
        protocol: PROTO_UDP,
    };
    let additional = raw(ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    let attributes: [Box<dyn Setter>; 2] = [Box::new(transport), Box::new(additional)];
    let response = client.request(METHOD_ALLOCATE, &attributes).unwrap();
    relayed(&response).try_into().expect("two addresses")
}

/// All relayed addresses: the `stun` crate reads the first of a kind only.
fn relayed(response: &Message) -> Vec<SocketAddr> {
    let is_relayed =
        |attribute: &&stun::attributes::RawAttribute| attribute.typ == ATTR_XOR_RELAYED_ADDRESS;
    let all = response.attributes.0.iter().filter(is_relayed);
    all.map(|attribute| {
        let mut alone = Message::new();
        alone.transaction_id = response.transaction_id;
        alone.add(attribute.typ, &attribute.value);
        let mut address = XorMappedAddress::default();
        address
            .get_from_as(&alone, ATTR_XOR_RELAYED_ADDRESS)
            .unwrap();
        SocketAddr::new(address.ip, address.port)
    })
    .collect()
}

fn end(client: &mut Dialogue, family: u8) -> Result<Message, u16> {
    let attributes: [Box<dyn Setter>; 2] = [
        Box::new(raw(LIFETIME, &[0; 4])),
        Box::new(raw(REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])),
    ];
    client.request(METHOD_REFRESH, &attributes)
}
