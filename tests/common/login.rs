//! Whom a client says it is.

use turnstone::stun::{
    Algorithm, AttributeType, Class, MessageBuilder, Method, PasswordAlgorithm, TransactionId,
};
use turnstone::turn::{SharedSecret, StoredKey};

use super::{PASSWORD, REALM, SECRET, USER};

/// What a client signs with.
#[derive(Clone, Debug)]
pub struct Login {
    pub username: String,
    pub realm: String,
    pub password: String,
    /// An access token, whose key is the password as it is.
    pub token: Option<Vec<u8>>,
}

impl Login {
    pub fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.into(),
            realm: REALM.into(),
            password: password.into(),
            token: None,
        }
    }

    /// The holder of `token`, sealed with the key `id`, and of its key.
    pub fn bearer(id: &str, token: Vec<u8>, mac_key: &str) -> Self {
        Self {
            token: Some(token),
            ..Self::new(id, mac_key)
        }
    }

    pub fn alice() -> Self {
        Self::new(USER, PASSWORD)
    }

    pub fn bob() -> Self {
        Self::new("bob", "builder")
    }

    /// A time-limited credential of `user` that ends at `expiry`.
    pub fn time_limited(user: &str, expiry: u64) -> Self {
        let username = format!("{expiry}:{user}");
        let password = SharedSecret::new(SECRET).password_for(&username);
        Self::new(&username, &password)
    }

    pub fn key(&self) -> StoredKey {
        StoredKey::derive(
            PasswordAlgorithm::Md5,
            &self.username,
            &self.realm,
            &self.password,
        )
    }

    pub fn sign(
        &self,
        transaction: TransactionId,
        method: Method,
        attributes: &[(AttributeType, Vec<u8>)],
        nonce: &[u8],
    ) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, transaction);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        builder
            .attribute(AttributeType::USERNAME, self.username.as_bytes())
            .attribute(AttributeType::REALM, self.realm.as_bytes())
            .attribute(AttributeType::NONCE, nonce);
        match &self.token {
            None => builder.integrity(Algorithm::Sha1, self.key().as_bytes()),
            Some(token) => {
                if [Method::ALLOCATE, Method::REFRESH].contains(&method) {
                    builder.attribute(AttributeType::ACCESS_TOKEN, token);
                }
                builder.integrity(Algorithm::Sha1, self.password.as_bytes())
            }
        };
        buffer
    }
}
