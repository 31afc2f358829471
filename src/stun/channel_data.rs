//! ChannelData messages (RFC 8656 §12.4).

use super::error::{DecodeError, DecodeErrorKind};

/// A channel number, 0x4000 to 0x4FFF (RFC 8656 §12); for old clients to 0x7FFE (RFC 5766 §11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// The channel number `value`, if it is one by RFC 8656.
    pub const fn new(value: u16) -> Option<Self> {
        ChannelRange::Rfc8656.number(value)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Which channel numbers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelRange {
    /// 0x4000 to 0x4FFF; ChannelData begins with a byte of 64 to 79 (RFC 8656 §12).
    #[default]
    Rfc8656,
    /// 0x4000 to 0x7FFE; ChannelData begins with a byte of 64 to 127 (RFC 5766 §11).
    Rfc5766,
}

impl ChannelRange {
    /// The channel number `value`, if it is one.
    pub const fn number(self, value: u16) -> Option<ChannelNumber> {
        match (self, value) {
            (_, 0x4000..=0x4FFF) | (Self::Rfc5766, 0x5000..=0x7FFE) => Some(ChannelNumber(value)),
            _ => None,
        }
    }

    /// Whether a message that begins with `first` is ChannelData in this range and not in that of
    /// RFC 8656.
    pub const fn adds(self, first: u8) -> bool {
        matches!((self, first), (Self::Rfc5766, 80..=127))
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
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, DecodeError> {
        Self::parse_in(packet, ChannelRange::Rfc8656)
    }

    /// As [`parse`](Self::parse), with the numbers of `range`.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn parse_in(packet: &'a [u8], range: ChannelRange) -> Result<Self, DecodeError> {
        let truncated = DecodeError::new(DecodeErrorKind::Truncated, packet.len());
        let ([n0, n1, l0, l1], rest) = packet.split_first_chunk().ok_or(truncated)?;
        let number = range
            .number(u16::from_be_bytes([*n0, *n1]))
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

    #[test]
    fn the_wide_range_is_that_of_rfc_5766() {
        for value in 0..=u16::MAX {
            let is_wide = ChannelRange::Rfc5766.number(value).is_some();
            assert_eq!(is_wide, (0x4000..=0x7FFE).contains(&value), "{value:#x}");
            let is_narrow = ChannelNumber::new(value).is_some();
            assert_eq!(is_narrow, (0x4000..=0x4FFF).contains(&value), "{value:#x}");
            let [first, _] = value.to_be_bytes();
            assert_eq!(
                ChannelRange::Rfc5766.adds(first),
                (0x50..0x80).contains(&first)
            );
            assert!(!ChannelRange::Rfc8656.adds(first));
        }
        let packet = [0x7F, 0xFE, 0, 1, 9];
        let wide = ChannelData::parse_in(&packet, ChannelRange::Rfc5766).unwrap();
        assert_eq!((wide.number.get(), wide.payload), (0x7FFE, &[9][..]));
    }
}
