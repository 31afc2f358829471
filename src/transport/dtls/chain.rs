//! The issuers' certificates behind the server's own.
//!
//! The library sends one certificate. What it is given here is the whole list as it stands in a Certificate
//! message, so that every length is right but one: that of the first certificate, which it takes for that of
//! all. The three bytes of it are put right in what is sent and in what is hashed.

/// The Certificate message (RFC 8446 §4).
const CERTIFICATE: u8 = 11;
/// What a DTLS 1.3 transcript begins with, since there is always a HelloRetryRequest (RFC 8446 §4.4.1).
const MESSAGE_HASH: u8 = 254;
/// Bytes of a message's header, and of that in the transcript of DTLS 1.3.
const HEADER: usize = 12;
const SHORT_HEADER: usize = 4;
/// Bytes of a length in the message, and of an entry's extensions, of which there are none.
const LENGTH: usize = 3;
const EXTENSIONS: [u8; 2] = [0, 0];

/// Where the length of the first certificate is, in a message with this header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// The list's length comes before it (RFC 5246 §7.4.2).
    Dtls12,
    /// The context, which is empty, and the list's length come before it (RFC 8446 §4.4.2).
    Dtls13,
}

impl Layout {
    const fn length_at(self, header: usize) -> usize {
        match self {
            Self::Dtls12 => header + LENGTH,
            Self::Dtls13 => header + 1 + LENGTH,
        }
    }
}

/// The certificates of `chain` as they stand in a message, from the first byte of the first to the last of
/// the last.
pub(super) fn join<'c>(layout: Layout, chain: impl Iterator<Item = &'c [u8]>) -> Vec<u8> {
    let mut joined = Vec::new();
    for certificate in chain {
        if !joined.is_empty() {
            if layout == Layout::Dtls13 {
                joined.extend(EXTENSIONS);
            }
            joined.extend(to_u24(certificate.len()));
        }
        joined.extend(certificate);
    }
    joined
}

/// Puts right a message, or the first fragment of one. All else is left as it is.
pub(super) fn mend_fragment(layout: Layout, fragment: &mut [u8]) {
    let is_first = fragment.first() == Some(&CERTIFICATE) && fragment.get(6..9) == Some(&[0; 3]);
    if let Some((at, length)) = first_length(fragment, layout, HEADER).filter(|_| is_first) {
        fragment[at..at + LENGTH].copy_from_slice(&to_u24(length));
    }
}

/// The messages of a handshake with the Certificate message put right; none when nothing is to be done.
pub(super) fn mend_transcript(transcript: &[u8]) -> Option<Vec<u8>> {
    let (layout, header) = match transcript.first()? {
        &MESSAGE_HASH => (Layout::Dtls13, SHORT_HEADER),
        _ => (Layout::Dtls12, HEADER),
    };
    let mut start = 0;
    loop {
        let message = transcript.get(start..)?;
        if message.first()? == &CERTIFICATE {
            let (at, length) = first_length(message, layout, header)?;
            let mut mended = transcript.to_vec();
            mended[start + at..start + at + LENGTH].copy_from_slice(&to_u24(length));
            return Some(mended);
        }
        start += header + u24(message.get(1..1 + LENGTH)?);
    }
}

/// Where the length of the first certificate is and what it is: the certificate says so itself, being DER.
fn first_length(message: &[u8], layout: Layout, header: usize) -> Option<(usize, usize)> {
    let at = layout.length_at(header);
    match message.get(at + LENGTH..at + LENGTH + 4)? {
        [0x30, 0x82, high, low] => Some((at, 4 + usize::from(u16::from_be_bytes([*high, *low])))),
        _ => None,
    }
}

fn u24(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Certificates are a few thousand bytes long.
#[expect(clippy::cast_possible_truncation, reason = "the lower three bytes")]
const fn to_u24(length: usize) -> [u8; LENGTH] {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    [high, middle, low]
}
