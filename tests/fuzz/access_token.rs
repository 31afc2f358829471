//! Any bytes as an access token (RFC 7635 §6.2), and as what is sealed in one: opened without panic, and
//! what is opened can be sealed again.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use turnstone::time::UnixTime;
use turnstone::turn::{AccessToken, TokenAlgorithm, TokenError, TokenKey};

/// Those of RFC 7635 appendix A.
const LONG_TERM: &[u8; 32] = b"HGkj32KJGiuy098sdfaqbNjOiaz71923";
const NONCE: &[u8; 12] = b"h4j3k2l2n4b5";
const SERVER: &str = "blackdow.carleon.gov";

/// One input; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    for algorithm in TokenAlgorithm::ALL {
        let bytes = &LONG_TERM[..algorithm.key_length()];
        let key = TokenKey::new(algorithm, bytes).expect("its length");
        open(&key, data);
        let sealed = seal(algorithm, data);
        let opened = key.open(&sealed, SERVER);
        assert_eq!(
            opened.map(whole_seconds),
            decode(data).ok_or(TokenError::Malformed)
        );
        assert!(key.open(&sealed, "another").is_err());
    }
}

fn open(key: &TokenKey, data: &[u8]) {
    let Ok(token) = key.open(data, SERVER) else {
        return;
    };
    let nonce = data[2..14].try_into().expect("twelve bytes");
    let again = key.seal(&token, nonce, SERVER).expect("it fits");
    assert_eq!(key.open(&again, SERVER), Ok(token.clone()));
    for now in [0, 1 << 32, u64::MAX] {
        let left = token.remaining(UnixTime(now)).unwrap_or_default();
        assert!(left <= token.lifetime());
    }
}

/// `plain` sealed as it is.
fn seal(algorithm: TokenAlgorithm, plain: &[u8]) -> Vec<u8> {
    let key = &LONG_TERM[..algorithm.key_length()];
    let payload = Payload {
        msg: plain,
        aad: SERVER.as_bytes(),
    };
    let nonce = NONCE.into();
    let text = match algorithm {
        TokenAlgorithm::A256Gcm => {
            let cipher = Aes256Gcm::new_from_slice(key).expect("32 bytes");
            cipher.encrypt(nonce, payload)
        }
        TokenAlgorithm::A128Gcm => {
            let cipher = Aes128Gcm::new_from_slice(key).expect("16 bytes");
            cipher.encrypt(nonce, payload)
        }
    };
    [&[0, 12], &NONCE[..], &text.expect("it fits")].concat()
}

/// The same without the fraction of a second, which only others write.
fn whole_seconds(token: AccessToken) -> AccessToken {
    let lifetime = u32::try_from(token.lifetime().as_secs()).expect("it was a u32");
    let mac_key = token.mac_key().as_bytes();
    AccessToken::new(mac_key, token.issued(), lifetime).expect("as long as before")
}

/// What `plain` says.
fn decode(plain: &[u8]) -> Option<AccessToken> {
    let (length, rest) = plain.split_at_checked(2)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    let (mac_key, rest) = rest.split_at_checked(length)?;
    let (timestamp, lifetime) = rest.split_at_checked(8)?;
    let timestamp = u64::from_be_bytes(timestamp.try_into().ok()?);
    let lifetime = u32::from_be_bytes(lifetime.try_into().ok()?);
    AccessToken::new(mac_key, UnixTime(timestamp >> 16), lifetime)
}
