//! The local address of a datagram, as a control message (`IP_PKTINFO`, `IPV6_PKTINFO`).
//!
//! A host with many addresses must answer from the one that was asked, and a socket that is bound to
//! all of them learns and says which only here.

use std::ffi::{c_int, c_uint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{cmsghdr, in_pktinfo, in6_pktinfo, msghdr};

use super::address::{raw_v4, raw_v6};

/// Room for one control message, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u8; Control::ROOM]);

impl Control {
    pub(super) const ROOM: usize = 64;
    pub(super) const EMPTY: Self = Self([0; Self::ROOM]);

    /// Makes `header` ask for `source` as the sender's address.
    pub(super) fn set_source(&mut self, header: &mut msghdr, source: IpAddr) {
        match source {
            IpAddr::V4(ip) => {
                let info = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: raw_v4(ip),
                    ipi_addr: raw_v4(Ipv4Addr::UNSPECIFIED),
                };
                self.write(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(ip) => {
                let info = in6_pktinfo {
                    ipi6_addr: raw_v6(ip),
                    ipi6_ifindex: 0,
                };
                self.write(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// Makes `header` ask for its bytes to be sent as datagrams of `length` bytes.
    pub(super) fn set_segment(&mut self, header: &mut msghdr, length: u16) {
        self.write(header, libc::SOL_UDP, libc::UDP_SEGMENT, length);
    }

    fn write<T: Copy>(&mut self, header: &mut msghdr, level: c_int, kind: c_int, value: T) {
        const { assert!(size_of::<cmsghdr>() + 8 + size_of::<T>() <= Self::ROOM) };
        let size = c_uint::try_from(size_of::<T>()).unwrap_or_default();
        header.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size)) };
        header.msg_controllen = space as _;
        // SAFETY: `header` points to this room, which the assertion above shows to hold a header and a
        // value and which is aligned for a header; the value behind it is written unaligned.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(header);
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = length as _;
            libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        }
    }
}

/// The local address that the kernel reported with a message, if it did.
///
/// # Safety
/// `header` is as `recvmmsg` left it, and the control room that it points to is still there.
pub(super) unsafe fn local_address(header: &msghdr) -> Option<IpAddr> {
    // SAFETY: the caller vouches for the room; the macro checks the length in `header`.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: a control message that is not null lies whole in the room.
        if let Some(address) = unsafe { address_in(message) } {
            return Some(address);
        }
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// # Safety
/// `message` is a control message that the kernel wrote.
unsafe fn address_in(message: *const cmsghdr) -> Option<IpAddr> {
    // SAFETY: the caller vouches for it, and the kernel writes the value that belongs to the kind.
    unsafe {
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let data = libc::CMSG_DATA(message).cast::<in_pktinfo>();
                let raw = data.read_unaligned().ipi_spec_dst.s_addr;
                Some(Ipv4Addr::from_bits(u32::from_be(raw)).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let data = libc::CMSG_DATA(message).cast::<in6_pktinfo>();
                let raw = data.read_unaligned().ipi6_addr.s6_addr;
                Some(Ipv6Addr::from(raw).into())
            }
            _ => None,
        }
    }
}
