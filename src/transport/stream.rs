//! STUN messages and ChannelData in a byte stream (RFC 8489 §6.2.2, RFC 8656 §12.5).

use crate::stun::ChannelRange;

/// The longest frame in bytes: a STUN message with the largest length that is a multiple of four.
pub const LARGEST_FRAME: usize = STUN_HEADER + 65_532;

const STUN_HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
/// A partial frame's memory is kept for the next one up to this size.
const KEPT: usize = 4096;

/// The stream carries something else: nothing after this point can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

/// One message of a stream: a STUN message, or a ChannelData message without its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'held, 'input> {
    /// It lies whole in the input.
    Whole(&'input [u8]),
    /// It came in pieces, which the [`Framer`] put together.
    Held(&'held [u8]),
}

/// Cuts a byte stream into messages, however it was split or merged on its way.
///
/// Holds at most one partial frame, so at most [`LARGEST_FRAME`] bytes; it grows with what arrives, not
/// with what a header announces. Each byte is copied at most once.
#[derive(Debug, Default)]
pub struct Framer {
    held: Vec<u8>,
    channels: ChannelRange,
    /// `held` was returned as a frame and is to be forgotten.
    returned: bool,
}

impl Framer {
    /// Knows ChannelData by the numbers `channels`.
    pub fn new(channels: ChannelRange) -> Self {
        Self {
            channels,
            ..Self::default()
        }
    }

    /// The next frame, taken from the front of `input`; none when the rest was kept for later.
    ///
    /// # Errors
    /// [`Garbled`]; the stream is to be closed.
    pub fn next_frame<'held, 'input>(
        &'held mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Frame<'held, 'input>>, Garbled> {
        self.forget_returned();
        if !self.held.is_empty() {
            return self.complete(input);
        }
        let frame = match measure(input, self.channels)? {
            Measured::Frame(size) if size.padded <= input.len() => {
                let (frame, rest) = input.split_at(size.padded);
                *input = rest;
                &frame[..size.message]
            }
            _ => {
                self.held.extend_from_slice(input);
                *input = &[];
                return Ok(None);
            }
        };
        Ok(Some(Frame::Whole(frame)))
    }

    /// Whether the beginning of a frame waits for its rest.
    pub fn is_partial(&self) -> bool {
        self.waiting() > 0
    }

    /// How many bytes of a frame wait for its rest.
    pub fn waiting(&self) -> usize {
        if self.returned { 0 } else { self.held.len() }
    }

    /// Goes on with the held frame.
    fn complete<'held, 'input>(
        &'held mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Frame<'held, 'input>>, Garbled> {
        loop {
            let (needed, message) = match measure(&self.held, self.channels)? {
                Measured::Frame(size) => (size.padded, Some(size.message)),
                Measured::Needs(header) => (header, None),
            };
            let missing = needed.saturating_sub(self.held.len());
            if let (0, Some(message)) = (missing, message) {
                self.returned = true;
                return Ok(Some(Frame::Held(&self.held[..message])));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let (more, rest) = input.split_at(missing.min(input.len()));
            self.held.extend_from_slice(more);
            *input = rest;
        }
    }

    fn forget_returned(&mut self) {
        if self.returned {
            self.returned = false;
            self.held.clear();
            self.held.shrink_to(KEPT);
        }
    }
}

/// The two lengths of a frame in bytes.
#[derive(Clone, Copy)]
struct Size {
    message: usize,
    padded: usize,
}

enum Measured {
    Frame(Size),
    /// So many bytes must be there to tell.
    Needs(usize),
}

/// Looks at the beginning of a frame, as early as it can be judged.
fn measure(bytes: &[u8], channels: ChannelRange) -> Result<Measured, Garbled> {
    match bytes.first() {
        None => Ok(Measured::Needs(1)),
        Some(0..=3) => measure_stun(bytes),
        Some(64..=79) => Ok(measure_channel_data(bytes)),
        Some(first) if channels.adds(*first) => Ok(measure_channel_data(bytes)),
        Some(_) => Err(Garbled),
    }
}

fn measure_stun(bytes: &[u8]) -> Result<Measured, Garbled> {
    let Some(length) = length_field(bytes) else {
        return Ok(Measured::Needs(8));
    };
    let cookie = &bytes[4..bytes.len().min(8)];
    if !length.is_multiple_of(4) || !MAGIC_COOKIE.starts_with(cookie) {
        return Err(Garbled);
    }
    if cookie.len() < MAGIC_COOKIE.len() {
        return Ok(Measured::Needs(8));
    }
    let message = STUN_HEADER + length;
    Ok(Measured::Frame(Size {
        message,
        padded: message,
    }))
}

fn measure_channel_data(bytes: &[u8]) -> Measured {
    length_field(bytes).map_or(Measured::Needs(CHANNEL_HEADER), |length| {
        let message = CHANNEL_HEADER + length;
        Measured::Frame(Size {
            message,
            padded: message.next_multiple_of(4),
        })
    })
}

/// Both kinds have their length in the third and fourth byte.
fn length_field(bytes: &[u8]) -> Option<usize> {
    let field = bytes.get(2..4)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(length: u16) -> Vec<u8> {
        let mut message = vec![0, 1];
        message.extend(length.to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend((0..12 + u32::from(length)).map(|i| i.to_le_bytes()[0]));
        message
    }

    fn channel_data(length: u16) -> (Vec<u8>, Vec<u8>) {
        let mut message = vec![0x40, 7];
        message.extend(length.to_be_bytes());
        message.extend((0..length).map(|i| i.to_le_bytes()[0]));
        let mut padded = message.clone();
        padded.resize(message.len().next_multiple_of(4), 0xEE);
        (message, padded)
    }

    /// A stream of every kind of frame, and what is in it.
    fn sample() -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut stream = Vec::new();
        let mut messages = Vec::new();
        for length in [0, 1, 2, 3, 4, 161] {
            let (message, padded) = channel_data(length);
            stream.extend(padded);
            messages.push(message);
            let message = stun(length * 4);
            stream.extend(&message);
            messages.push(message);
        }
        (stream, messages)
    }

    fn feed(
        framer: &mut Framer,
        mut input: &[u8],
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), Garbled> {
        while let Some(frame) = framer.next_frame(&mut input)? {
            let (Frame::Whole(bytes) | Frame::Held(bytes)) = frame;
            found.push(bytes.to_vec());
        }
        assert!(input.is_empty());
        Ok(())
    }

    #[test]
    fn a_stream_split_at_any_two_bytes_carries_the_same_messages() -> Result<(), Garbled> {
        let (stream, messages) = sample();
        for first in (0..=stream.len()).step_by(3) {
            for second in first..=stream.len() {
                let mut framer = Framer::default();
                let mut found = Vec::new();
                feed(&mut framer, &stream[..first], &mut found)?;
                feed(&mut framer, &stream[first..second], &mut found)?;
                feed(&mut framer, &stream[second..], &mut found)?;
                assert!(found == messages, "split at {first} and {second}");
                assert!(!framer.is_partial());
            }
        }
        Ok(())
    }

    #[test]
    fn a_stream_in_pieces_of_any_size_carries_the_same_messages() -> Result<(), Garbled> {
        let (stream, messages) = sample();
        for size in 1..=stream.len() {
            let mut framer = Framer::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                feed(&mut framer, piece, &mut found)?;
            }
            assert!(found == messages, "pieces of {size}");
        }
        Ok(())
    }

    #[test]
    fn whole_frames_are_not_copied() -> Result<(), Garbled> {
        let (stream, messages) = sample();
        let mut framer = Framer::default();
        let mut input = &stream[..];
        for message in &messages {
            let at = input.as_ptr();
            let Some(Frame::Whole(bytes)) = framer.next_frame(&mut input)? else {
                panic!("a whole frame");
            };
            assert!(bytes == message && bytes.as_ptr() == at);
        }
        assert_eq!(framer.next_frame(&mut input)?, None);
        assert_eq!(framer.held.capacity(), 0);
        Ok(())
    }

    #[test]
    fn the_largest_frames_pass_and_their_memory_is_given_back() -> Result<(), Garbled> {
        let mut framer = Framer::default();
        let (data, padded) = channel_data(u16::MAX);
        for (message, sent) in [(stun(65_532), stun(65_532)), (data, padded)] {
            assert!(message.len() <= LARGEST_FRAME);
            let mut found = Vec::new();
            feed(&mut framer, &sent[..40_000], &mut found)?;
            assert!(framer.is_partial() && found.is_empty());
            feed(&mut framer, &sent[40_000..], &mut found)?;
            assert!(!framer.is_partial());
            assert!(found == [message]);
        }
        assert!(framer.held.capacity() <= KEPT);
        Ok(())
    }

    #[test]
    fn a_header_alone_reserves_nothing() -> Result<(), Garbled> {
        let mut framer = Framer::default();
        feed(&mut framer, &[0x40, 0, 0xFF, 0xFF], &mut Vec::new())?;
        assert!(framer.is_partial() && framer.held.capacity() < 64);
        Ok(())
    }

    fn is_garbled(mut bytes: &[u8]) -> bool {
        Framer::default().next_frame(&mut bytes) == Err(Garbled)
    }

    #[test]
    fn what_is_neither_stun_nor_channel_data_is_garbled_at_once() {
        for first in (4..=63).chain(80..=255) {
            assert!(is_garbled(&[first]), "{first}");
        }
        let mut odd_length = stun(4);
        odd_length[3] = 5;
        for cut in 4..odd_length.len() {
            assert!(is_garbled(&odd_length[..cut]));
        }
    }

    #[test]
    fn channel_data_of_rfc_5766_passes_where_it_is_wanted() {
        for first in 0..=u8::MAX {
            let frame = [first, 0, 0, 1, 9, 0, 0, 0];
            let mut framer = Framer::new(ChannelRange::Rfc5766);
            let next = framer.next_frame(&mut &frame[..]);
            match first {
                0..=3 => assert_eq!(next, Err(Garbled), "an odd length"),
                64..=127 => assert_eq!(next, Ok(Some(Frame::Whole(&frame[..5])))),
                _ => assert_eq!(next, Err(Garbled), "{first}"),
            }
        }
    }

    #[test]
    fn a_wrong_cookie_is_garbled_at_its_first_wrong_byte() {
        for wrong in 4..8 {
            let mut message = stun(0);
            message[wrong] ^= 1;
            assert!(!is_garbled(&message[..wrong]));
            assert!(is_garbled(&message[..=wrong]));
            let mut framer = Framer::default();
            assert_eq!(framer.next_frame(&mut &message[..wrong]), Ok(None));
            let next = framer.next_frame(&mut &message[wrong..=wrong]);
            assert_eq!(next, Err(Garbled), "byte {wrong}");
        }
    }

    #[test]
    fn random_bytes_end_in_frames_or_garble_but_never_in_a_panic() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33).to_le_bytes()[0]
        };
        for _ in 0..20_000 {
            let mut framer = Framer::default();
            let firsts = [0, 1, 0x40, 0x4F];
            let mut bytes: Vec<u8> = (0..random() % 48).map(|_| random() % 8).collect();
            bytes.insert(0, firsts[usize::from(random() % 4)]);
            for piece in bytes.chunks(usize::from(random() % 9) + 1) {
                if feed(&mut framer, piece, &mut Vec::new()).is_err() {
                    break;
                }
            }
            assert!(framer.held.len() <= LARGEST_FRAME);
        }
    }
}
