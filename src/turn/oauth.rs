//! Third-party authorization (RFC 7635): the keys of the authorization servers that we believe.

use super::access_token::{AccessToken, TokenError, TokenKey};
use super::keys::userhash;
use super::opaque::opaque_string;

/// What this server believes access tokens by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    server_name: Box<str>,
    keys: Vec<(Box<str>, TokenKey)>,
}

impl OAuth {
    /// The server `server_name`, as authorization servers know it, with the first of its keys.
    pub fn new(server_name: &str, id: &str, key: TokenKey) -> Self {
        Self {
            server_name: server_name.into(),
            keys: vec![(id.into(), key)],
        }
    }

    /// Adds another key; the first one of an id counts.
    pub fn add_key(&mut self, id: &str, key: TokenKey) {
        self.keys.push((id.into(), key));
    }

    /// The value of THIRD-PARTY-AUTHORIZATION (RFC 7635 §6.1).
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// The key ids in the order in which they were added.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(id, _)| &**id)
    }

    /// The key with this id.
    pub fn key(&self, id: &str) -> Option<&TokenKey> {
        let mut keys = self.keys.iter();
        keys.find(|(known, _)| **known == *id).map(|(_, key)| key)
    }

    /// The key id with this USERHASH in `realm`: a client hides the name it has, which is the key id.
    pub(super) fn id_of(&self, hash: &[u8; 32], realm: &str) -> Option<&str> {
        self.ids()
            .find(|id| userhash(&opaque_string(id), realm) == *hash)
    }

    /// What the ACCESS-TOKEN `sealed` says; none when the key `id` is unknown. That takes the time of a
    /// known one.
    pub(super) fn open(&self, id: &str, sealed: &[u8]) -> Option<Result<AccessToken, TokenError>> {
        let key = self.key(id);
        let (_, any) = self.keys.first()?;
        let opened = key.unwrap_or(any).open(sealed, &self.server_name);
        key.map(|_| opened)
    }
}
