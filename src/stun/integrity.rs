//! MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 §14.5, §14.6, §14.7).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::attribute::AttributeType;

/// The hash under a message integrity attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MESSAGE-INTEGRITY: HMAC-SHA1, 20 bytes.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256: HMAC-SHA256, 16 to 32 bytes in steps of four.
    Sha256,
}

/// Why the integrity of a message is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityError {
    /// The message carries no such attribute.
    Missing,
    /// The attribute was made with another key, or the message was changed.
    Mismatch,
}

/// The longest message integrity, in bytes.
pub(super) const MAX_LENGTH: usize = 32;

impl Algorithm {
    /// The attribute that carries it.
    pub const fn attribute(self) -> AttributeType {
        match self {
            Self::Sha1 => AttributeType::MESSAGE_INTEGRITY,
            Self::Sha256 => AttributeType::MESSAGE_INTEGRITY_SHA256,
        }
    }

    /// Bytes of an attribute value that is not truncated.
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Whether an attribute value may be `length` bytes long.
    pub(super) const fn accepts(self, length: usize) -> bool {
        match self {
            Self::Sha1 => length == 20,
            Self::Sha256 => length >= 16 && length <= 32 && length.is_multiple_of(4),
        }
    }

    /// The HMAC over the parts of a message; the first [`length`](Self::length) bytes count.
    pub(super) fn digest(self, key: &[u8], parts: &[&[u8]]) -> [u8; MAX_LENGTH] {
        match self {
            Self::Sha1 => hmac::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, parts),
        }
    }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> [u8; MAX_LENGTH] {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    let output = mac.finalize().into_bytes();
    let mut digest = [0; MAX_LENGTH];
    digest[..output.len()].copy_from_slice(&output);
    digest
}

/// Compares in time that does not depend on the bytes.
pub(super) fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The FINGERPRINT of the message whose bytes before the attribute are `head` (RFC 8489 §14.7).
pub(super) fn fingerprint(head: &[u8]) -> u32 {
    crc32fast::hash(head) ^ 0x5354_554E
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 2202 and RFC 4231, test case 2.
    #[test]
    fn digests_are_those_of_the_standards_however_the_parts_are_cut() {
        let parts: &[&[u8]] = &[b"what do ya want ", b"", b"for nothing?"];
        let sha1 = Algorithm::Sha1.digest(b"Jefe", parts);
        assert_eq!(hex(&sha1[..20]), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let sha256 = Algorithm::Sha256.digest(b"Jefe", parts);
        assert_eq!(
            hex(&sha256),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn equal_means_equal_in_length_too() {
        assert!(equal(b"", b"") && equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd") && !equal(b"abc", b"ab") && !equal(b"", b"a"));
    }

    /// ITU V.42's check value, XORed as RFC 8489 §14.7 says.
    #[test]
    fn fingerprint_is_the_crc_of_v42() {
        assert_eq!(fingerprint(b"123456789"), 0xCBF4_3926 ^ 0x5354_554E);
    }
}
