//! ChannelData messages (RFC 8656 §12.4).

use super::error::{DecodeError, DecodeErrorKind};

/// A channel number, 0x4000 to 0x4FFF (RFC 8656 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// The channel number `value`, if it is one.
    pub const fn new(value: u16) -> Option<Self> {
        match value {
            0x4000..=0x4FFF => Some(Self(value)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A ChannelData message as it stands in a datagram or frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel.
    pub number: ChannelNumber,
    /// The application data.
    pub payload: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Bytes before the payload.
    pub const HEADER_LENGTH: usize = 4;

    /// Reads the message at the start of `packet`; padding behind it is allowed (RFC 8656 §12.5).
    ///
    /// # Errors
    /// [`DecodeErrorKind::Truncated`] when the packet is shorter than its length field says,
    /// [`DecodeErrorKind::ChannelNumber`] for a reserved number.
    pub fn parse(packet: &'a [u8]) -> Result<Self, DecodeError> {
        let truncated = DecodeError::new(DecodeErrorKind::Truncated, packet.len());
        let ([n0, n1, l0, l1], rest) = packet.split_first_chunk().ok_or(truncated)?;
        let number = ChannelNumber::new(u16::from_be_bytes([*n0, *n1]))
            .ok_or(DecodeError::new(DecodeErrorKind::ChannelNumber, 0))?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let payload = rest.get(..length).ok_or(truncated)?;
        Ok(Self { number, payload })
    }

    /// The header of a message on `number` with `length` bytes of payload.
    pub const fn header(number: ChannelNumber, length: u16) -> [u8; 4] {
        let [n0, n1] = number.0.to_be_bytes();
        let [l0, l1] = length.to_be_bytes();
        [n0, n1, l0, l1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_data_empty_data_and_padding() {
        let number = ChannelNumber::new(0x4001).unwrap();
        for (packet, payload) in [
            (&[0x40, 1, 0, 3, 1, 2, 3][..], &[1, 2, 3][..]),
            (&[0x40, 1, 0, 3, 1, 2, 3, 0], &[1, 2, 3]),
            (&[0x40, 1, 0, 0], &[]),
        ] {
            assert_eq!(
                ChannelData::parse(packet),
                Ok(ChannelData { number, payload })
            );
        }
    }

    #[test]
    fn refuses_what_is_short_or_reserved() {
        let kind = |packet: &[u8]| ChannelData::parse(packet).unwrap_err().kind;
        assert_eq!(kind(&[0x40, 0, 0]), DecodeErrorKind::Truncated);
        assert_eq!(kind(&[0x40, 0, 0, 2, 1]), DecodeErrorKind::Truncated);
        assert_eq!(kind(&[0x50, 0, 0, 0]), DecodeErrorKind::ChannelNumber);
        assert_eq!(kind(&[0x3F, 0xFF, 0, 0]), DecodeErrorKind::ChannelNumber);
    }
}
