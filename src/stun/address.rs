//! Transport addresses in attributes, plain and XORed (RFC 8489 §14.1, §14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::attribute::Attribute;
use super::error::DecodeError;
use super::header::{MAGIC_COOKIE, TransactionId};

const IPV4: u8 = 0x01;
const IPV6: u8 = 0x02;

/// The longest value: family, port and an IPv6 address.
pub(super) const MAX_LENGTH: usize = 4 + 16;

/// XORs an address with the magic cookie and, for IPv6, the transaction id.
fn mask(address: SocketAddr, transaction: TransactionId) -> SocketAddr {
    let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match address.ip() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ MAGIC_COOKIE)),
        IpAddr::V6(v6) => {
            let mut key = [0; 16];
            key[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            key[4..].copy_from_slice(&transaction.0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ u128::from_be_bytes(key)))
        }
    };
    SocketAddr::new(ip, port)
}

/// Writes the value of a plain address attribute; returns its bytes and how many they are.
pub(super) fn encode(address: SocketAddr) -> ([u8; MAX_LENGTH], usize) {
    let mut value = [0; MAX_LENGTH];
    value[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => {
            value[1] = IPV4;
            value[4..8].copy_from_slice(&v4.octets());
            (value, 8)
        }
        IpAddr::V6(v6) => {
            value[1] = IPV6;
            value[4..].copy_from_slice(&v6.octets());
            (value, MAX_LENGTH)
        }
    }
}

/// Writes the value of an XORed address attribute.
pub(super) fn encode_xor(
    address: SocketAddr,
    transaction: TransactionId,
) -> ([u8; MAX_LENGTH], usize) {
    encode(mask(address, transaction))
}

/// Reads the value of a plain address attribute; the first byte is ignored as the RFC says.
pub(super) fn decode(attribute: &Attribute<'_>) -> Result<SocketAddr, DecodeError> {
    let [_, family, high, low, ip @ ..] = attribute.value else {
        return Err(attribute.invalid());
    };
    let ip = match *family {
        IPV4 => <[u8; 4]>::try_from(ip).map(IpAddr::from),
        IPV6 => <[u8; 16]>::try_from(ip).map(IpAddr::from),
        _ => return Err(attribute.invalid()),
    };
    let ip = ip.map_err(|_| attribute.invalid())?;
    Ok(SocketAddr::new(ip, u16::from_be_bytes([*high, *low])))
}

/// Reads the value of an XORed address attribute.
pub(super) fn decode_xor(
    attribute: &Attribute<'_>,
    transaction: TransactionId,
) -> Result<SocketAddr, DecodeError> {
    decode(attribute).map(|address| mask(address, transaction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::AttributeType;

    fn attribute(value: &[u8]) -> Attribute<'_> {
        Attribute {
            kind: AttributeType::XOR_PEER_ADDRESS,
            value,
            offset: 20,
        }
    }

    #[test]
    fn addresses_survive_a_round_trip() {
        let transaction = TransactionId(*b"abcdefghijkl");
        for text in ["192.0.2.1:32853", "[2001:db8::7]:1", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let (value, length) = encode_xor(address, transaction);
            assert_eq!(
                decode_xor(&attribute(&value[..length]), transaction),
                Ok(address)
            );
            let (value, length) = encode(address);
            assert_eq!(decode(&attribute(&value[..length])), Ok(address));
        }
    }

    #[test]
    fn wrong_lengths_and_families_are_refused() {
        for value in [
            &[][..],
            &[0, 1, 0],
            &[0, 1, 0, 0, 1, 2, 3],
            &[0, 2, 0, 0, 1, 2, 3, 4],
        ] {
            assert_eq!(decode(&attribute(value)), Err(attribute(value).invalid()));
        }
        assert!(decode(&attribute(&[0, 3, 0, 0, 1, 2, 3, 4])).is_err());
    }
}
