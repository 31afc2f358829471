//! The cryptography of sessions, with cookies of ours instead of the library's.
//!
//! The library draws the key of its cookies for each session, so that a session would have to exist
//! before the client's address is proven. Here cookies are made and checked before there is one, and the
//! session is told to expect the one that its client returned.

use std::cell::Cell;

use dimpl::CryptoError;
use dimpl::crypto::{CryptoProvider, HashAlgorithm, HmacProvider, aws_lc_rs};

use super::cookie::Cookie;

thread_local! {
    static EXPECTED: Cell<Option<Cookie>> = const { Cell::new(None) };
}

/// The usual provider, with cookies from [`expecting`].
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        hmac_provider: &COOKIES,
        ..aws_lc_rs::default_provider()
    }
}

/// Runs `work` on a session that takes `cookie` for its own.
pub(super) fn expecting<T>(cookie: Cookie, work: impl FnOnce() -> T) -> T {
    let _expectation = Expectation::new(cookie);
    work()
}

/// Ends with its scope, however that is left.
struct Expectation;

impl Expectation {
    fn new(cookie: Cookie) -> Self {
        EXPECTED.set(Some(cookie));
        Self
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        EXPECTED.set(None);
    }
}

/// HMAC-SHA-256 of `data`.
pub(super) fn hmac_sha256(key: &[u8], data: &[u8]) -> Option<[u8; 32]> {
    usual().hmac_sha256(key, data).ok()
}

fn usual() -> &'static dyn HmacProvider {
    aws_lc_rs::default_provider().hmac_provider
}

#[derive(Debug)]
struct Cookies;

static COOKIES: Cookies = Cookies;

impl HmacProvider for Cookies {
    /// The library makes its cookies by this one, and everything else by [`hmac`](Self::hmac).
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        match EXPECTED.get() {
            Some(cookie) => Ok(cookie),
            None => usual().hmac_sha256(key, data),
        }
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        usual().hmac(hash, key, data, out)
    }
}
