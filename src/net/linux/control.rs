//! What is said beside the bytes of a message: its local address (`IP_PKTINFO`, `IPV6_PKTINFO`) and the
//! length of the datagrams that it is made of (`UDP_GRO`, `UDP_SEGMENT`).
//!
//! A host with many addresses must answer from the one that was asked, and a socket that is bound to
//! all of them learns and says which only here.

use std::ffi::{c_int, c_uint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{cmsghdr, in_pktinfo, in6_pktinfo, msghdr};

use super::address::{raw_v4, raw_v6};

/// Room for an address and a length, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u8; Control::ROOM]);

impl Control {
    pub(super) const ROOM: usize = 64;
    pub(super) const EMPTY: Self = Self([0; Self::ROOM]);

    /// Makes `header` ask for `source` as the sender's address.
    pub(super) fn add_source(&mut self, header: &mut msghdr, source: IpAddr) {
        match source {
            IpAddr::V4(ip) => {
                let info = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: raw_v4(ip),
                    ipi_addr: raw_v4(Ipv4Addr::UNSPECIFIED),
                };
                self.append(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(ip) => {
                let info = in6_pktinfo {
                    ipi6_addr: raw_v6(ip),
                    ipi6_ifindex: 0,
                };
                self.append(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// Makes `header` ask for its bytes to be sent as datagrams of `length` bytes.
    pub(super) fn add_segment(&mut self, header: &mut msghdr, length: u16) {
        self.append(header, libc::SOL_UDP, libc::UDP_SEGMENT, length);
    }

    /// Takes back from `header` what [`add_segment`](Self::add_segment) was the last to add.
    pub(super) fn drop_segment(header: &mut msghdr) {
        let size = c_uint::try_from(size_of::<u16>()).unwrap_or_default();
        // SAFETY: CMSG_SPACE only computes.
        let space = unsafe { libc::CMSG_SPACE(size) };
        header.msg_controllen = header.msg_controllen.saturating_sub(space as _);
    }

    /// Writes a control message behind those that `header` counts already: none or an address.
    fn append<T: Copy>(&mut self, header: &mut msghdr, level: c_int, kind: c_int, value: T) {
        let size = c_uint::try_from(size_of::<T>()).unwrap_or_default();
        // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size)) };
        #[expect(clippy::allow_attributes, reason = "the type differs by C library")]
        #[allow(clippy::unnecessary_cast, reason = "the type differs by C library")]
        let begin = header.msg_controllen as usize;
        let Some(room) = self.0.get_mut(begin..begin + space as usize) else {
            return;
        };
        let message = room.as_mut_ptr().cast::<cmsghdr>();
        // SAFETY: `room` holds a header and a value. It is aligned for a header: the whole is, and
        // CMSG_SPACE, of which `begin` is a sum, is a multiple of its alignment; the value behind it
        // is written unaligned.
        unsafe {
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = length as _;
            libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        }
        header.msg_controllen = (begin + space as usize) as _;
        header.msg_control = self.0.as_mut_ptr().cast();
    }
}

/// What the kernel told with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The local address that it was sent to.
    pub(super) to: Option<IpAddr>,
    /// The length of each datagram that it is made of, but the last.
    pub(super) segment: Option<usize>,
}

/// Reads what the kernel told with a message.
///
/// # Safety
/// `header` is as `recvmsg` left it, and the control room that it points to is still there.
pub(super) unsafe fn read(header: &msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: the caller vouches for the room; the macro checks the length in `header`.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: a control message that is not null lies whole in the room.
        unsafe { take_in(message, &mut told) };
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    told
}

/// # Safety
/// `message` is a control message that the kernel wrote.
unsafe fn take_in(message: *const cmsghdr, told: &mut Told) {
    // SAFETY: the caller vouches for it, and the kernel writes the value that belongs to the kind.
    unsafe {
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let data = libc::CMSG_DATA(message).cast::<in_pktinfo>();
                let raw = data.read_unaligned().ipi_spec_dst.s_addr;
                told.to = Some(Ipv4Addr::from_bits(u32::from_be(raw)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let data = libc::CMSG_DATA(message).cast::<in6_pktinfo>();
                let raw = data.read_unaligned().ipi6_addr.s6_addr;
                told.to = Some(Ipv6Addr::from(raw).into());
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let length = libc::CMSG_DATA(message).cast::<c_int>().read_unaligned();
                told.segment = usize::try_from(length).ok();
            }
            _ => {}
        }
    }
}
