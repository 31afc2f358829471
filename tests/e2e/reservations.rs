//! A pair of ports: one allocated, the one above reserved under a token that any client redeems.

use std::net::{SocketAddr, UdpSocket};

use stun::attributes::{AttrType, RawAttribute};
use stun::message::{Getter, METHOD_ALLOCATE, Message, Setter};
use turn::proto::PROTO_UDP;
use turn::proto::relayaddr::RelayedAddress;
use turn::proto::reqtrans::RequestedTransport;

use super::dialogue::Dialogue;
use super::families::{dual_stack, talks};

const EVEN_PORT: AttrType = AttrType(0x0018);
const RESERVATION_TOKEN: AttrType = AttrType(0x0022);

/// Over UDP and TCP, from clients that land on different shards.
#[test]
fn a_reserved_port_is_held_and_redeemed_on_every_shard() {
    let server = dual_stack(&["--workers", "3"]);
    let address = server.address_at("127.0.0.1");
    for round in 0..12 {
        let mut owner = Dialogue::udp(address);
        let (relayed, token) = reserve(&mut owner);
        assert_eq!(relayed.port() % 2, 0);
        let above = SocketAddr::new(relayed.ip(), relayed.port() + 1);
        UdpSocket::bind(above).expect_err("the reserved port is held");

        let mut other = if round % 3 == 0 {
            Dialogue::tcp(address)
        } else {
            Dialogue::udp(address)
        };
        let response = allocate(&mut other, RESERVATION_TOKEN, &token).unwrap();
        assert_eq!(relayed_address(&response), above);
        talks(
            &mut other,
            0x4000,
            above,
            &UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let late = allocate(&mut Dialogue::udp(address), RESERVATION_TOKEN, &token);
        assert_eq!(late.err(), Some(508));
    }
    server.stop();
}

fn reserve(client: &mut Dialogue) -> (SocketAddr, Vec<u8>) {
    let response = allocate(client, EVEN_PORT, &[0x80]).unwrap();
    let token = response.get(RESERVATION_TOKEN).unwrap();
    (relayed_address(&response), token)
}

fn allocate(client: &mut Dialogue, kind: AttrType, value: &[u8]) -> Result<Message, u16> {
    let transport = RequestedTransport {
        protocol: PROTO_UDP,
    };
    let attributes: [Box<dyn Setter>; 2] = [Box::new(transport), Box::new(raw(kind, value))];
    client.request(METHOD_ALLOCATE, &attributes)
}

/// An attribute that the `stun` crate has no type for.
pub(crate) fn raw(typ: AttrType, value: &[u8]) -> RawAttribute {
    RawAttribute {
        typ,
        length: u16::try_from(value.len()).unwrap(),
        value: value.to_vec(),
    }
}

fn relayed_address(response: &Message) -> SocketAddr {
    let mut relayed = RelayedAddress::default();
    relayed.get_from(response).unwrap();
    SocketAddr::new(relayed.ip, relayed.port)
}
