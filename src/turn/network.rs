//! Blocks of addresses in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A block of addresses: `10.0.0.0/8`, `fe80::/10`, or one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Not an IP address before the slash.
    Address,
    /// Not a number from 0 to 32 (IPv6: 128) after the slash.
    Prefix,
    /// Bits are set behind the prefix; the network meant may be this one.
    HostBits(Network),
}

impl Network {
    /// The block of all addresses that share the first `prefix` bits of `address`; none when the
    /// family has fewer bits. Bits behind the prefix are cleared.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let masked = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Self {
            address: masked,
            prefix,
        })
    }

    /// The block of `address` alone.
    pub fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// How many leading bits its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `ip` is one of its addresses. An IPv4 address is in no IPv6 block and the reverse.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::new(ip, self.prefix).is_some_and(|network| network.address == self.address)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let Some(prefix) = prefix else {
            return Ok(Self::host(address));
        };
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix
            .parse()
            .ok()
            .filter(|_| is_number)
            .ok_or(NetworkError::Prefix)?;
        let network = Self::new(address, prefix).ok_or(NetworkError::Prefix)?;
        if network.address == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits(network))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_blocks_and_says_what_is_wrong() {
        let parse = |text: &str| text.parse::<Network>();
        assert_eq!(parse("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse("fe80::/10").unwrap().to_string(), "fe80::/10");
        assert_eq!(parse("192.0.2.1").unwrap().prefix(), 32);
        assert_eq!(parse("0.0.0.0/0").unwrap().prefix(), 0);
        assert_eq!(parse("ten/8"), Err(NetworkError::Address));
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "::/x"] {
            assert_eq!(parse(text), Err(NetworkError::Prefix), "{text}");
        }
        let meant = parse("10.0.0.0/8").unwrap();
        assert_eq!(parse("10.1.2.3/8"), Err(NetworkError::HostBits(meant)));
    }

    /// Requirement S2: a match is a comparison of integers, nothing cleverer.
    #[test]
    fn contains_equals_an_integer_comparison() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u128;
        for round in 0..20_000_u32 {
            state = state
                .wrapping_mul(0xDA94_2042_E4DD_58B5_2FC5_6F4E_D2A1_9C35)
                .rotate_left(7);
            let prefix = (round % 129) as u8;
            let other = state ^ (1_u128 << (round % 128));
            let network = Network::new(IpAddr::V6(state.into()), prefix).unwrap();
            let equal = prefix == 0 || state >> (128 - prefix) == other >> (128 - prefix);
            assert_eq!(network.contains(IpAddr::V6(other.into())), equal);
        }
    }
}
