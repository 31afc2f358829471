//! Who makes an allocation, as requests prove it.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::access_token::{AccessToken, MacKey};
use super::keys::{StoredKey, person_of};
use super::policy::Policy;
use crate::time::{Now, UnixTime};

/// Who signed a request.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// USERNAME; beside an access token, the id of the key that sealed it.
    pub(super) username: Box<str>,
    pub(super) proof: Proof,
}

/// What the owner proved to have.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    /// The password of a user, in the shape of a key.
    Password {
        key: StoredKey,
        /// When a time-limited credential ends; the allocation is not refreshed after it (S12).
        expires: Option<UnixTime>,
    },
    /// An access token (RFC 7635); the allocation never outlives it.
    Token(AccessToken),
}

/// Whom a quota counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Person {
    /// A user by name, without the time stamp of a time-limited one.
    User(Box<str>),
    /// The session of an access token, by the SHA-256 of its `mac_key`. Tokens name no user, and all
    /// that were sealed with one key share its id.
    Session(Box<[u8; 32]>),
}

impl Owner {
    /// The key of message integrities.
    pub(super) fn mac_key(&self) -> MacKey {
        MacKey::new(self.mac_key_bytes())
    }

    /// The bytes of the key of message integrities.
    pub(super) fn mac_key_bytes(&self) -> &[u8] {
        match &self.proof {
            Proof::Password { key, .. } => key.as_bytes(),
            Proof::Token(token) => token.mac_key().as_bytes(),
        }
    }

    pub(super) fn has_token(&self) -> bool {
        matches!(self.proof, Proof::Token(_))
    }

    /// Whether both are the same user, or the same session of an access token: that two tokens were
    /// sealed with one key does not make them one user's.
    pub(super) fn is(&self, other: &Self) -> bool {
        let is_same = match (&self.proof, &other.proof) {
            (Proof::Password { .. }, Proof::Password { .. }) => true,
            (Proof::Token(one), Proof::Token(other)) => one.mac_key() == other.mac_key(),
            (Proof::Password { .. }, Proof::Token(_))
            | (Proof::Token(_), Proof::Password { .. }) => false,
        };
        is_same && self.username == other.username
    }

    /// Whether `other` may refresh what this one made. A client refreshes with its next token, whose
    /// key is another and may have another id (RFC 7635 §9). Nothing ties it to the one before but the
    /// five-tuple, which the nonce proves.
    pub(super) fn may_be_renewed_by(&self, other: &Self) -> bool {
        self.is(other) || (self.has_token() && other.has_token())
    }

    /// Whether the credential was good for a time that has passed (S12).
    pub(super) fn has_expired(&self, now: Now) -> bool {
        match &self.proof {
            Proof::Password { expires, .. } => expires.is_some_and(|expires| expires <= now.unix),
            Proof::Token(token) => token.remaining(now.unix).is_none(),
        }
    }

    /// Whether `policy` still knows the key that the proof rests on.
    pub(super) fn is_known_to(&self, policy: &Policy) -> bool {
        match &self.proof {
            Proof::Password { key, .. } => policy.credentials.hold(&self.username, key),
            Proof::Token(_) => {
                let oauth = policy.oauth.as_ref();
                oauth.is_some_and(|oauth| oauth.key(&self.username).is_some())
            }
        }
    }

    /// `lifetime`, or the time that the access token has left if that is less (RFC 7635 §9).
    pub(super) fn bounded(&self, lifetime: Duration, now: Now) -> Duration {
        match &self.proof {
            Proof::Password { .. } => lifetime,
            Proof::Token(token) => {
                let left = token.remaining(now.unix);
                lifetime.min(left.unwrap_or_default())
            }
        }
    }

    /// Whom a quota counts.
    pub(super) fn person(&self) -> Person {
        match &self.proof {
            Proof::Password { .. } => Person::User(person_of(&self.username).into()),
            Proof::Token(token) => {
                let digest = Sha256::digest(token.mac_key().as_bytes());
                Person::Session(Box::new(digest.into()))
            }
        }
    }
}
