//! Access tokens (RFC 7635) and the keys that seal them.

use turnstone::time::UnixTime;
use turnstone::turn::{AccessToken, OAuth, TokenAlgorithm, TokenKey};

use super::START;

/// The name of the server, as the authorization server knows it.
pub const SERVER: &str = "turn.example.org";
/// The id of a key of A256GCM.
pub const NORTH: &str = "north";
/// The id of a key of A128GCM.
pub const UNION: &str = "union";
/// The `mac_key` of the usual token.
pub const MAC_KEY: &[u8] = b"ZksjpweoixXmvn67534m";

/// Both keys.
pub fn oauth() -> OAuth {
    let mut oauth = OAuth::new(SERVER, NORTH, north_key());
    oauth.add_key(UNION, union_key());
    oauth
}

pub fn north_key() -> TokenKey {
    TokenKey::new(TokenAlgorithm::A256Gcm, &[1; 32]).expect("fitting lengths")
}

pub fn union_key() -> TokenKey {
    TokenKey::new(TokenAlgorithm::A128Gcm, &[2; 16]).expect("fitting lengths")
}

/// A token issued when the test starts.
pub fn seal(key: &TokenKey, mac_key: &[u8], lifetime: u32, server: &str) -> Vec<u8> {
    seal_at(key, mac_key, UnixTime(START), lifetime, server)
}

pub fn seal_at(
    key: &TokenKey,
    mac_key: &[u8],
    issued: UnixTime,
    lifetime: u32,
    server: &str,
) -> Vec<u8> {
    let token = AccessToken::new(mac_key, issued, lifetime).expect("fitting lengths");
    key.seal(&token, b"h4j3k2l2n4b5", server)
        .expect("fitting lengths")
}

/// The usual token of [`NORTH`].
pub fn north(lifetime: u32) -> Vec<u8> {
    seal(&north_key(), MAC_KEY, lifetime, SERVER)
}

/// The usual token of [`UNION`].
pub fn union(lifetime: u32) -> Vec<u8> {
    seal(&union_key(), MAC_KEY, lifetime, SERVER)
}
