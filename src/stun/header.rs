//! The 20-byte header: class, method and transaction (RFC 8489 §5).

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

/// The method of a message, 12 bits (RFC 8489 §18.2, RFC 8656 §17).
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

#[cfg(test)]
mod tests {
    use super::*;

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
