//! Stateless nonces: a time stamp and a keyed hash over it and the client's address (S6, RFC 8489 §9.2).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::time::Instant;

/// Milliseconds in five bytes last 34 years.
const STAMP: usize = 5;
const HASH: usize = 13;

/// The nonce cookie of RFC 8489 §9.2: its fixed text and, in base64, 24 security features, none of
/// which is used.
const COOKIE: [u8; 13] = *b"obMatJos2AAAA";

/// Characters of a nonce.
pub(super) const LENGTH: usize = COOKIE.len() + (STAMP + HASH) / 3 * 4;

/// Makes nonces and recognises its own.
pub(super) struct Nonces {
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(..)")
    }
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { key }
    }

    /// The nonce of `client` at `now`; no other address and port gets the same.
    pub(super) fn make(&self, client: SocketAddr, now: Instant) -> [u8; LENGTH] {
        let stamp = stamp(now);
        let mut raw = [0; STAMP + HASH];
        raw[..STAMP].copy_from_slice(&stamp);
        raw[STAMP..].copy_from_slice(&self.hash(stamp, client));
        let mut text = [0; LENGTH];
        text[..COOKIE.len()].copy_from_slice(&COOKIE);
        let _ = BASE64_URL_SAFE_NO_PAD.encode_slice(raw, &mut text[COOKIE.len()..]);
        text
    }

    /// Whether `nonce` was made for `client` no longer than `lifetime` ago.
    pub(super) fn is_valid(
        &self,
        nonce: &[u8],
        client: SocketAddr,
        now: Instant,
        lifetime: Duration,
    ) -> bool {
        let mut raw = [0; STAMP + HASH];
        let Some(text) = nonce
            .strip_prefix(&COOKIE)
            .filter(|text| text.len() == LENGTH - COOKIE.len())
        else {
            return false;
        };
        if BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut raw).is_err() {
            return false;
        }
        let Some((stamp, hash)) = raw.split_first_chunk::<STAMP>() else {
            return false;
        };
        let age = millis(now).checked_sub(made_at(*stamp));
        let is_fresh = age.is_some_and(|age| u128::from(age) < lifetime.as_millis());
        is_fresh && bool::from(self.hash(*stamp, client).ct_eq(hash))
    }

    fn hash(&self, stamp: [u8; STAMP], client: SocketAddr) -> [u8; HASH] {
        let mut mac = self.key.clone();
        mac.update(&stamp);
        match client.ip() {
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            IpAddr::V6(v6) => mac.update(&v6.octets()),
        }
        mac.update(&client.port().to_be_bytes());
        let digest = mac.finalize().into_bytes();
        let mut hash = [0; HASH];
        hash.copy_from_slice(&digest[..HASH]);
        hash
    }
}

fn millis(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000
}

fn stamp(now: Instant) -> [u8; STAMP] {
    let [_, _, _, stamp @ ..] = millis(now).to_be_bytes();
    stamp
}

fn made_at(stamp: [u8; STAMP]) -> u64 {
    stamp
        .iter()
        .fold(0, |millis, byte| millis << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time_only() {
        let nonces = Nonces::new(&[1; 32]);
        let lifetime = Duration::from_secs(60);
        let client: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let start = Instant::ZERO + Duration::from_secs(1000);
        let nonce = nonces.make(client, start);
        let valid = |client, at| nonces.is_valid(&nonce, client, at, lifetime);
        assert!(valid(client, start));
        assert!(valid(client, start + Duration::from_secs(59)));
        assert!(!valid(client, start + Duration::from_secs(60)));
        assert!(!valid(client, Instant::ZERO), "made in the future");
        assert!(!valid("192.0.2.1:4001".parse().unwrap(), start));
        assert!(!valid("192.0.2.2:4000".parse().unwrap(), start));
        assert!(!Nonces::new(&[2; 32]).is_valid(&nonce, client, start, lifetime));
        assert!(nonce.starts_with(b"obMatJos2AAAA"));
        for place in 0..LENGTH {
            let mut forged = nonce;
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert!(
                !nonces.is_valid(&forged, client, start, lifetime),
                "character {place}"
            );
        }
        assert!(!nonces.is_valid(b"", client, start, lifetime));
    }
}
