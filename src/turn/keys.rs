//! Long-term credentials: who may allocate, and the keys they sign with (RFC 8489 §9.2).

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use foldhash::fast::FixedState;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use super::opaque::opaque_string;
use crate::stun::PasswordAlgorithm;
use crate::time::UnixTime;

/// The key that a user signs with in one realm (RFC 8489 §9.2.2, §18.5.1).
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    algorithm: PasswordAlgorithm,
    bytes: [u8; 32],
}

impl StoredKey {
    /// Hash(username ":" OpaqueString(realm) ":" OpaqueString(password)).
    pub fn derive(
        algorithm: PasswordAlgorithm,
        username: &str,
        realm: &str,
        password: &str,
    ) -> Self {
        let (realm, password) = (opaque_string(realm), opaque_string(password));
        let parts = [username, ":", &realm, ":", &password];
        match algorithm {
            PasswordAlgorithm::Md5 => Self::new(algorithm, &hash::<Md5>(&parts)),
            PasswordAlgorithm::Sha256 => Self::new(algorithm, &hash::<Sha256>(&parts)),
        }
    }

    /// The key written in hexadecimal, with `0x` before it or without: 32 digits for MD5, 64 for
    /// SHA-256; none for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let algorithm = match digits.len() {
            32 => PasswordAlgorithm::Md5,
            64 => PasswordAlgorithm::Sha256,
            _ => return None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |place: usize| char::from(pair[place]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self { algorithm, bytes })
    }

    /// The key whose bytes these are: 16 of MD5, 32 of SHA-256; none for any other number.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let algorithm = match bytes.len() {
            16 => PasswordAlgorithm::Md5,
            32 => PasswordAlgorithm::Sha256,
            _ => return None,
        };
        Some(Self::new(algorithm, bytes))
    }

    /// Lower-case hexadecimal digits, as [`from_hex`](Self::from_hex) reads them.
    pub fn to_hex(&self) -> String {
        self.as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What it was made with.
    pub fn algorithm(&self) -> PasswordAlgorithm {
        self.algorithm
    }

    /// The key of a message integrity.
    pub fn as_bytes(&self) -> &[u8] {
        match self.algorithm {
            PasswordAlgorithm::Md5 => &self.bytes[..16],
            PasswordAlgorithm::Sha256 => &self.bytes,
        }
    }

    fn new(algorithm: PasswordAlgorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes[..digest.len()].copy_from_slice(digest);
        Self { algorithm, bytes }
    }
}

fn hash<D: Digest>(parts: &[&str]) -> Vec<u8> {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().to_vec()
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredKey({:?}, ..)", self.algorithm)
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

/// Who may allocate in one realm: static users and shared secrets, both at once.
#[derive(Default)]
pub struct Credentials {
    realm: Box<str>,
    users: BTreeMap<Box<str>, Vec<StoredKey>>,
    /// USERHASH of each static user (RFC 8489 §14.4).
    hashes: HashMap<[u8; 32], Box<str>, FixedState>,
    secrets: Vec<SharedSecret>,
}

/// A key that a user may sign with.
pub(super) struct Candidate {
    pub(super) key: StoredKey,
    /// When the credential ends, if it is time-limited.
    pub(super) expires: Option<UnixTime>,
}

impl Credentials {
    /// Nobody yet, in `realm`.
    pub fn new(realm: &str) -> Self {
        Self {
            realm: realm.into(),
            ..Self::default()
        }
    }

    /// Adds a key of a static user: one for each password algorithm that the user may choose.
    pub fn add_user(&mut self, username: &str, key: StoredKey) {
        let name: Box<str> = opaque_string(username).into();
        self.hashes
            .insert(userhash(&name, &self.realm), name.clone());
        let keys = self.users.entry(name).or_default();
        keys.retain(|other| other.algorithm != key.algorithm);
        keys.push(key);
    }

    /// Adds a shared secret; they are tried in the order in which they were added.
    pub fn add_secret(&mut self, secret: SharedSecret) {
        self.secrets.push(secret);
    }

    /// Whether every static user has a key of `algorithm`; with none else, the others cannot choose it.
    pub fn all_users_have(&self, algorithm: PasswordAlgorithm) -> bool {
        let has = |keys: &Vec<StoredKey>| keys.iter().any(|key| key.algorithm == algorithm);
        self.users.values().all(has)
    }

    /// Whether every user can be found by USERHASH: names made of a shared secret cannot.
    pub fn all_users_have_hashes(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Whether `key` is one that `username` may sign with still.
    pub(super) fn hold(&self, username: &str, key: &StoredKey) -> bool {
        self.candidates(username, key.algorithm)
            .any(|candidate| candidate.key == *key)
    }

    /// The static user with this USERHASH.
    pub(super) fn user_of(&self, hash: &[u8; 32]) -> Option<&str> {
        self.hashes.get(hash).map(|name| &**name)
    }

    /// Every key made with `algorithm` that `username` may sign with: a static user's one, or one per
    /// secret.
    pub(super) fn candidates(
        &self,
        username: &str,
        algorithm: PasswordAlgorithm,
    ) -> impl Iterator<Item = Candidate> {
        let user = self.users.get(&*opaque_string(username));
        let own = user.and_then(|keys| keys.iter().find(|key| key.algorithm == algorithm));
        let expires = if user.is_none() {
            expiry_of(username)
        } else {
            None
        };
        let secrets: &[SharedSecret] = if expires.is_some() {
            &self.secrets
        } else {
            &[]
        };
        let limited = secrets.iter().map(move |secret| {
            let password = secret.password_for(username);
            let key = StoredKey::derive(algorithm, username, &self.realm, &password);
            Candidate { key, expires }
        });
        let own = own.map(|key| Candidate {
            key: key.clone(),
            expires: None,
        });
        own.into_iter().chain(limited)
    }
}

/// SHA-256(OpaqueString(username) ":" OpaqueString(realm)), of a name that was prepared already.
pub(super) fn userhash(name: &str, realm: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [name, ":", &opaque_string(realm)] {
        digest.update(part);
    }
    digest.finalize().into()
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
    use PasswordAlgorithm::{Md5, Sha256};

    #[test]
    fn derives_the_key_of_rfc_5769_section_2_4() {
        let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
        let key = StoredKey::derive(Md5, user, "example.org", "TheMatrIX");
        assert_eq!(key.to_hex(), "e8ca7ad59d5eb0518e312911d2dab2a9");
        assert_eq!(StoredKey::from_hex(&key.to_hex()), Some(key));
    }

    #[test]
    fn derives_the_key_of_rfc_8489_section_9_2_2() {
        let key = StoredKey::derive(Md5, "user", "realm", "pass");
        assert_eq!(key.to_hex(), "8493fbc53ba582fb4c044c456bdc40eb");
    }

    #[test]
    fn users_are_found_by_the_hash_of_rfc_8489_appendix_b() {
        let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
        let mut credentials = Credentials::new("example.org");
        credentials.add_user(
            user,
            StoredKey::derive(Sha256, user, "example.org", "TheMatrIX"),
        );
        let hash = userhash(user, "example.org");
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
        );
        assert_eq!(credentials.user_of(&hash), Some(user));
        assert_eq!(credentials.user_of(&[0; 32]), None);
        assert!(credentials.all_users_have(Sha256) && !credentials.all_users_have(Md5));
    }

    #[test]
    fn reads_keys_in_hexadecimal() {
        let key = StoredKey::new(Md5, &[0xAB; 16]);
        assert_eq!(StoredKey::from_hex(&"ab".repeat(16)), Some(key.clone()));
        assert_eq!(
            StoredKey::from_hex(&format!("0x{}", "AB".repeat(16))),
            Some(key)
        );
        let key = StoredKey::new(Sha256, &[0xAB; 32]);
        assert_eq!(StoredKey::from_hex(&key.to_hex()), Some(key));
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
        credentials.add_user("alice", StoredKey::derive(Md5, "alice", "r", "hunter2"));
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
