//! Any bytes in any pieces: a stream carries the same messages however it was split on its way.

use turnstone::stun::ChannelRange;
use turnstone::transport::{Frame, Framer, Garbled, LARGEST_FRAME};

/// The messages of a stream, and how it ended: with so many bytes of the next one, or in nonsense.
type Content = (Vec<Vec<u8>>, Result<usize, Garbled>);

/// One input: how the stream is split, then the stream. Panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    let Some((split, stream)) = data.split_first() else {
        return;
    };
    for range in [ChannelRange::Rfc8656, ChannelRange::Rfc5766] {
        let whole = read(range, std::iter::once(stream));
        let size = usize::from(*split) % 23 + 1;
        assert_eq!(
            read(range, stream.chunks(size)),
            whole,
            "in pieces of {size}"
        );
        let cut = usize::from(*split) * stream.len() / 255;
        let (head, tail) = stream.split_at(cut);
        assert_eq!(read(range, [head, tail].into_iter()), whole, "cut at {cut}");
        check(range, &whole, stream);
    }
}

fn read<'s>(range: ChannelRange, pieces: impl Iterator<Item = &'s [u8]>) -> Content {
    let mut framer = Framer::new(range);
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match framer.next_frame(&mut piece) {
                Ok(Some(Frame::Whole(bytes) | Frame::Held(bytes))) => messages.push(bytes.to_vec()),
                Ok(None) => break,
                Err(garbled) => return (messages, Err(garbled)),
            }
        }
        assert!(piece.is_empty() && framer.waiting() <= LARGEST_FRAME);
    }
    (messages, Ok(framer.waiting()))
}

/// The messages are the stream, but for the padding between them.
fn check(range: ChannelRange, (messages, rest): &Content, stream: &[u8]) {
    let mut place = 0;
    for message in messages {
        assert_eq!(stream[place..place + message.len()], message[..]);
        assert!(message.len() <= LARGEST_FRAME);
        let is_channel_data = matches!(message[0], 64..=79) || range.adds(message[0]);
        assert!(is_channel_data || matches!(message[0], 0..=3));
        place += message.len().next_multiple_of(4);
    }
    assert!(rest.is_err() || place + rest.unwrap_or(0) == stream.len());
}
