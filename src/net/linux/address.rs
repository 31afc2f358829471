//! Socket addresses as the kernel writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{
    AF_INET, AF_INET6, in_addr, in6_addr, sa_family_t, sockaddr_in, sockaddr_in6, sockaddr_storage,
    socklen_t,
};

pub(super) const STORAGE_LENGTH: socklen_t = length_of::<sockaddr_storage>();

#[expect(clippy::cast_possible_truncation, reason = "at most 128")]
const fn length_of<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

#[expect(clippy::cast_possible_truncation, reason = "2 or 10")]
const fn family(family: i32) -> sa_family_t {
    family as sa_family_t
}

/// An address of family "unspecified".
pub(super) const fn empty() -> sockaddr_storage {
    // SAFETY: sockaddr_storage is plain integers; all zero is a value of it.
    unsafe { std::mem::zeroed() }
}

/// Writes `address` into `storage` and returns how long it is there.
pub(super) fn encode(address: &SocketAddr, storage: &mut sockaddr_storage) -> socklen_t {
    match address {
        SocketAddr::V4(v4) => encode_v4(v4, storage),
        SocketAddr::V6(v6) => encode_v6(v6, storage),
    }
}

fn encode_v4(address: &SocketAddrV4, storage: &mut sockaddr_storage) -> socklen_t {
    let raw = sockaddr_in {
        sin_family: family(AF_INET),
        sin_port: address.port().to_be(),
        sin_addr: raw_v4(*address.ip()),
        sin_zero: [0; 8],
    };
    // SAFETY: sockaddr_storage is made to be as large and as aligned as every address type.
    unsafe { ptr::from_mut(storage).cast::<sockaddr_in>().write(raw) };
    length_of::<sockaddr_in>()
}

fn encode_v6(address: &SocketAddrV6, storage: &mut sockaddr_storage) -> socklen_t {
    let raw = sockaddr_in6 {
        sin6_family: family(AF_INET6),
        sin6_port: address.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: raw_v6(*address.ip()),
        sin6_scope_id: address.scope_id(),
    };
    // SAFETY: sockaddr_storage is made to be as large and as aligned as every address type.
    unsafe { ptr::from_mut(storage).cast::<sockaddr_in6>().write(raw) };
    length_of::<sockaddr_in6>()
}

/// The canonical address in `storage`; none when it is neither IPv4 nor IPv6.
pub(super) fn decode(storage: &sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        AF_INET => {
            // SAFETY: the family says that a sockaddr_in was written there; storage is aligned for it.
            let raw = unsafe { &*ptr::from_ref(storage).cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(raw.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(raw.sin_port))))
        }
        AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 was written there; storage is aligned for it.
            let raw = unsafe { &*ptr::from_ref(storage).cast::<sockaddr_in6>() };
            Some(decode_v6(raw))
        }
        _ => None,
    }
}

fn decode_v6(raw: &sockaddr_in6) -> SocketAddr {
    let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
    let port = u16::from_be(raw.sin6_port);
    match ip.to_canonical() {
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id).into(),
        v4 => SocketAddr::new(v4, port),
    }
}

pub(super) const fn raw_v4(ip: Ipv4Addr) -> in_addr {
    in_addr {
        s_addr: ip.to_bits().to_be(),
    }
}

pub(super) const fn raw_v6(ip: Ipv6Addr) -> in6_addr {
    in6_addr {
        s6_addr: ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        let link_local = SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0, 3);
        for address in [
            "192.0.2.7:3478".parse().unwrap(),
            "[2001:db8::7]:65535".parse().unwrap(),
            link_local.into(),
        ] {
            let mut storage = empty();
            encode(&address, &mut storage);
            assert_eq!(decode(&storage), Some(address));
        }
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mut storage = empty();
        encode(&"[::ffff:192.0.2.7]:9".parse().unwrap(), &mut storage);
        assert_eq!(decode(&storage), Some("192.0.2.7:9".parse().unwrap()));
    }

    #[test]
    fn other_families_are_nothing() {
        assert_eq!(decode(&empty()), None);
    }
}
