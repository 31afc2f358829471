//! Requests of clients that know no magic cookie (RFC 3489 §11, RFC 5389 §12.2).

use super::attribute::{AttributeType, Attributes, read_attribute};
use super::header::{Class, HEADER_LENGTH, Method, decode_type};

/// The transaction id of RFC 3489, 128 bits: its first four bytes became the magic cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassicTransactionId(pub [u8; 16]);

/// A request of RFC 3489 whose structure was found right.
#[derive(Clone, Copy, Debug)]
pub struct ClassicRequest<'a> {
    bytes: &'a [u8],
    method: Method,
}

impl<'a> ClassicRequest<'a> {
    /// Reads the request that is all of `bytes`; none when it is anything else.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LENGTH>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_whole = bytes.len() == HEADER_LENGTH + length && length.is_multiple_of(4);
        let bits = u16::from_be_bytes([header[0], header[1]]);
        let (class, method) = decode_type(bits);
        if bits & 0xC000 != 0 || class != Class::Request || !is_whole {
            return None;
        }
        let mut offset = HEADER_LENGTH;
        while offset < bytes.len() {
            (_, offset) = read_attribute(bytes, offset).ok()?;
        }
        Some(Self { bytes, method })
    }

    /// Its method; Binding is the only one that anybody serves.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Its transaction id.
    pub fn transaction(&self) -> ClassicTransactionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.bytes[4..HEADER_LENGTH]);
        ClassicTransactionId(id)
    }

    /// Its attributes, in order.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.bytes, HEADER_LENGTH)
    }

    /// The first attribute that asks for what a server of today does not do: RESPONSE-ADDRESS, a
    /// CHANGE-REQUEST with a flag set, or any unknown one (RFC 5389 §12.2).
    pub fn unsupported(&self) -> Option<AttributeType> {
        let asks = |kind, value: &[u8]| match kind {
            AttributeType::USERNAME | AttributeType::MESSAGE_INTEGRITY => false,
            // Many clients always send it, with no flag set when they want nothing changed.
            AttributeType::CHANGE_REQUEST => value != [0; 4],
            kind => kind.is_comprehension_required(),
        };
        let mut attributes = self.attributes();
        let found = attributes.find(|attribute| asks(attribute.kind, attribute.value));
        found.map(|attribute| attribute.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"\0\x01\0\x00abcdefghijklmnop";

    #[test]
    fn a_request_is_read_and_nothing_else() {
        let request = ClassicRequest::parse(PLAIN).expect("a request");
        assert_eq!(
            request.transaction(),
            ClassicTransactionId(*b"abcdefghijklmnop")
        );
        assert_eq!(request.method(), Method::BINDING);
        assert_eq!(request.unsupported(), None);
        for (place, value) in [(0, 1), (0, 0x40), (0, 0x80), (1, 0x11), (3, 1), (3, 4)] {
            let mut bytes = PLAIN.to_vec();
            bytes[place] = value;
            assert!(ClassicRequest::parse(&bytes).is_none(), "{bytes:02x?}");
        }
        for length in 0..PLAIN.len() {
            assert!(ClassicRequest::parse(&PLAIN[..length]).is_none());
        }
    }

    #[test]
    fn what_asks_for_more_is_found() {
        for (attribute, expected) in [
            (b"\0\x03\0\x04\0\0\0\0", None),
            (
                b"\0\x03\0\x04\0\0\0\x06",
                Some(AttributeType::CHANGE_REQUEST),
            ),
            (b"\0\x02\0\x04\0\0\0\0", Some(AttributeType(2))),
            (b"\x80\x22\0\x04stun", None),
        ] {
            let mut bytes = PLAIN.to_vec();
            bytes[3] = 8;
            bytes.extend_from_slice(attribute);
            let request = ClassicRequest::parse(&bytes).expect("a request");
            assert_eq!(request.unsupported(), expected);
        }
        let overrun = b"\0\x01\0\x04abcdefghijklmnop\0\x06\0\x01";
        assert!(ClassicRequest::parse(overrun).is_none());
    }
}
