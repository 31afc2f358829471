//! How clients sign: as RFC 5389 has it, or with the algorithms and the hidden names of RFC 8489.

use sha2::{Digest, Sha256};
use turnstone::stun::{
    Algorithm, AttributeType, Class, MessageBuilder, Method, PasswordAlgorithm, TransactionId,
};
use turnstone::turn::StoredKey;

use super::request::Attributes;
use crate::common::{Login, REALM};
use crate::rng::Rng;

/// The PASSWORD-ALGORITHMS of the tested server.
const LIST: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];
const SHORTENED: &[u8] = &[0, 1, 0, 0];

/// What a client makes of RFC 8489.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The algorithm it chooses from the list; none for a client that has never heard of one.
    pub(super) choice: Option<PasswordAlgorithm>,
    /// It sends USERHASH in place of USERNAME.
    pub(super) hides_name: bool,
}

impl Dialect {
    pub(super) const RFC_5389: Self = Self {
        choice: None,
        hides_name: false,
    };

    pub(super) fn random(rng: &mut Rng) -> Self {
        let md5 = Some(PasswordAlgorithm::Md5);
        let sha256 = Some(PasswordAlgorithm::Sha256);
        Self {
            choice: rng.pick(&[None, None, md5, sha256, sha256]),
            hides_name: rng.chance(15),
        }
    }

    /// What its key is made with.
    pub(super) fn algorithm(self) -> PasswordAlgorithm {
        self.choice.unwrap_or(PasswordAlgorithm::Md5)
    }

    /// What the response to it is signed with.
    pub(super) fn response_integrity(self) -> Algorithm {
        match self.choice {
            Some(_) => Algorithm::Sha256,
            None => Algorithm::Sha1,
        }
    }

    pub(super) fn key(self, login: &Login) -> StoredKey {
        let Login {
            username,
            realm,
            password,
            ..
        } = login;
        StoredKey::derive(self.algorithm(), username, realm, password)
    }

    /// A request signed by `login`; one that `shortens` the list was tampered with on the way here.
    pub(super) fn sign(
        self,
        login: &Login,
        (id, method): (TransactionId, Method),
        attributes: &Attributes,
        nonce: &[u8],
        shortens: bool,
    ) -> Vec<u8> {
        let mut message = Vec::new();
        let mut builder = MessageBuilder::new(&mut message, Class::Request, method, id);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        match self.hides_name {
            true => builder.attribute(AttributeType::USERHASH, &hash(&login.username)),
            false => builder.attribute(AttributeType::USERNAME, login.username.as_bytes()),
        };
        builder
            .attribute(AttributeType::REALM, login.realm.as_bytes())
            .attribute(AttributeType::NONCE, nonce);
        if let Some(choice) = self.choice {
            let list = if shortens { SHORTENED } else { LIST };
            builder
                .attribute(AttributeType::PASSWORD_ALGORITHMS, list)
                .attribute(AttributeType::PASSWORD_ALGORITHM, &choice.entry());
        }
        builder.integrity(self.response_integrity(), self.key(login).as_bytes());
        message
    }
}

/// USERHASH of `username` (RFC 8489 §14.4).
fn hash(username: &str) -> [u8; 32] {
    Sha256::digest(format!("{username}:{REALM}")).into()
}
