//! What packets look like on the wire.

use std::net::SocketAddr;

use super::stamp::STAMP;
use super::wire::CHANNEL;
use crate::stun::{
    AttributeType, ChannelData, Class, MAGIC_COOKIE, Message, MessageBuilder, Method, TransactionId,
};

/// The bytes before and behind the payload of a packet, the same for all packets of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) prefix: Vec<u8>,
    /// Bytes of payload, at least a [stamp](super::stamp::Stamp).
    pub(super) size: usize,
    pub(super) padding: usize,
}

impl Shape {
    /// Bare application data, as peers send it.
    pub(super) const fn bare(size: usize) -> Self {
        Self {
            prefix: Vec::new(),
            size,
            padding: 0,
        }
    }

    /// ChannelData (RFC 8656 §12.4), padded in streams (§12.5).
    pub(super) fn channel_data(size: usize, in_stream: bool) -> Self {
        let length = u16::try_from(size).unwrap_or(u16::MAX);
        let mut prefix = CHANNEL.to_be_bytes().to_vec();
        prefix.extend_from_slice(&length.to_be_bytes());
        Self {
            prefix,
            size,
            padding: if in_stream {
                size.wrapping_neg() % 4
            } else {
                0
            },
        }
    }

    /// A Send indication to `peer` (RFC 8656 §11.1). All of a flow have one transaction id: nothing
    /// answers them.
    pub(super) fn indication(size: usize, peer: SocketAddr) -> Self {
        let mut prefix = Vec::new();
        let transaction = TransactionId(*b"a load test.");
        MessageBuilder::new(&mut prefix, Class::Indication, Method::SEND, transaction)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .open_attribute(AttributeType::DATA, u16::try_from(size).unwrap_or(u16::MAX));
        Self {
            prefix,
            size,
            padding: size.wrapping_neg() % 4,
        }
    }

    /// A Binding request, whose transaction id is the payload.
    pub(super) fn binding() -> Self {
        let mut prefix = vec![0, 1, 0, 0];
        prefix.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        Self {
            prefix,
            size: STAMP,
            padding: 0,
        }
    }

    /// Bytes of a whole packet.
    pub(super) const fn length(&self) -> usize {
        self.prefix.len() + self.size + self.padding
    }
}

/// The payload in `frame`, which came to a client: of ChannelData, of a Data indication, or the
/// transaction id of a Binding success response.
pub(super) fn payload(frame: &[u8]) -> Option<&[u8]> {
    match frame {
        [0x40..=0x4F, ..] => ChannelData::parse(frame).ok().map(|data| data.payload),
        // The length field and the rest of the response were checked once, on the first of the client.
        [1, 1, ..] => frame.get(8..8 + STAMP),
        [0, 0x17, ..] => {
            let message = Message::parse(frame).ok()?;
            message
                .attribute(AttributeType::DATA)
                .map(|data| data.value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of `shape` with the payload 0, 1, 2 and so on.
    fn packet(shape: &Shape) -> Vec<u8> {
        let mut bytes = shape.prefix.clone();
        bytes.extend((0..shape.size).map(|i| u8::try_from(i % 256).unwrap()));
        bytes.resize(shape.length(), 0);
        bytes
    }

    #[test]
    fn channel_data_is_padded_in_streams_only() {
        for (size, in_stream, length) in [(13, false, 17), (13, true, 20), (16, true, 20)] {
            let shape = Shape::channel_data(size, in_stream);
            assert_eq!(shape.length(), length);
            assert_eq!(payload(&packet(&shape)).map(<[u8]>::len), Some(size));
        }
    }

    #[test]
    fn an_indication_names_peer_and_data() {
        let peer = "192.0.2.7:99".parse().unwrap();
        for size in 12..17 {
            let bytes = packet(&Shape::indication(size, peer));
            let message = Message::parse(&bytes).unwrap();
            let to = message.attribute(AttributeType::XOR_PEER_ADDRESS).unwrap();
            assert_eq!(message.xor_address(&to), Ok(peer));
            let data = message.attribute(AttributeType::DATA).unwrap();
            assert_eq!(data.value.len(), size);
        }
    }

    #[test]
    fn a_data_indication_holds_a_payload() {
        let mut bytes = Vec::new();
        let transaction = TransactionId([7; 12]);
        MessageBuilder::new(&mut bytes, Class::Indication, Method::DATA, transaction)
            .xor_address(
                AttributeType::XOR_PEER_ADDRESS,
                "192.0.2.7:99".parse().unwrap(),
            )
            .attribute(AttributeType::DATA, b"hello");
        assert_eq!(payload(&bytes), Some(&b"hello"[..]));
        assert_eq!(payload(&bytes[..20]), None);
    }

    #[test]
    fn a_binding_response_gives_the_transaction_id_back() {
        let request = packet(&Shape::binding());
        assert_eq!(Message::parse(&request).unwrap().method(), Method::BINDING);
        let mut response = request.clone();
        response[0] = 1;
        assert_eq!(payload(&response), Some(&request[8..]));
        assert_eq!(payload(&request), None);
    }
}
