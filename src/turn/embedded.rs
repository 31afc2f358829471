//! The IPv4 addresses that stand inside IPv6 addresses (requirement S2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPv4 addresses that `ip` may be an encoding of: IPv4-mapped, -compatible and -translated, NAT64,
/// ISATAP; 6to4; Teredo's client and server.
pub(super) fn embedded(ip: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let embedded = match ip {
        IpAddr::V6(v6) => in_v6(v6),
        IpAddr::V4(_) => [None; 4],
    };
    embedded.into_iter().flatten()
}

/// Whether `ip` is the end of an automatic tunnel, Teredo or 6to4 (RFC 8656 §21.4).
pub(super) fn is_tunnelled(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => matches!(v6.segments(), [0x2002, ..] | [0x2001, 0, ..]),
    }
}

fn in_v6(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let low = at(v6, 0);
    let tunnelled = match v6.segments() {
        [0x64, 0xff9b, 1, ..] => return by_local_nat64(v6),
        [0x2002, ..] => [Some(at(v6, 80)), None],
        [0x2001, 0, ..] => [Some(at(v6, 64)), Some(!low)],
        _ => [None; 2],
    };
    let [first, second] = tunnelled;
    [
        Some(low).filter(|_| is_in_low_bits(v6)),
        first,
        second,
        None,
    ]
}

/// Whether the last four bytes are an IPv4 address.
fn is_in_low_bits(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        // The unspecified and the loopback address are what they are (RFC 4291 §2.5.5.1).
        [0, 0, 0, 0, ..] => v6.to_bits() > 1,
        [0x64, 0xff9b, ..] => true,
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => true,
        _ => false,
    }
}

/// The prefix for local use may be cut after 96, 64, 56 or 48 bits (RFC 8215 §4, RFC 6052 §2.2), and only
/// its gateway knows where. What would be in 0.0.0.0/8 leads nowhere and is left out if there is another.
fn by_local_nat64(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    // Behind the shorter prefixes the address is split around the bits 64 to 71.
    let split = |first: u32, rest: u32, bits: u32| {
        let mask = u32::MAX >> (32 - bits);
        let (first, rest) = (at(v6, first).to_bits(), at(v6, rest).to_bits());
        Ipv4Addr::from_bits(first.checked_shl(bits).unwrap_or(0) | rest & mask)
    };
    let all = [at(v6, 0), at(v6, 24), split(64, 32, 24), split(64, 40, 16)];
    let is_somewhere = |v4: &Ipv4Addr| v4.octets()[0] != 0;
    if !all.iter().any(is_somewhere) {
        return all.map(Some);
    }
    all.map(|v4| Some(v4).filter(is_somewhere))
}

/// The 32 bits that end `shift` bits before the end.
#[expect(clippy::cast_possible_truncation, reason = "32 bits are cut out")]
fn at(v6: Ipv6Addr, shift: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((v6.to_bits() >> shift) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(v6: &str, expected: &[&str]) {
        let found: Vec<String> = embedded(v6.parse().unwrap())
            .map(|v4| v4.to_string())
            .collect();
        assert_eq!(found, expected, "{v6}");
    }

    #[test]
    fn finds_what_stands_inside() {
        check("::ffff:9.8.7.6", &["9.8.7.6"]);
        check("::9.8.7.6", &["9.8.7.6"]);
        check("::ffff:0:9.8.7.6", &["9.8.7.6"]);
        check("64:ff9b::9.8.7.6", &["9.8.7.6"]);
        check("2002:908:706::1", &["9.8.7.6"]);
        check("2001:0:101:101::f6f7:f8f9", &["1.1.1.1", "9.8.7.6"]);
        check("2606::5efe:9.8.7.6", &["9.8.7.6"]);
        for nothing in ["::", "::1", "2606:4700::1111", "9.8.7.6"] {
            check(nothing, &[]);
        }
    }

    #[test]
    fn a_local_nat64_prefix_may_end_in_four_places() {
        check("64:ff9b:1::9.8.7.6", &["9.8.7.6"]);
        check("64:ff9b:1::9:807:600:0", &["6.0.0.0", "9.8.7.6"]);
        check("64:ff9b:1:9:8:706::", &["8.7.6.0", "9.8.7.6"]);
        check("64:ff9b:1:908:7:600::", &["7.6.0.0", "8.7.6.0", "9.8.7.6"]);
        check("64:ff9b:1::", &["0.0.0.0"; 4]);
    }
}
