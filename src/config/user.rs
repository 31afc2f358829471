//! Static users.

use std::fmt;

use crate::turn::StoredKey;

/// A user who stands in the configuration.
#[derive(Clone)]
pub struct User {
    /// USERNAME, 1 to 508 bytes.
    pub name: String,
    /// What the user proves to know.
    pub login: Login,
}

/// What a user proves to know.
#[derive(Clone)]
pub enum Login {
    /// The password itself.
    Password(String),
    /// The key derived from name, realm and password (RFC 8489 §9.2.2).
    Key(StoredKey),
}

impl User {
    /// The key that the user signs with in `realm`.
    pub fn key(&self, realm: &str) -> StoredKey {
        match &self.login {
            Login::Password(password) => StoredKey::derive(&self.name, realm, password),
            Login::Key(key) => key.clone(),
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
