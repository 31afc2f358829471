//! What the host has: its addresses and its limit on open files.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use libc::{ifaddrs, rlimit, sockaddr, sockaddr_storage};

use super::{address, check};

/// An address of a network interface and the network behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// How many leading bits name the network: 0 to 32, IPv6 to 128.
    pub prefix: u8,
}

/// Every IP address of every interface of the host, loopback too.
///
/// # Errors
/// The kernel was out of memory or descriptors.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut first: *mut ifaddrs = ptr::null_mut();
    // SAFETY: the call writes a list to `first`, which is freed below.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut next: *const ifaddrs = first;
    while !next.is_null() {
        // SAFETY: the list's entries live until freeifaddrs.
        let entry = unsafe { &*next };
        // SAFETY: both addresses belong to the entry and are null or whole.
        found.extend(unsafe { interface(entry) });
        next = entry.ifa_next;
    }
    // SAFETY: getifaddrs made the list, and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// # Safety
/// `entry` is of a list that getifaddrs made.
unsafe fn interface(entry: &ifaddrs) -> Option<Interface> {
    // SAFETY: the caller vouches for both.
    let (address, mask) = unsafe { (ip(entry.ifa_addr)?, ip(entry.ifa_netmask)?) };
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().count_ones(),
        IpAddr::V6(mask) => mask.to_bits().count_ones(),
    };
    Some(Interface {
        address,
        prefix: u8::try_from(ones).ok()?,
    })
}

/// # Safety
/// `raw` is null or a socket address as long as its family says.
unsafe fn ip(raw: *const sockaddr) -> Option<IpAddr> {
    if raw.is_null() {
        return None;
    }
    // SAFETY: not null, so an address, which begins with the family.
    let length = match i32::from(unsafe { (*raw).sa_family }) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let mut storage: sockaddr_storage = address::empty();
    // SAFETY: the family says that so many bytes are there; storage is longer.
    unsafe {
        ptr::copy_nonoverlapping(
            raw.cast::<u8>(),
            ptr::from_mut(&mut storage).cast::<u8>(),
            length,
        );
    }
    address::decode(&storage).map(|address: SocketAddr| address.ip())
}

/// How many descriptors the process may have open: the limit in force, and how far it may be raised.
pub fn descriptor_limit() -> (u64, u64) {
    let mut limit = rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one rlimit. It cannot fail with these arguments.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Raises the limit on open descriptors as far as it may be raised, and returns the limit in force.
///
/// # Errors
/// The host forbids it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = descriptor_limit();
    if soft < hard {
        let limit = rlimit {
            rlim_cur: hard,
            rlim_max: hard,
        };
        // SAFETY: the kernel reads one rlimit.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_interfaces() -> io::Result<()> {
        let loopback = Interface {
            address: "127.0.0.1".parse().unwrap(),
            prefix: 8,
        };
        assert!(interfaces()?.contains(&loopback));
        Ok(())
    }

    #[test]
    fn the_descriptor_limit_goes_up_to_the_hard_one() -> io::Result<()> {
        let raised = raise_descriptor_limit()?;
        assert_eq!(descriptor_limit(), (raised, raised));
        Ok(())
    }
}
