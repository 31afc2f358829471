//! Password algorithms: how a key is made of a password (RFC 8489 §14.11, §14.12, §18.5).

use super::attribute::Attribute;
use super::error::DecodeError;

/// Makes the key of the long-term mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PasswordAlgorithm {
    /// 0x0001: a key of 16 bytes, for clients older than RFC 8489.
    Md5,
    /// 0x0002: a key of 32 bytes.
    Sha256,
}

impl PasswordAlgorithm {
    /// The entry of PASSWORD-ALGORITHMS: the number, and no parameters.
    pub const fn entry(self) -> [u8; 4] {
        match self {
            Self::Md5 => [0, 1, 0, 0],
            Self::Sha256 => [0, 2, 0, 0],
        }
    }

    /// The algorithm that a PASSWORD-ALGORITHM attribute names.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidValue`](super::DecodeErrorKind::InvalidValue) for an unknown number,
    /// or parameters where there are none.
    pub fn from_attribute(attribute: &Attribute<'_>) -> Result<Self, DecodeError> {
        let known = [Self::Md5, Self::Sha256];
        let named = known
            .into_iter()
            .find(|known| known.entry() == attribute.value);
        named.ok_or(attribute.invalid())
    }
}
