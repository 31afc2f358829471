//! MOBILITY-TICKET (RFC 8016 §3.1, §4).

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Random bytes of a ticket: nobody guesses 192 bits (requirement S9).
pub(super) const ENTROPY: usize = 24;
/// Characters of a ticket. There are clients that keep it as a string of at most 32 bytes.
const LENGTH: usize = ENTROPY / 3 * 4;

/// What a client shows to be recognised on another five-tuple. It says nothing to anybody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket([u8; LENGTH]);

impl Ticket {
    pub(super) fn new(random: [u8; ENTROPY]) -> Self {
        let mut text = [0; LENGTH];
        let _ = BASE64_URL_SAFE_NO_PAD.encode_slice(random, &mut text);
        Self(text)
    }

    /// The ticket in the value of an attribute, if it can be one of ours.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        value.try_into().ok().map(Self)
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    /// Tickets are not logged (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_text_and_is_read_back() {
        let ticket = Ticket::new([0xFB; ENTROPY]);
        assert!(ticket.as_bytes().iter().all(u8::is_ascii_graphic));
        assert_eq!(Ticket::read(ticket.as_bytes()), Some(ticket));
        assert_eq!(Ticket::read(&ticket.as_bytes()[1..]), None);
        assert_eq!(format!("{ticket:?}"), "Ticket(..)");
    }
}
