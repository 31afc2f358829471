//! Attributes and messages that a client writes.

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::turn::PeerConnectionId;

pub fn requested_transport(protocol: u8) -> (AttributeType, Vec<u8>) {
    (AttributeType::REQUESTED_TRANSPORT, vec![protocol, 0, 0, 0])
}

pub fn requested_family(family: u8) -> (AttributeType, Vec<u8>) {
    (
        AttributeType::REQUESTED_ADDRESS_FAMILY,
        vec![family, 0, 0, 0],
    )
}

pub fn lifetime(seconds: u32) -> (AttributeType, Vec<u8>) {
    (AttributeType::LIFETIME, seconds.to_be_bytes().to_vec())
}

pub fn channel_number(number: u16) -> (AttributeType, Vec<u8>) {
    let [high, low] = number.to_be_bytes();
    (AttributeType::CHANNEL_NUMBER, vec![high, low, 0, 0])
}

pub fn xor_peer_address(peer: SocketAddr, transaction: TransactionId) -> (AttributeType, Vec<u8>) {
    let mut buffer = Vec::new();
    MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, transaction)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
    (AttributeType::XOR_PEER_ADDRESS, buffer.split_off(24))
}

/// A Send indication.
pub fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let transaction = TransactionId(*b"indication!!");
    MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, transaction)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
        .attribute(AttributeType::DATA, data);
    buffer
}

/// A ChannelData message, padded as a stream wants it.
pub fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a short payload");
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(data);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

/// CONNECTION-ID.
pub fn connection_id(id: PeerConnectionId) -> (AttributeType, Vec<u8>) {
    let value = id.to_bits().to_be_bytes().to_vec();
    (AttributeType::CONNECTION_ID, value)
}

/// EVEN-PORT, with its R bit or not.
pub fn even_port(reserve: bool) -> (AttributeType, Vec<u8>) {
    (AttributeType::EVEN_PORT, vec![u8::from(reserve) << 7])
}

/// ADDITIONAL-ADDRESS-FAMILY.
pub fn additional_family(family: u8) -> (AttributeType, Vec<u8>) {
    (
        AttributeType::ADDITIONAL_ADDRESS_FAMILY,
        vec![family, 0, 0, 0],
    )
}
