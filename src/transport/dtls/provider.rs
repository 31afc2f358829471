//! The cryptography of sessions: the library's own, but for cookies and certificates.
//!
//! The library draws the key of its cookies for each session, so that a session would have to exist
//! before the client's address is proven. Here cookies are made and checked before there is one, and the
//! session is told to expect the one that its client returned. For certificates see [`chain`](super::chain).

use std::cell::Cell;
use std::sync::LazyLock;

use dimpl::CryptoError;
use dimpl::crypto::{
    Aad, Buf, Cipher, CryptoProvider, Dtls13CipherSuite, HashAlgorithm, HashContext, HashProvider,
    HmacProvider, Nonce, SupportedDtls13CipherSuite, TmpBuf, aws_lc_rs,
};

use super::chain::{Layout, mend_fragment, mend_transcript};
use super::cookie::Cookie;

thread_local! {
    static EXPECTED: Cell<Option<Cookie>> = const { Cell::new(None) };
}

/// The usual provider, with cookies from [`expecting`] and with chains of certificates.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        hmac_provider: &Cookies,
        hash_provider: &Transcripts,
        dtls13_cipher_suites: &SUITES,
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

#[derive(Debug)]
struct Cookies;

impl HmacProvider for Cookies {
    /// The library makes its cookies by this one, and everything else by [`hmac`](Self::hmac).
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        let usual = aws_lc_rs::default_provider().hmac_provider;
        match EXPECTED.get() {
            Some(cookie) => Ok(cookie),
            None => usual.hmac_sha256(key, data),
        }
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let usual = aws_lc_rs::default_provider().hmac_provider;
        usual.hmac(hash, key, data, out)
    }
}

/// The library hashes whole transcripts, and nothing else.
#[derive(Debug)]
struct Transcripts;

impl HashProvider for Transcripts {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let usual = aws_lc_rs::default_provider().hash_provider;
        Box::new(Transcript(usual.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct Transcript(Box<dyn HashContext>);

impl HashContext for Transcript {
    fn update(&mut self, data: &[u8]) {
        match mend_transcript(data) {
            Some(mended) => self.0.update(&mended),
            None => self.0.update(data),
        }
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

static SUITES: LazyLock<Vec<&'static dyn SupportedDtls13CipherSuite>> = LazyLock::new(|| {
    let suites = MENDING.iter();
    suites.map(|suite| suite as _).collect()
});

static MENDING: LazyLock<Vec<Suite>> = LazyLock::new(|| {
    let usual = aws_lc_rs::default_provider().dtls13_cipher_suites;
    usual.iter().copied().map(Suite).collect()
});

/// A suite of DTLS 1.3, which encrypts certificates.
#[derive(Debug)]
struct Suite(&'static dyn SupportedDtls13CipherSuite);

impl SupportedDtls13CipherSuite for Suite {
    fn suite(&self) -> Dtls13CipherSuite {
        self.0.suite()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn iv_len(&self) -> usize {
        self.0.iv_len()
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Ok(Box::new(Mending(self.0.create_cipher(key)?)))
    }

    fn encrypt_sn(&self, sn_key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        self.0.encrypt_sn(sn_key, sample)
    }
}

#[derive(Debug)]
struct Mending(Box<dyn Cipher>);

impl Cipher for Mending {
    /// Application data is STUN and ChannelData, which no one can take for a certificate.
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        mend_fragment(Layout::Dtls13, plaintext);
        self.0.encrypt(plaintext, aad, nonce)
    }

    fn decrypt(
        &mut self,
        ciphertext: &mut TmpBuf,
        aad: Aad,
        nonce: Nonce,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(ciphertext, aad, nonce)
    }
}
