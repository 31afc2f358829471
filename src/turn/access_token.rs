//! Self-contained access tokens (RFC 7635 §6.2): what the authorization server seals and we open.

use std::fmt;
use std::time::Duration;

use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::time::UnixTime;

/// Bytes of the nonce of AES-GCM (RFC 5116 §5.1).
pub const TOKEN_NONCE: usize = 12;
/// Bytes of its authentication tag.
const TAG: usize = 16;
/// The longest `mac_key` in bytes: a block of SHA-512, the longest that an HMAC takes as it is.
const MAX_MAC_KEY: usize = 128;
/// Bytes of what is sealed beside the `mac_key`: its length, timestamp and lifetime.
const FIXED: usize = 2 + 8 + 4;
/// How far the clocks of the authorization server and ours may be apart, in seconds (RFC 7635 §7).
const ALLOWANCE: u64 = 5;
/// Standard base64; padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, ANY_PADDING);
const ANY_PADDING: GeneralPurposeConfig =
    PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The key of a message integrity, as it is.
#[derive(Clone)]
pub struct MacKey(Box<[u8]>);

impl MacKey {
    /// The key whose bytes these are.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for MacKey {
    /// In time that does not depend on the bytes: one of the two may be somebody else's.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for MacKey {}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    mac_key: MacKey,
    /// When it was issued: 48 bits of seconds since 1970 and 16 bits of 1/64000 s.
    timestamp: u64,
    /// Seconds.
    lifetime: u32,
}

/// Why a token cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Its lengths do not fit one another.
    Malformed,
    /// It was sealed with another key or for another server, or changed on the way.
    NotAuthentic,
}

impl AccessToken {
    /// A token issued at the second `issued` for `lifetime` seconds; none unless `mac_key` has 1 to
    /// 128 bytes.
    pub fn new(mac_key: &[u8], issued: UnixTime, lifetime: u32) -> Option<Self> {
        let is_long_enough = (1..=MAX_MAC_KEY).contains(&mac_key.len());
        is_long_enough.then(|| Self {
            mac_key: MacKey::new(mac_key),
            timestamp: issued.0 << 16,
            lifetime,
        })
    }

    /// What requests and responses are signed with.
    pub fn mac_key(&self) -> &MacKey {
        &self.mac_key
    }

    /// When it was issued.
    pub fn issued(&self) -> UnixTime {
        UnixTime(self.timestamp >> 16)
    }

    /// How long it is good from then on.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime.into())
    }

    /// How long it is still good at `now`, at most its lifetime; none when it has run out. Clocks may
    /// be five seconds apart: who comes so late gets what is left of them.
    pub fn remaining(&self, now: UnixTime) -> Option<Duration> {
        let (issued, lifetime) = (self.issued().0, u64::from(self.lifetime));
        if lifetime == 0 || now.0.abs_diff(issued) >= lifetime + ALLOWANCE {
            return None;
        }
        let end = issued + lifetime;
        let left = match end.saturating_sub(now.0) {
            0 => end + ALLOWANCE - now.0,
            left => left,
        };
        Some(Duration::from_secs(left.min(lifetime)))
    }

    /// What is sealed.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mac_key = self.mac_key.as_bytes();
        let mut plain = Vec::with_capacity(FIXED + mac_key.len());
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_MAC_KEY")]
        let length = mac_key.len() as u16;
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(mac_key);
        plain.extend_from_slice(&self.timestamp.to_be_bytes());
        plain.extend_from_slice(&self.lifetime.to_be_bytes());
        plain
    }

    /// What [`encode`](Self::encode) wrote.
    pub(super) fn decode(plain: &[u8]) -> Option<Self> {
        let (length, rest) = plain.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (mac_key, rest) = rest.split_at_checked(length)?;
        let (timestamp, rest) = rest.split_first_chunk()?;
        let lifetime: [u8; 4] = rest.try_into().ok()?;
        (!mac_key.is_empty()).then(|| Self {
            mac_key: MacKey::new(mac_key),
            timestamp: u64::from_be_bytes(*timestamp),
            lifetime: u32::from_be_bytes(lifetime),
        })
    }
}

/// How tokens are sealed (RFC 7635 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// AEAD_AES_256_GCM.
    A256Gcm,
    /// AEAD_AES_128_GCM.
    A128Gcm,
}

impl TokenAlgorithm {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::A256Gcm, Self::A128Gcm];

    /// What the RFC calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A256Gcm => "A256GCM",
            Self::A128Gcm => "A128GCM",
        }
    }

    /// Bytes of its key.
    pub const fn key_length(self) -> usize {
        match self {
            Self::A256Gcm => 32,
            Self::A128Gcm => 16,
        }
    }
}

/// The long-term key that an authorization server shares with us, ready for use.
#[derive(Clone)]
pub struct TokenKey {
    cipher: Cipher,
    /// SHA-256 of the bytes: ciphers cannot be compared.
    digest: [u8; 32],
}

#[derive(Clone)]
enum Cipher {
    A256Gcm(Box<Aes256Gcm>),
    A128Gcm(Box<Aes128Gcm>),
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It is not base64.
    NotBase64,
    /// It has this many bytes, which are not those of the algorithm.
    Length(usize),
}

impl TokenKey {
    /// The key whose bytes `text` is in base64.
    ///
    /// # Errors
    /// It is not base64, or the bytes are not as many as `algorithm` takes.
    pub fn from_base64(algorithm: TokenAlgorithm, text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64.decode(text).map_err(|_| KeyError::NotBase64)?;
        Self::new(algorithm, &bytes).ok_or(KeyError::Length(bytes.len()))
    }

    /// The key of these bytes; none unless they are as many as `algorithm` takes.
    pub fn new(algorithm: TokenAlgorithm, bytes: &[u8]) -> Option<Self> {
        let cipher = match algorithm {
            TokenAlgorithm::A256Gcm => {
                Cipher::A256Gcm(Box::new(Aes256Gcm::new_from_slice(bytes).ok()?))
            }
            TokenAlgorithm::A128Gcm => {
                Cipher::A128Gcm(Box::new(Aes128Gcm::new_from_slice(bytes).ok()?))
            }
        };
        let digest = Sha256::digest(bytes).into();
        Some(Self { cipher, digest })
    }

    /// The value of an ACCESS-TOKEN that the server `name` can open; none when a part is too long for
    /// AES-GCM. A `nonce` may never be used again with the same key.
    pub fn seal(
        &self,
        token: &AccessToken,
        nonce: &[u8; TOKEN_NONCE],
        name: &str,
    ) -> Option<Vec<u8>> {
        let mut text = token.encode();
        let tag = match &self.cipher {
            Cipher::A256Gcm(cipher) => seal(&**cipher, nonce, name, &mut text)?,
            Cipher::A128Gcm(cipher) => seal(&**cipher, nonce, name, &mut text)?,
        };
        let mut sealed = vec![0, 12];
        sealed.extend_from_slice(nonce);
        sealed.append(&mut text);
        sealed.extend_from_slice(&tag);
        Some(sealed)
    }

    /// What the ACCESS-TOKEN `sealed` says to the server `name`.
    ///
    /// # Errors
    /// It is malformed, or not authentic.
    pub fn open(&self, sealed: &[u8], name: &str) -> Result<AccessToken, TokenError> {
        let (nonce, text, tag) = parts(sealed).ok_or(TokenError::Malformed)?;
        let mut buffer = [0; FIXED + MAX_MAC_KEY];
        let plain = buffer.get_mut(..text.len()).ok_or(TokenError::Malformed)?;
        plain.copy_from_slice(text);
        let is_authentic = match &self.cipher {
            Cipher::A256Gcm(cipher) => open(&**cipher, nonce, name, plain, tag),
            Cipher::A128Gcm(cipher) => open(&**cipher, nonce, name, plain, tag),
        };
        if !is_authentic {
            return Err(TokenError::NotAuthentic);
        }
        AccessToken::decode(plain).ok_or(TokenError::Malformed)
    }
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TokenKey {}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cipher {
            Cipher::A256Gcm(_) => f.write_str("TokenKey(A256GCM, ..)"),
            Cipher::A128Gcm(_) => f.write_str("TokenKey(A128GCM, ..)"),
        }
    }
}

/// Nonce, ciphertext and tag of a token; none when it is too short for them, or the nonce has another
/// length than AES-GCM takes.
fn parts(sealed: &[u8]) -> Option<(&[u8; TOKEN_NONCE], &[u8], &[u8; TAG])> {
    let (length, rest) = sealed.split_first_chunk()?;
    if usize::from(u16::from_be_bytes(*length)) != TOKEN_NONCE {
        return None;
    }
    let (nonce, rest) = rest.split_first_chunk()?;
    let (text, tag) = rest.split_last_chunk()?;
    Some((nonce, text, tag))
}

/// Encrypts `text` in place; the tag.
fn seal<C: AeadInOut>(
    cipher: &C,
    nonce: &[u8; TOKEN_NONCE],
    name: &str,
    text: &mut [u8],
) -> Option<Tag<C>> {
    let nonce: Nonce<C> = nonce.as_slice().try_into().ok()?;
    let sealed = cipher.encrypt_inout_detached(&nonce, name.as_bytes(), text.into());
    sealed.ok()
}

/// Decrypts `text` in place, unless it is not authentic.
fn open<C: AeadInOut>(
    cipher: &C,
    nonce: &[u8; TOKEN_NONCE],
    name: &str,
    text: &mut [u8],
    tag: &[u8; TAG],
) -> bool {
    let nonce = Nonce::<C>::try_from(nonce.as_slice());
    let tag = Tag::<C>::try_from(tag.as_slice());
    let (Ok(nonce), Ok(tag)) = (nonce, tag) else {
        return false;
    };
    let opened = cipher.decrypt_inout_detached(&nonce, name.as_bytes(), text.into(), &tag);
    opened.is_ok()
}
