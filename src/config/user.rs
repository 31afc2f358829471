//! Static users.

use std::fmt;

use crate::stun::PasswordAlgorithm;
use crate::turn::{StoredKey, opaque_string};

/// A user who stands in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// USERNAME, 1 to 508 bytes.
    pub name: String,
    /// What the user proves to know.
    pub login: Login,
}

/// What a user proves to know.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// The password itself.
    Password(String),
    /// Keys derived from name, realm and password, one for each algorithm that the user can choose
    /// (RFC 8489 §9.2.2); never empty.
    Keys(Vec<StoredKey>),
}

impl User {
    /// The keys that the user may sign with in `realm`.
    pub fn keys(&self, realm: &str) -> Vec<StoredKey> {
        let name = opaque_string(&self.name);
        match &self.login {
            Login::Password(password) => [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5]
                .map(|algorithm| StoredKey::derive(algorithm, &name, realm, password))
                .into(),
            Login::Keys(keys) => keys.clone(),
        }
    }

    /// Whether the user can sign with a key of `algorithm`.
    pub fn has(&self, algorithm: PasswordAlgorithm) -> bool {
        match &self.login {
            Login::Password(_) => true,
            Login::Keys(keys) => keys.iter().any(|key| key.algorithm() == algorithm),
        }
    }
}

impl fmt::Debug for User {
    /// The name only (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A user whose password may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainUser {
    /// USERNAME, 1 to 508 bytes.
    pub name: String,
    /// The password, never empty.
    pub password: String,
}

impl fmt::Debug for PlainUser {
    /// The name only (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainUser")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
