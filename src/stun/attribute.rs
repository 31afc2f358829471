//! Attribute types (RFC 8489 §18.3, RFC 8656 §18, RFC 6062 §6.2, RFC 5780 §7, RFC 7635 §6) and attributes as
//! they stand in a message.

use super::error::{DecodeError, DecodeErrorKind};
use super::padded;

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u16);

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)+) => {
        impl AttributeType {
            $($(#[$doc])* pub const $name: Self = Self($value);)+
        }
    };
}

types! {
    /// RFC 8489 §14.1.
    MAPPED_ADDRESS = 0x0001;
    /// RFC 5780 §7.2.
    CHANGE_REQUEST = 0x0003;
    /// RFC 8489 §14.3.
    USERNAME = 0x0006;
    /// RFC 8489 §14.5.
    MESSAGE_INTEGRITY = 0x0008;
    /// RFC 8489 §14.8.
    ERROR_CODE = 0x0009;
    /// RFC 8489 §14.13.
    UNKNOWN_ATTRIBUTES = 0x000A;
    /// RFC 8656 §18.1.
    CHANNEL_NUMBER = 0x000C;
    /// RFC 8656 §18.2.
    LIFETIME = 0x000D;
    /// RFC 8656 §18.3.
    XOR_PEER_ADDRESS = 0x0012;
    /// RFC 8656 §18.4.
    DATA = 0x0013;
    /// RFC 8489 §14.9.
    REALM = 0x0014;
    /// RFC 8489 §14.10.
    NONCE = 0x0015;
    /// RFC 8656 §18.5.
    XOR_RELAYED_ADDRESS = 0x0016;
    /// RFC 8656 §18.6.
    REQUESTED_ADDRESS_FAMILY = 0x0017;
    /// RFC 8656 §18.7.
    EVEN_PORT = 0x0018;
    /// RFC 8656 §18.8.
    REQUESTED_TRANSPORT = 0x0019;
    /// RFC 8656 §18.9.
    DONT_FRAGMENT = 0x001A;
    /// RFC 7635 §6.2.
    ACCESS_TOKEN = 0x001B;
    /// RFC 8489 §14.6.
    MESSAGE_INTEGRITY_SHA256 = 0x001C;
    /// RFC 8489 §14.12.
    PASSWORD_ALGORITHM = 0x001D;
    /// RFC 8489 §14.4.
    USERHASH = 0x001E;
    /// RFC 8489 §14.2.
    XOR_MAPPED_ADDRESS = 0x0020;
    /// RFC 8656 §18.10.
    RESERVATION_TOKEN = 0x0022;
    /// RFC 5780 §7.6.
    PADDING = 0x0026;
    /// RFC 5780 §7.5.
    RESPONSE_PORT = 0x0027;
    /// RFC 6062 §6.2.1.
    CONNECTION_ID = 0x002A;
    /// RFC 8656 §18.11.
    ADDITIONAL_ADDRESS_FAMILY = 0x8000;
    /// RFC 8656 §18.12.
    ADDRESS_ERROR_CODE = 0x8001;
    /// RFC 8489 §14.11.
    PASSWORD_ALGORITHMS = 0x8002;
    /// RFC 8489 §14.16.
    ALTERNATE_DOMAIN = 0x8003;
    /// RFC 8656 §18.13.
    ICMP = 0x8004;
    /// RFC 8489 §14.14.
    SOFTWARE = 0x8022;
    /// RFC 8489 §14.15.
    ALTERNATE_SERVER = 0x8023;
    /// RFC 8489 §14.7.
    FINGERPRINT = 0x8028;
    /// RFC 5780 §7.3.
    RESPONSE_ORIGIN = 0x802B;
    /// RFC 5780 §7.4.
    OTHER_ADDRESS = 0x802C;
    /// RFC 7635 §6.1.
    THIRD_PARTY_AUTHORIZATION = 0x802E;
    /// RFC 8016 §4.
    MOBILITY_TICKET = 0x8030;
}

impl AttributeType {
    /// Whether a receiver that does not know the type must refuse the message (RFC 8489 §14).
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }
}

/// One attribute of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: AttributeType,
    /// Its value without padding.
    pub value: &'a [u8],
    /// Bytes from the start of the message to the attribute's header.
    pub offset: usize,
}

impl<'a> Attribute<'a> {
    /// The value as exactly `N` bytes.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidValue`] when it has another length.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| self.invalid())
    }

    /// The value as a 32-bit number.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidValue`] when it is not four bytes long.
    pub fn u32(&self) -> Result<u32, DecodeError> {
        self.bytes().map(u32::from_be_bytes)
    }

    /// The value as UTF-8 of at most `max` bytes.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidValue`] when it is longer or not UTF-8.
    pub fn text(&self, max: usize) -> Result<&'a str, DecodeError> {
        if self.value.len() > max {
            return Err(self.invalid());
        }
        std::str::from_utf8(self.value).map_err(|_| self.invalid())
    }

    /// The error that says the value of this attribute is malformed.
    pub fn invalid(&self) -> DecodeError {
        DecodeError::new(DecodeErrorKind::InvalidValue, self.offset)
    }
}

/// Iterates over attributes that [`Message::parse`](super::Message::parse) has checked.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    /// Those from `offset` to the end of `bytes`, the beginning of a message.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let (attribute, next) = read_attribute(self.bytes, self.offset).ok()?;
        self.offset = next;
        Some(attribute)
    }
}

/// The attribute at `offset` and where the next one starts.
pub(super) fn read_attribute(
    bytes: &[u8],
    offset: usize,
) -> Result<(Attribute<'_>, usize), DecodeError> {
    let overrun = DecodeError::new(DecodeErrorKind::AttributeOverrun, offset);
    let ([k0, k1, l0, l1], rest) = bytes
        .get(offset..)
        .and_then(<[u8]>::split_first_chunk)
        .ok_or(overrun)?;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    if padded(length) > rest.len() {
        return Err(overrun);
    }
    let kind = AttributeType(u16::from_be_bytes([*k0, *k1]));
    let attribute = Attribute {
        kind,
        value: &rest[..length],
        offset,
    };
    Ok((attribute, offset + 4 + padded(length)))
}
