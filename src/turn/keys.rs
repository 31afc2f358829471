//! Long-term credentials: who may allocate, and the keys they sign with (RFC 8489 §9.2).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

use crate::time::UnixTime;

/// MD5(username ":" realm ":" password), the key of the long-term mechanism (RFC 8489 §9.2.2).
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey([u8; 16]);

impl StoredKey {
    /// The key of `username` in `realm` with `password`.
    pub fn derive(username: &str, realm: &str, password: &str) -> Self {
        let mut digest = Md5::new();
        for part in [username, ":", realm, ":", password] {
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    /// The key written as 32 hexadecimal digits, with `0x` before them or without; none for any
    /// other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let mut key = [0; 16];
        let pairs = digits.chunks_exact(2);
        if digits.len() != 32 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(pairs) {
            let digit = |place: usize| char::from(pair[place]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(key))
    }

    /// 32 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key of MESSAGE-INTEGRITY.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredKey(..)")
    }
}

/// A secret shared with the application server, for time-limited credentials (TURN REST).
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(Box<[u8]>);

impl SharedSecret {
    /// The secret whose bytes are the UTF-8 of `secret`.
    pub fn new(secret: &str) -> Self {
        Self(secret.as_bytes().into())
    }

    /// The password of the time-limited `username`: base64(HMAC-SHA1(secret, username)).
    pub fn password_for(&self, username: &str) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// When the time-limited `username` (`expiry` or `expiry:user`) expires; none for other names.
pub fn expiry_of(username: &str) -> Option<UnixTime> {
    let digits = username
        .split_once(':')
        .map_or(username, |(expiry, _)| expiry);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        digits.parse().ok().map(UnixTime)
    } else {
        None
    }
}

/// Whom a quota counts: the user behind the time stamp of a time-limited name.
pub(super) fn person_of(username: &str) -> &str {
    match username.split_once(':') {
        Some((_, user)) if expiry_of(username).is_some() && !user.is_empty() => user,
        _ => username,
    }
}

/// Who may allocate: static users and shared secrets, both at once.
#[derive(Default)]
pub struct Credentials {
    users: BTreeMap<Box<str>, StoredKey>,
    secrets: Vec<SharedSecret>,
}

impl Credentials {
    /// Adds or replaces a static user.
    pub fn add_user(&mut self, username: &str, key: StoredKey) {
        self.users.insert(username.into(), key);
    }

    /// Adds a shared secret; they are tried in the order in which they were added.
    pub fn add_secret(&mut self, secret: SharedSecret) {
        self.secrets.push(secret);
    }

    /// Whether `key` is one that `username` may sign with in `realm` still.
    pub(super) fn hold(&self, username: &str, realm: &str, key: &StoredKey) -> bool {
        self.keys(username, realm).any(|(known, _)| known == *key)
    }

    /// Every key that `username` may sign with in `realm`: a static user's one, or one per secret.
    pub(super) fn keys<'a>(
        &'a self,
        username: &'a str,
        realm: &'a str,
    ) -> impl Iterator<Item = (StoredKey, Option<UnixTime>)> + 'a {
        let user = self.users.get(username);
        let expiry = if user.is_none() {
            expiry_of(username)
        } else {
            None
        };
        let secrets: &[SharedSecret] = if expiry.is_some() { &self.secrets } else { &[] };
        let limited = secrets.iter().map(move |secret| {
            let password = secret.password_for(username);
            (StoredKey::derive(username, realm, &password), expiry)
        });
        user.cloned()
            .map(|key| (key, None))
            .into_iter()
            .chain(limited)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Credentials({} users, {} secrets)",
            self.users.len(),
            self.secrets.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_key_of_rfc_5769_section_2_4() {
        let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
        let key = StoredKey::derive(user, "example.org", "TheMatrIX");
        assert_eq!(key.to_hex(), "e8ca7ad59d5eb0518e312911d2dab2a9");
        assert_eq!(StoredKey::from_hex(&key.to_hex()), Some(key));
    }

    #[test]
    fn reads_keys_in_hexadecimal() {
        let key = StoredKey([0xAB; 16]);
        assert_eq!(StoredKey::from_hex(&"ab".repeat(16)), Some(key.clone()));
        assert_eq!(
            StoredKey::from_hex(&format!("0x{}", "AB".repeat(16))),
            Some(key)
        );
        for wrong in [
            "",
            "ab",
            &"ag".repeat(16),
            &"ab".repeat(17),
            &"é".repeat(16),
        ] {
            assert_eq!(StoredKey::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn time_limited_passwords_are_those_of_the_draft() {
        // printf '1700000000:alice' | openssl dgst -sha1 -hmac north -binary | base64
        let password = SharedSecret::new("north").password_for("1700000000:alice");
        assert_eq!(password, "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
    }

    #[test]
    fn names_tell_their_expiry_and_person() {
        assert_eq!(expiry_of("1700000000:alice"), Some(UnixTime(1_700_000_000)));
        assert_eq!(expiry_of("1700000000"), Some(UnixTime(1_700_000_000)));
        for other in [
            "alice",
            "",
            ":alice",
            "+1:alice",
            "17a:alice",
            "99999999999999999999:a",
        ] {
            assert_eq!(expiry_of(other), None, "{other}");
        }
        assert_eq!(person_of("1700000000:alice"), "alice");
        assert_eq!(person_of("1700000000:"), "1700000000:");
        assert_eq!(person_of("alice:1"), "alice:1");
    }

    #[test]
    fn secrets_never_show() {
        let mut credentials = Credentials::default();
        credentials.add_user("alice", StoredKey::derive("alice", "r", "hunter2"));
        credentials.add_secret(SharedSecret::new("north"));
        assert_eq!(
            format!("{credentials:?}"),
            "Credentials(1 users, 1 secrets)"
        );
        assert_eq!(
            format!("{:?}", SharedSecret::new("north")),
            "SharedSecret(..)"
        );
    }
}
