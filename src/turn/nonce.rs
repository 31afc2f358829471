//! Stateless nonces: a time stamp and a keyed hash over it and the client's address (S6, RFC 8489 §9.2).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::security::COOKIE_LENGTH;
use crate::time::Instant;

/// Milliseconds in five bytes last 34 years.
const STAMP: usize = 5;
const HASH: usize = 13;
/// What the bytes of a stamp can hold.
const STAMPS: u64 = (1 << (8 * STAMP)) - 1;

/// Characters of a nonce.
const LENGTH: usize = COOKIE_LENGTH + (STAMP + HASH) / 3 * 4;

/// Makes nonces and recognises its own.
pub(super) struct Nonces {
    key: Hmac<Sha256>,
    /// The bytes that the key was made of.
    secret: [u8; 32],
    /// What is added to the time in milliseconds, so that the stamps of a process whose place this one took
    /// are of the same clock.
    ahead: u64,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(..)")
    }
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
            secret: *key,
            ahead: 0,
        }
    }

    /// The key, and what the clock of the stamps shows at `now`: all that makes nonces good elsewhere.
    pub(super) fn parts(&self, now: Instant) -> (&[u8; 32], u64) {
        (&self.secret, self.clock(now))
    }

    /// Goes on from the nonces of another process, whose clock shows `clock` milliseconds at `now`.
    pub(super) fn go_on(&mut self, key: &[u8; 32], clock: u64, now: Instant) {
        *self = Self {
            ahead: clock.wrapping_sub(millis(now)),
            ..Self::new(key)
        };
    }

    /// The nonce of `client` at `now`; no other address and port gets the same. It begins with `cookie`,
    /// which is protected by it (RFC 8489 §9.2.1).
    pub(super) fn make(
        &self,
        client: SocketAddr,
        now: Instant,
        cookie: [u8; COOKIE_LENGTH],
    ) -> [u8; LENGTH] {
        let mut raw = [0; STAMP + HASH];
        let (stamp, hash) = raw.split_at_mut(STAMP);
        stamp.copy_from_slice(&encode(self.clock(now)));
        hash.copy_from_slice(&self.hash(&cookie, stamp, client));
        let mut text = [0; LENGTH];
        text[..COOKIE_LENGTH].copy_from_slice(&cookie);
        let _ = BASE64_URL_SAFE_NO_PAD.encode_slice(raw, &mut text[COOKIE_LENGTH..]);
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
        let Some((cookie, text)) = nonce.split_at_checked(COOKIE_LENGTH) else {
            return false;
        };
        if nonce.len() != LENGTH || BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut raw).is_err() {
            return false;
        }
        let (stamp, hash) = raw.split_at(STAMP);
        // One of the future is very old.
        let age = self.clock(now).wrapping_sub(decode(stamp)) & STAMPS;
        let is_fresh = u128::from(age) < lifetime.as_millis();
        is_fresh && bool::from(self.hash(cookie, stamp, client).ct_eq(hash))
    }

    fn clock(&self, now: Instant) -> u64 {
        millis(now).wrapping_add(self.ahead) & STAMPS
    }

    fn hash(&self, cookie: &[u8], stamp: &[u8], client: SocketAddr) -> [u8; HASH] {
        let mut mac = self.key.clone();
        mac.update(cookie);
        mac.update(stamp);
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

fn encode(millis: u64) -> [u8; STAMP] {
    let [_, _, _, stamp @ ..] = millis.to_be_bytes();
    stamp
}

fn decode(stamp: &[u8]) -> u64 {
    stamp
        .iter()
        .fold(0, |millis, byte| millis << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: [u8; COOKIE_LENGTH] = *b"obMatJos2wAAA";

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time_only() {
        let nonces = Nonces::new(&[1; 32]);
        let lifetime = Duration::from_secs(60);
        let client: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let start = Instant::ZERO + Duration::from_secs(1000);
        let nonce = nonces.make(client, start, COOKIE);
        let valid = |client, at| nonces.is_valid(&nonce, client, at, lifetime);
        assert!(valid(client, start));
        assert!(valid(client, start + Duration::from_secs(59)));
        assert!(!valid(client, start + Duration::from_secs(60)));
        assert!(!valid(client, Instant::ZERO), "made in the future");
        assert!(!valid("192.0.2.1:4001".parse().unwrap(), start));
        assert!(!valid("192.0.2.2:4000".parse().unwrap(), start));
        assert!(!Nonces::new(&[2; 32]).is_valid(&nonce, client, start, lifetime));
        assert!(!nonces.is_valid(b"", client, start, lifetime));
    }

    #[test]
    fn nonces_go_on_in_another_process() {
        let mut nonces = Nonces::new(&[1; 32]);
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        let client: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let mut now = Instant::ZERO + 1000 * second;
        let nonce = nonces.make(client, now, COOKIE);
        for zero in [5, 7000] {
            let (key, clock) = nonces.parts(now);
            let mut next = Nonces::new(&[2; 32]);
            let there = Instant::ZERO + zero * second;
            next.go_on(key, clock, there);
            assert!(next.is_valid(&nonce, client, there, minute));
            (nonces, now) = (next, there + 20 * second);
        }
        assert!(nonces.is_valid(&nonce, client, now, minute));
        assert!(!nonces.is_valid(&nonce, client, now + 20 * second, minute));
    }

    #[test]
    fn no_character_of_a_nonce_can_be_changed() {
        let nonces = Nonces::new(&[1; 32]);
        let client: SocketAddr = "[2001:db8::1]:4000".parse().unwrap();
        let is_valid =
            |nonce: &[u8]| nonces.is_valid(nonce, client, Instant::ZERO, Duration::from_secs(1));
        let nonce = nonces.make(client, Instant::ZERO, COOKIE);
        assert!(nonce.starts_with(&COOKIE) && is_valid(&nonce));
        for place in 0..LENGTH {
            let mut forged = nonce;
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert!(!is_valid(&forged), "character {place}");
        }
        assert!(!is_valid(&nonce[COOKIE_LENGTH..]), "the cookie is gone");
    }
}
