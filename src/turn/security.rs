//! What the server offers beyond RFC 5389, and the nonce cookie that says so (RFC 8489 §9.2, §18.1).

use crate::stun::{AttributeType, DecodeError, DecodeErrorKind, Message, PasswordAlgorithm};

/// The start of a nonce that carries security features (RFC 8489 §9.2).
const COOKIE: [u8; 9] = *b"obMatJos2";

/// Characters of the cookie and the features behind it.
pub(super) const COOKIE_LENGTH: usize = COOKIE.len() + 4;

/// The security features of a realm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    algorithms: Vec<PasswordAlgorithm>,
    /// The value of PASSWORD-ALGORITHMS, empty when the attribute is not sent (RFC 8489 §14.11).
    list: Vec<u8>,
    userhash: bool,
}

impl Security {
    /// Offers `algorithms` in the order of preference, and USERHASH if `userhash`. Offering MD5 alone,
    /// which every client knows, needs no words: then nothing is said of algorithms.
    pub fn new(algorithms: &[PasswordAlgorithm], userhash: bool) -> Self {
        let algorithms = match algorithms {
            [PasswordAlgorithm::Md5] => Vec::new(),
            algorithms => algorithms.to_vec(),
        };
        let list = algorithms.iter().flat_map(|algorithm| algorithm.entry());
        Self {
            list: list.collect(),
            algorithms,
            userhash,
        }
    }

    /// The value of PASSWORD-ALGORITHMS, empty when the attribute is not sent.
    pub(super) fn password_algorithms(&self) -> &[u8] {
        &self.list
    }

    /// What every nonce starts with.
    pub(super) fn cookie(&self) -> [u8; COOKIE_LENGTH] {
        // The 24 bits in base64; bit 0, "password algorithms", is the first one of the first character.
        let features = match (!self.algorithms.is_empty(), self.userhash) {
            (false, false) => b"AAAA",
            (true, false) => b"gAAA",
            (false, true) => b"QAAA",
            (true, true) => b"wAAA",
        };
        let mut cookie = [0; COOKIE_LENGTH];
        cookie[..COOKIE.len()].copy_from_slice(&COOKIE);
        cookie[COOKIE.len()..].copy_from_slice(features);
        cookie
    }

    /// The password algorithm that the request chose; none when it chose as a client of RFC 5389 does,
    /// which means MD5 (RFC 8489 §9.2.4).
    ///
    /// # Errors
    /// The list that the client saw is not the one we sent (bid-down, S13), or the choice is not on it.
    pub(super) fn chosen_algorithm(
        &self,
        message: &Message<'_>,
        nonce: &[u8],
    ) -> Result<Option<PasswordAlgorithm>, DecodeError> {
        let is_ours = nonce.starts_with(&self.cookie());
        if self.algorithms.is_empty() || !is_ours {
            return Ok(None);
        }
        let list = message.attribute(AttributeType::PASSWORD_ALGORITHMS);
        let choice = message.attribute(AttributeType::PASSWORD_ALGORITHM);
        match (list, choice) {
            (None, None) => Ok(None),
            (Some(list), Some(choice)) => {
                let algorithm = PasswordAlgorithm::from_attribute(&choice)?;
                let is_ours = list.value == self.list;
                let is_offered = self.algorithms.contains(&algorithm);
                if is_ours && is_offered {
                    Ok(Some(algorithm))
                } else {
                    Err(choice.invalid())
                }
            }
            (Some(alone), None) | (None, Some(alone)) => Err(DecodeError::new(
                DecodeErrorKind::InvalidValue,
                alone.offset,
            )),
        }
    }
}
