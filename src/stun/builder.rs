//! Writes a message into the caller's buffer.

use std::net::SocketAddr;

use super::address;
use super::attribute::AttributeType;
use super::classic::ClassicTransactionId;
use super::header::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId, encode_type};
use super::integrity::{Algorithm, fingerprint};
use super::padded;

/// A message under construction. The length field is right after every call, so the buffer holds a
/// whole message at any time.
///
/// Attributes come in the order of the calls. [`integrity`](Self::integrity) signs what stands before
/// it, so it goes behind all attributes but [`fingerprint`](Self::fingerprint), which goes last.
#[derive(Debug)]
pub struct MessageBuilder<'b> {
    buffer: &'b mut Vec<u8>,
    transaction: TransactionId,
}

impl<'b> MessageBuilder<'b> {
    /// Starts a message in `buffer`, whose former content is lost and whose capacity is kept.
    pub fn new(
        buffer: &'b mut Vec<u8>,
        class: Class,
        method: Method,
        transaction: TransactionId,
    ) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&encode_type(class, method).to_be_bytes());
        buffer.extend_from_slice(&[0, 0]);
        buffer.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        buffer.extend_from_slice(&transaction.0);
        Self {
            buffer,
            transaction,
        }
    }

    /// Starts a response to a client of RFC 3489: what stands in the place of the magic cookie
    /// belongs to its transaction id. No attribute may be XORed and none may protect the message.
    pub fn classic(
        buffer: &'b mut Vec<u8>,
        class: Class,
        method: Method,
        transaction: ClassicTransactionId,
    ) -> Self {
        let [c0, c1, c2, c3, rest @ ..] = transaction.0;
        let builder = Self::new(buffer, class, method, TransactionId(rest));
        builder.buffer[4..8].copy_from_slice(&[c0, c1, c2, c3]);
        builder
    }

    /// Appends an attribute with `value`, of at most 65 535 bytes; padding is zero.
    pub fn attribute(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        self.head(kind, value.len());
        self.buffer.extend_from_slice(value);
        self.buffer.resize(padded(self.buffer.len()), 0);
        self.set_length(self.buffer.len())
    }

    /// Appends an attribute with a value of `length` zero bytes, at most 65 535.
    pub fn zeros(&mut self, kind: AttributeType, length: usize) -> &mut Self {
        self.head(kind, length);
        self.buffer.resize(padded(self.buffer.len() + length), 0);
        self.set_length(self.buffer.len())
    }

    /// Appends an attribute with a 32-bit value.
    pub fn u32(&mut self, kind: AttributeType, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends an address as it is (RFC 8489 §14.1).
    pub fn address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let (value, length) = address::encode(address);
        self.attribute(kind, &value[..length])
    }

    /// Appends an XORed address (RFC 8489 §14.2).
    pub fn xor_address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let (value, length) = address::encode_xor(address, self.transaction);
        self.attribute(kind, &value[..length])
    }

    /// Appends ERROR-CODE with `code`, 300 to 699, and its reason phrase (RFC 8489 §14.8).
    pub fn error_code(&mut self, code: u16, reason: &str) -> &mut Self {
        self.code(AttributeType::ERROR_CODE, 0, code, reason)
    }

    /// Appends ADDRESS-ERROR-CODE: why there is no relayed transport address of `family`, 0x01 for IPv4
    /// or 0x02 for IPv6 (RFC 8656 §18.12).
    pub fn address_error_code(&mut self, family: u8, code: u16, reason: &str) -> &mut Self {
        self.code(AttributeType::ADDRESS_ERROR_CODE, family, code, reason)
    }

    fn code(&mut self, kind: AttributeType, first: u8, code: u16, reason: &str) -> &mut Self {
        let [_, class] = (code / 100).to_be_bytes();
        let [_, number] = (code % 100).to_be_bytes();
        self.head(kind, 4 + reason.len());
        self.buffer.extend_from_slice(&[first, 0, class, number]);
        self.buffer.extend_from_slice(reason.as_bytes());
        self.buffer.resize(padded(self.buffer.len()), 0);
        self.set_length(self.buffer.len())
    }

    /// Appends UNKNOWN-ATTRIBUTES (RFC 8489 §14.13).
    pub fn unknown_attributes(&mut self, kinds: &[AttributeType]) -> &mut Self {
        self.head(AttributeType::UNKNOWN_ATTRIBUTES, kinds.len() * 2);
        for kind in kinds {
            self.buffer.extend_from_slice(&kind.0.to_be_bytes());
        }
        self.buffer.resize(padded(self.buffer.len()), 0);
        self.set_length(self.buffer.len())
    }

    /// Appends a message integrity made with `key` (RFC 8489 §14.5, §14.6).
    pub fn integrity(&mut self, algorithm: Algorithm, key: &[u8]) -> &mut Self {
        let length = algorithm.length();
        self.set_length(self.buffer.len() + 4 + length);
        let digest = algorithm.digest(key, &[self.buffer.as_slice()]);
        self.attribute(algorithm.attribute(), &digest[..length])
    }

    /// Appends FINGERPRINT (RFC 8489 §14.7).
    pub fn fingerprint(&mut self) -> &mut Self {
        self.set_length(self.buffer.len() + 8);
        let value = fingerprint(self.buffer);
        self.u32(AttributeType::FINGERPRINT, value)
    }

    /// Appends the head of an attribute whose value of `length` bytes the caller sends behind the
    /// buffer; the length field speaks of the whole message with padding.
    pub fn open_attribute(&mut self, kind: AttributeType, length: u16) -> &mut Self {
        self.head(kind, usize::from(length));
        self.set_length(self.buffer.len() + padded(usize::from(length)))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "values are at most 65 535 bytes"
    )]
    fn head(&mut self, kind: AttributeType, length: usize) {
        debug_assert!(length <= usize::from(u16::MAX));
        self.buffer.extend_from_slice(&kind.0.to_be_bytes());
        self.buffer
            .extend_from_slice(&(length as u16).to_be_bytes());
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "messages fit their length field"
    )]
    fn set_length(&mut self, end: usize) -> &mut Self {
        debug_assert!(end - HEADER_LENGTH <= usize::from(u16::MAX));
        self.buffer[2..4].copy_from_slice(&((end - HEADER_LENGTH) as u16).to_be_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::Message;

    const ID: TransactionId = TransactionId(*b"abcdefghijkl");

    fn write(write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        let mut bytes = b"what was there before".to_vec();
        write(&mut MessageBuilder::new(
            &mut bytes,
            Class::Error,
            Method::ALLOCATE,
            ID,
        ));
        bytes
    }

    #[test]
    fn attributes_are_padded_with_zeros_and_keep_their_length() {
        for length in 0..9 {
            let value = vec![0xFF; length];
            let bytes = write(|b| {
                b.attribute(AttributeType::DATA, &value);
            });
            assert_eq!(bytes.len(), 24 + length.next_multiple_of(4));
            assert_eq!(usize::from(bytes[23]), length);
            assert_eq!(bytes[24..24 + length], value);
            assert!(bytes[24 + length..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn the_message_is_whole_after_every_call() {
        let mut bytes = Vec::new();
        let whole = |bytes: &[u8]| Message::parse(bytes).is_ok();
        MessageBuilder::new(&mut bytes, Class::Request, Method::BINDING, ID);
        assert!(whole(&bytes));
        for step in 0..5 {
            let mut builder = MessageBuilder::new(&mut bytes, Class::Request, Method::BINDING, ID);
            builder.attribute(AttributeType::SOFTWARE, b"x");
            match step {
                0 => builder.attribute(AttributeType::DATA, b"abc"),
                1 => builder.error_code(420, "Unknown Attribute"),
                2 => builder.unknown_attributes(&[AttributeType::DATA; 3]),
                3 => builder.integrity(Algorithm::Sha256, b"key"),
                _ => builder.fingerprint(),
            };
            assert!(whole(&bytes));
        }
    }

    /// RFC 8489 §14.8, §14.13.
    #[test]
    fn error_codes_and_unknown_attributes_are_as_the_rfc_draws_them() {
        let bytes = write(|b| {
            b.error_code(438, "Stale Nonce").unknown_attributes(&[
                AttributeType(0x7FFE),
                AttributeType(0x0102),
                AttributeType(3),
            ]);
        });
        let expected = b"\x00\x09\x00\x0F\x00\x00\x04\x26Stale Nonce\x00\
                         \x00\x0A\x00\x06\x7F\xFE\x01\x02\x00\x03\x00\x00";
        assert_eq!(bytes[20..], expected[..]);
    }

    #[test]
    fn an_open_attribute_is_finished_by_the_caller() {
        for data in [&b""[..], b"a", b"abcd", b"abcde"] {
            let length = u16::try_from(data.len()).unwrap();
            let mut bytes = write(|b| {
                b.open_attribute(AttributeType::DATA, length);
            });
            bytes.extend_from_slice(data);
            bytes.resize(padded(bytes.len()), 0);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.attribute(AttributeType::DATA).unwrap().value, data);
        }
    }
}
