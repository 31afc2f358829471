//! The PROXY protocol, versions 1 and 2: the header with which a load balancer tells whose connection it
//! passes on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its line end included.
const LONGEST_V1: usize = 107;
/// The longest header of version 2 that is read: addresses, and more TLVs than balancers send.
const LONGEST_V2: usize = 4096;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What precedes the addresses in version 2.
const FIXED: usize = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Nobody is named: a health check of the balancer itself, or a connection it knows nothing of.
    Local,
    /// The connection of a client.
    Client {
        /// The client's address.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
}

/// The bytes are no header of the PROXY protocol for a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedProxyHeader;

impl ProxyHeader {
    /// Reads the header at the beginning of `bytes`, with its length in bytes; none while its end has not
    /// arrived.
    ///
    /// # Errors
    /// The bytes are no header, or one of more than 4096 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, MalformedProxyHeader> {
        if begins_alike(bytes, &SIGNATURE) {
            parse_v2(bytes)
        } else if begins_alike(bytes, b"PROXY ") {
            parse_v1(bytes)
        } else {
            Err(MalformedProxyHeader)
        }
    }

    /// The header in version 2.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        match self {
            Self::Client {
                source: SocketAddr::V4(source),
                destination: SocketAddr::V4(destination),
            } => {
                bytes.extend([PROXY, TCP_OVER_IPV4, 0, 12]);
                bytes.extend(source.ip().octets());
                bytes.extend(destination.ip().octets());
                bytes.extend(source.port().to_be_bytes());
                bytes.extend(destination.port().to_be_bytes());
            }
            Self::Client {
                source,
                destination,
            } => {
                bytes.extend([PROXY, TCP_OVER_IPV6, 0, 36]);
                bytes.extend(mapped(source.ip()).octets());
                bytes.extend(mapped(destination.ip()).octets());
                bytes.extend(source.port().to_be_bytes());
                bytes.extend(destination.port().to_be_bytes());
            }
            Self::Local => bytes.extend([LOCAL, UNSPECIFIED, 0, 0]),
        }
        bytes
    }
}

/// Whether `bytes`, as far as they go, are the beginning of something that begins with `pattern`.
fn begins_alike(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes
        .iter()
        .zip(pattern)
        .all(|(byte, wanted)| byte == wanted)
}

type Parsed = Result<Option<(ProxyHeader, usize)>, MalformedProxyHeader>;

fn parse_v1(bytes: &[u8]) -> Parsed {
    let head = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if head.len() < LONGEST_V1 {
            Ok(None)
        } else {
            Err(MalformedProxyHeader)
        };
    };
    let line = std::str::from_utf8(&head[..end]).map_err(|_| MalformedProxyHeader)?;
    let mut words = line.split(' ').skip(1);
    let header = match words.next() {
        Some("UNKNOWN") => ProxyHeader::Local,
        Some("TCP4") => client_v1::<Ipv4Addr>(words)?,
        Some("TCP6") => client_v1::<Ipv6Addr>(words)?,
        _ => return Err(MalformedProxyHeader),
    };
    Ok(Some((header, end + 2)))
}

fn client_v1<'a, A: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<ProxyHeader, MalformedProxyHeader> {
    let mut next = || words.next().ok_or(MalformedProxyHeader);
    let (source, destination) = (address::<A>(next()?)?, address::<A>(next()?)?);
    let (from, to) = (port(next()?)?, port(next()?)?);
    match words.next() {
        Some(_) => Err(MalformedProxyHeader),
        None => Ok(client(source, from, destination, to)),
    }
}

fn address<A: std::str::FromStr + Into<IpAddr>>(
    word: &str,
) -> Result<IpAddr, MalformedProxyHeader> {
    word.parse::<A>()
        .map(Into::into)
        .map_err(|_| MalformedProxyHeader)
}

fn port(word: &str) -> Result<u16, MalformedProxyHeader> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.parse().map_err(|_| MalformedProxyHeader)?;
    if is_plain {
        Ok(number)
    } else {
        Err(MalformedProxyHeader)
    }
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., command, kind, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST_V2 || !matches!(command, LOCAL | PROXY) {
        return Err(MalformedProxyHeader);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let header = match (command, kind) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => ProxyHeader::Local,
        (PROXY, TCP_OVER_IPV4) => client_v2(body, |octets: [u8; 4]| Ipv4Addr::from(octets).into())?,
        (PROXY, TCP_OVER_IPV6) => {
            client_v2(body, |octets: [u8; 16]| Ipv6Addr::from(octets).into())?
        }
        _ => return Err(MalformedProxyHeader),
    };
    Ok(Some((header, FIXED + length)))
}

fn client_v2<const N: usize>(
    body: &[u8],
    ip: fn([u8; N]) -> IpAddr,
) -> Result<ProxyHeader, MalformedProxyHeader> {
    let (source, body) = body.split_first_chunk::<N>().ok_or(MalformedProxyHeader)?;
    let (destination, body) = body.split_first_chunk::<N>().ok_or(MalformedProxyHeader)?;
    let (from, body) = body.split_first_chunk().ok_or(MalformedProxyHeader)?;
    let (to, _) = body.split_first_chunk().ok_or(MalformedProxyHeader)?;
    let (from, to) = (u16::from_be_bytes(*from), u16::from_be_bytes(*to));
    Ok(client(ip(*source), from, ip(*destination), to))
}

/// Addresses are canonical: balancers that listen on IPv6 tell of IPv4 clients as mapped ones.
fn client(source: IpAddr, from: u16, destination: IpAddr, to: u16) -> ProxyHeader {
    ProxyHeader::Client {
        source: SocketAddr::new(source.to_canonical(), from),
        destination: SocketAddr::new(destination.to_canonical(), to),
    }
}

const fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str, destination: &str) -> ProxyHeader {
        ProxyHeader::Client {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// Every proper beginning of `bytes` waits for more; what follows the header is not read.
    fn parses(bytes: &[u8], header: ProxyHeader) {
        for cut in 0..bytes.len() {
            assert_eq!(ProxyHeader::parse(&bytes[..cut]), Ok(None), "at {cut}");
        }
        let followed = [bytes, b"\x00\x01\x00\x00"].concat();
        assert_eq!(
            ProxyHeader::parse(&followed),
            Ok(Some((header, bytes.len())))
        );
    }

    fn refused(bytes: &[u8]) {
        assert_eq!(
            ProxyHeader::parse(bytes),
            Err(MalformedProxyHeader),
            "{bytes:?}"
        );
    }

    #[test]
    fn version_1_names_the_client() {
        let v4 = named("192.0.2.1:56324", "198.51.100.7:443");
        parses(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", v4);
        let v6 = named("[2001:db8::1]:56324", "[2001:db8::2]:443");
        parses(b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", v6);
        let mapped = named("192.0.2.1:1", "198.51.100.7:2");
        parses(
            b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 1 2\r\n",
            mapped,
        );
        parses(b"PROXY UNKNOWN\r\n", ProxyHeader::Local);
        parses(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ProxyHeader::Local);
    }

    #[test]
    fn version_2_names_the_client() {
        let pairs = [
            named("192.0.2.1:56324", "198.51.100.7:443"),
            named("[2001:db8::1]:56324", "[2001:db8::2]:443"),
            ProxyHeader::Local,
        ];
        for header in pairs {
            parses(&header.to_bytes(), header);
        }
        let mixed = named("192.0.2.1:56324", "[2001:db8::2]:443");
        parses(&mixed.to_bytes(), mixed);
    }

    #[test]
    fn what_follows_the_addresses_of_version_2_is_skipped() {
        let header = named("192.0.2.1:56324", "198.51.100.7:443");
        let mut bytes = header.to_bytes();
        bytes[15] += 7;
        bytes.extend([0x04, 0, 4, 1, 2, 3, 4]);
        parses(&bytes, header);
    }

    #[test]
    fn anything_else_is_refused_as_early_as_it_can_be_told() {
        refused(b"GET / HTTP/1.1\r\n");
        refused(b"\x00\x01");
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n");
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 1\r\n");
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n");
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.7 +6 443\r\n");
        refused(b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n");
        refused(b"PROXY UDP4 192.0.2.1 198.51.100.7 56324 443\r\n");
        refused(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; LONGEST_V1]].concat());
        let good = named("192.0.2.1:56324", "198.51.100.7:443").to_bytes();
        for (place, byte) in [
            (12, 0x11),
            (12, 0x22),
            (13, 0x12),
            (13, 0x31),
            (14, 0x10),
            (15, 11),
        ] {
            let mut bytes = good.clone();
            bytes[place] = byte;
            bytes.resize(64, 0);
            refused(&bytes);
        }
    }
}
