//! Stateless cookies: a time stamp and a keyed hash over it, both addresses and the client's random
//! (RFC 6347 §4.2.1, RFC 9147 §5.1).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dimpl::crypto::aws_lc_rs;
use subtle::ConstantTimeEq;

use crate::time::Instant;
use crate::turn::FiveTuple;

/// A cookie; the library takes no other length.
pub(super) type Cookie = [u8; 32];

const STAMP: usize = 8;
/// For so long a cookie may come back.
const LIFETIME: Duration = Duration::from_secs(30);

/// Makes cookies and recognises its own.
pub(super) struct Cookies {
    key: [u8; 32],
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies(..)")
    }
}

impl Cookies {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The cookie of `client` for a ClientHello with `random`.
    pub(super) fn make(
        &self,
        now: Instant,
        client: &FiveTuple,
        random: &[u8; 32],
    ) -> Option<Cookie> {
        self.stamped(now.as_nanos().to_be_bytes(), client, random)
    }

    /// Whether `cookie` was made for this client and ClientHello a moment ago.
    pub(super) fn is_valid(
        &self,
        cookie: &Cookie,
        now: Instant,
        client: &FiveTuple,
        random: &[u8; 32],
    ) -> bool {
        let Some(stamp) = cookie.first_chunk::<STAMP>() else {
            return false;
        };
        let age = now
            .as_nanos()
            .checked_sub(u64::from_be_bytes(*stamp))
            .map(Duration::from_nanos);
        let is_fresh = age.is_some_and(|age| age < LIFETIME);
        let expected = self.stamped(*stamp, client, random);
        is_fresh && expected.is_some_and(|expected| expected[..].ct_eq(&cookie[..]).into())
    }

    fn stamped(&self, stamp: [u8; STAMP], client: &FiveTuple, random: &[u8; 32]) -> Option<Cookie> {
        let mut data = Vec::with_capacity(STAMP + 32 + 2 * 19);
        data.extend(stamp);
        data.extend(random);
        append(&mut data, client.client);
        append(&mut data, client.server);
        let mut cookie = hmac_sha256(&self.key, &data)?;
        cookie[..STAMP].copy_from_slice(&stamp);
        Some(cookie)
    }
}

fn append(data: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(v4) => {
            data.push(4);
            data.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            data.push(6);
            data.extend(v6.octets());
        }
    }
    data.extend(address.port().to_be_bytes());
}

/// HMAC-SHA-256 of `data`.
fn hmac_sha256(key: &[u8], data: &[u8]) -> Option<[u8; 32]> {
    let usual = aws_lc_rs::default_provider().hmac_provider;
    usual.hmac_sha256(key, data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Transport;

    fn client(address: &str) -> FiveTuple {
        FiveTuple {
            transport: Transport::Dtls,
            client: address.parse().unwrap(),
            server: "198.51.100.1:3478".parse().unwrap(),
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_client_its_hello_and_its_time_only() {
        let cookies = Cookies::new([1; 32]);
        let start = Instant::ZERO + Duration::from_secs(5);
        let own = client("192.0.2.1:4000");
        let cookie = cookies.make(start, &own, &[7; 32]).unwrap();
        let valid = |at, who: &FiveTuple, random| cookies.is_valid(&cookie, at, who, &[random; 32]);
        assert!(valid(start, &own, 7));
        assert!(valid(start + Duration::from_secs(29), &own, 7));
        assert!(!valid(start + LIFETIME, &own, 7));
        assert!(!valid(Instant::ZERO, &own, 7), "made in the future");
        assert!(!valid(start, &own, 8));
        for other in ["192.0.2.1:4001", "192.0.2.2:4000", "[2001:db8::1]:4000"] {
            assert!(!valid(start, &client(other), 7), "{other}");
        }
        let mut elsewhere = own;
        elsewhere.server.set_port(5349);
        assert!(!valid(start, &elsewhere, 7));
        assert!(!Cookies::new([2; 32]).is_valid(&cookie, start, &own, &[7; 32]));
        for byte in 0..cookie.len() {
            let mut forged = cookie;
            forged[byte] ^= 1;
            assert!(!cookies.is_valid(&forged, start, &own, &[7; 32]), "{byte}");
        }
    }
}
