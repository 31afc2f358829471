//! Why bytes are not a message.

use std::fmt;

/// What is wrong with a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Bytes from the start of the message to the fault.
    pub offset: usize,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// Shorter than its header, or than a length in it says.
    Truncated,
    /// Longer than its header says.
    TrailingBytes,
    /// The two topmost bits are set: not STUN.
    NotStun,
    /// The magic cookie is missing (RFC 8489 §5).
    NoMagicCookie,
    /// A message length that is not a multiple of four.
    UnalignedLength,
    /// An attribute reaches past the end of the message.
    AttributeOverrun,
    /// FINGERPRINT is not the last attribute, or not four bytes long.
    MisplacedFingerprint,
    /// FINGERPRINT does not match the message (RFC 8489 §14.7).
    WrongFingerprint,
    /// MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 of an impossible length.
    IntegrityLength,
    /// The value of an attribute is malformed.
    InvalidValue,
    /// A number that is no channel number (RFC 8656 §12).
    ChannelNumber,
}

impl DecodeError {
    pub(crate) const fn new(kind: DecodeErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DecodeErrorKind::Truncated => "message is truncated",
            DecodeErrorKind::TrailingBytes => "bytes follow the message",
            DecodeErrorKind::NotStun => "not a STUN message",
            DecodeErrorKind::NoMagicCookie => "magic cookie is missing",
            DecodeErrorKind::UnalignedLength => "message length is not a multiple of four",
            DecodeErrorKind::AttributeOverrun => "attribute reaches past the end of the message",
            DecodeErrorKind::MisplacedFingerprint => "FINGERPRINT is misplaced",
            DecodeErrorKind::WrongFingerprint => "FINGERPRINT does not match",
            DecodeErrorKind::IntegrityLength => "message integrity has an impossible length",
            DecodeErrorKind::InvalidValue => "attribute value is malformed",
            DecodeErrorKind::ChannelNumber => "channel number is out of range",
        };
        write!(f, "{what} (byte {})", self.offset)
    }
}

impl std::error::Error for DecodeError {}
