//! Access tokens (RFC 7635), as an authorization server mints them: for tests.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde_json::{Value, json};

use crate::time::UnixTime;
use crate::turn::{AccessToken, TOKEN_NONCE, TokenKey};

/// Bytes of the key of an HMAC-SHA-1 (RFC 7635 §6.2).
const MAC_KEY: usize = 20;

/// A token with its key, ready to be handed out.
#[derive(Clone)]
pub struct MintedToken {
    /// When it runs out.
    pub expires: UnixTime,
    mac_key: [u8; MAC_KEY],
    sealed: Vec<u8>,
}

impl MintedToken {
    /// A token for the server `server_name`, sealed with `key`, good from `now` on for `ttl` in whole
    /// seconds, at most those of a u32. None when the operating system has no random bytes to give.
    pub fn mint(key: &TokenKey, server_name: &str, now: UnixTime, ttl: Duration) -> Option<Self> {
        let (mut mac_key, mut nonce) = ([0; MAC_KEY], [0; TOKEN_NONCE]);
        getrandom::fill(&mut mac_key).ok()?;
        getrandom::fill(&mut nonce).ok()?;
        let lifetime = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let token = AccessToken::new(&mac_key, now, lifetime)?;
        Some(Self {
            expires: UnixTime(now.0.saturating_add(lifetime.into())),
            mac_key,
            sealed: key.seal(&token, &nonce, server_name)?,
        })
    }

    /// The key that requests are signed with, in base64.
    pub fn mac_key(&self) -> String {
        BASE64_STANDARD.encode(self.mac_key)
    }

    /// The value of ACCESS-TOKEN, in base64.
    pub fn access_token(&self) -> String {
        BASE64_STANDARD.encode(&self.sealed)
    }

    /// The `credential` of an `RTCIceServer` whose `credentialType` is `oauth`, as W3C drew it: the key
    /// in base64url, the token in base64.
    pub fn ice_credential(&self) -> Value {
        json!({
            "macKey": BASE64_URL_SAFE.encode(self.mac_key),
            "accessToken": self.access_token(),
        })
    }
}

impl fmt::Debug for MintedToken {
    /// Everything but the key and the token (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedToken")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::TokenAlgorithm;

    #[test]
    fn the_server_reads_what_the_client_is_told() {
        let key = TokenKey::new(TokenAlgorithm::A256Gcm, &[3; 32]).unwrap();
        let now = UnixTime(1_700_000_000);
        let minted = MintedToken::mint(&key, "here", now, Duration::from_secs(60)).unwrap();
        assert_eq!(minted.expires, UnixTime(1_700_000_060));
        let sealed = BASE64_STANDARD.decode(minted.access_token()).unwrap();
        let token = key.open(&sealed, "here").unwrap();
        let mac_key = BASE64_STANDARD.decode(minted.mac_key()).unwrap();
        assert_eq!(token.mac_key().as_bytes(), mac_key);
        assert_eq!((token.issued(), token.lifetime().as_secs()), (now, 60));
        let credential = minted.ice_credential();
        let url_safe = credential["macKey"].as_str().unwrap();
        assert_eq!(BASE64_URL_SAFE.decode(url_safe).unwrap(), mac_key);
        assert_eq!(credential["accessToken"], minted.access_token());
    }

    #[test]
    fn no_two_tokens_are_alike_and_debug_shows_none() {
        let key = TokenKey::new(TokenAlgorithm::A128Gcm, &[3; 16]).unwrap();
        let mint = || MintedToken::mint(&key, "here", UnixTime(0), Duration::from_secs(1)).unwrap();
        let (one, other) = (mint(), mint());
        assert!(one.mac_key() != other.mac_key() && one.sealed[..14] != other.sealed[..14]);
        assert!(!format!("{one:?}").contains(&one.mac_key()));
    }
}
