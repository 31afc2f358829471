//! The 20-byte header: class, method and transaction (RFC 8489 §5).

use super::error::{DecodeError, DecodeErrorKind};

/// Bytes in the header of every STUN message.
pub const HEADER_LENGTH: usize = 20;

/// The fixed value behind the message length (RFC 8489 §5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// The class of a message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 0b00: asks for a response.
    Request,
    /// 0b01: asks for nothing.
    Indication,
    /// 0b10.
    Success,
    /// 0b11.
    Error,
}

/// The method of a message, 12 bits (RFC 8489 §18.2, RFC 8656 §17, RFC 6062 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(u16);

impl Method {
    /// RFC 8489 §3.
    pub const BINDING: Self = Self(0x001);
    /// RFC 8656 §7.
    pub const ALLOCATE: Self = Self(0x003);
    /// RFC 8656 §8.
    pub const REFRESH: Self = Self(0x004);
    /// RFC 8656 §11, an indication.
    pub const SEND: Self = Self(0x006);
    /// RFC 8656 §11, an indication.
    pub const DATA: Self = Self(0x007);
    /// RFC 8656 §10.
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// RFC 8656 §12.
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// RFC 6062 §5.2.
    pub const CONNECT: Self = Self(0x00A);
    /// RFC 6062 §5.4.
    pub const CONNECTION_BIND: Self = Self(0x00B);
    /// RFC 6062 §5.3, an indication.
    pub const CONNECTION_ATTEMPT: Self = Self(0x00C);

    /// The method with number `value`, of which the low 12 bits count.
    pub const fn new(value: u16) -> Self {
        Self(value & 0x0FFF)
    }
}

/// Names a transaction between one client and one server (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// The first two bytes of a message: the class bits stand between the method bits.
pub(super) const fn encode_type(class: Class, method: Method) -> u16 {
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    let method = (method.0 & 0x00F) | (method.0 & 0x070) << 1 | (method.0 & 0xF80) << 2;
    class | method
}

/// The inverse of [`encode_type`] for a type whose two topmost bits are zero.
pub(super) const fn decode_type(bits: u16) -> (Class, Method) {
    let class = match bits & 0x110 {
        0x000 => Class::Request,
        0x010 => Class::Indication,
        0x100 => Class::Success,
        _ => Class::Error,
    };
    let method = (bits & 0x00F) | (bits & 0x0E0) >> 1 | (bits & 0x3E00) >> 2;
    (class, Method(method))
}

/// Checks the header of the message that is all of `bytes` (RFC 8489 §6.3); its class and method.
pub(super) fn check_header(bytes: &[u8]) -> Result<(Class, Method), DecodeError> {
    let fail = |kind, offset| Err(DecodeError::new(kind, offset));
    let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
        return fail(DecodeErrorKind::Truncated, bytes.len());
    };
    let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
    let length = HEADER_LENGTH + usize::from(u16::from_be_bytes([l0, l1]));
    if t0 & 0xC0 != 0 {
        return fail(DecodeErrorKind::NotStun, 0);
    }
    if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
        return fail(DecodeErrorKind::NoMagicCookie, 4);
    }
    if !length.is_multiple_of(4) {
        return fail(DecodeErrorKind::UnalignedLength, 2);
    }
    if bytes.len() < length {
        return fail(DecodeErrorKind::Truncated, bytes.len());
    }
    if bytes.len() > length {
        return fail(DecodeErrorKind::TrailingBytes, length);
    }
    Ok(decode_type(u16::from_be_bytes([t0, t1])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: [u8; 24] = *b"\0\x01\0\x04\x21\x12\xA4\x42abcdefghijkl\x80\x22\0\0";

    fn kind(bytes: &[u8]) -> DecodeErrorKind {
        check_header(bytes).unwrap_err().kind
    }

    #[test]
    fn headers_of_other_protocols_are_refused() {
        assert_eq!(
            check_header(&BINDING),
            Ok((Class::Request, Method::BINDING))
        );
        for (place, value, expected) in [
            (0, 0x80, DecodeErrorKind::NotStun),
            (0, 0x40, DecodeErrorKind::NotStun),
            (4, 0, DecodeErrorKind::NoMagicCookie),
            (7, 0, DecodeErrorKind::NoMagicCookie),
            (3, 2, DecodeErrorKind::UnalignedLength),
            (3, 8, DecodeErrorKind::Truncated),
            (2, 0xFF, DecodeErrorKind::Truncated),
            (3, 0, DecodeErrorKind::TrailingBytes),
        ] {
            let mut bytes = BINDING;
            bytes[place] = value;
            assert_eq!(kind(&bytes), expected, "byte {place} is {value}");
        }
    }

    #[test]
    fn every_truncation_is_refused_where_the_bytes_end() {
        for length in 0..BINDING.len() {
            let error = check_header(&BINDING[..length]).unwrap_err();
            assert_eq!(error, DecodeError::new(DecodeErrorKind::Truncated, length));
        }
    }

    #[test]
    fn every_type_survives_a_round_trip() {
        for class in [
            Class::Request,
            Class::Indication,
            Class::Success,
            Class::Error,
        ] {
            for method in 0..=0xFFF {
                let method = Method::new(method);
                let bits = encode_type(class, method);
                assert_eq!(bits & 0xC000, 0);
                assert_eq!(decode_type(bits), (class, method));
            }
        }
    }

    #[test]
    fn types_are_those_of_the_registry() {
        assert_eq!(encode_type(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(encode_type(Class::Success, Method::BINDING), 0x0101);
        assert_eq!(encode_type(Class::Error, Method::ALLOCATE), 0x0113);
        assert_eq!(encode_type(Class::Indication, Method::DATA), 0x0017);
    }
}
