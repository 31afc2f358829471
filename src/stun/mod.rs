//! The wire: STUN messages (RFC 8489 §5, §14) and ChannelData (RFC 8656 §12.4).
//!
//! A [`Message`] borrows the bytes it was parsed from; a [`MessageBuilder`] writes into its caller's
//! buffer. Nothing here allocates, and every length is checked before it is used.

mod address;
mod attribute;
mod builder;
mod channel_data;
mod classic;
mod error;
mod header;
mod integrity;
mod message;
mod password;

pub use attribute::{Attribute, AttributeType, Attributes};
pub use builder::MessageBuilder;
pub use channel_data::{ChannelData, ChannelNumber, ChannelRange};
pub use classic::{ClassicRequest, ClassicTransactionId};
pub use error::{DecodeError, DecodeErrorKind};
pub use header::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId};
pub use integrity::{Algorithm, IntegrityError};
pub use message::Message;
pub use password::PasswordAlgorithm;

/// What a datagram or frame is, by its first byte (RFC 8656 §12, table 3; RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0 to 3.
    Stun,
    /// 64 to 79.
    ChannelData,
    /// Empty, or any other first byte.
    Other,
}

/// Classifies `packet` by its first byte.
pub fn classify(packet: &[u8]) -> Kind {
    match packet.first() {
        Some(0..=3) => Kind::Stun,
        Some(64..=79) => Kind::ChannelData,
        _ => Kind::Other,
    }
}

/// `length` rounded up to the next multiple of four (RFC 8489 §14).
pub(crate) const fn padded(length: usize) -> usize {
    (length + 3) & !3
}
