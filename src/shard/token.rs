//! What a poller's token names, so that an event or a queued message needs no look-up.

use crate::turn::{AllocationKey, Family};

/// Names a stream connection for ever: a slot and how often the slot was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A descriptor that the shard watches or sends from.
///
/// As an integer: a relay socket is its allocation key, with the topmost bit for IPv6. An allocation's
/// index never reaches 2^31, so bit 31 marks all else: three bits of kind and 28 bits of number below it,
/// the generation, or the rest of a long number, above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Relay(AllocationKey, Family),
    Listener(usize),
    Acceptor(usize),
    Connection(ConnectionId),
    /// The other end of what a client's connection is joined with.
    Far(ConnectionId),
    /// A listener for peers, or a connection to one that is being opened.
    Tcp(u64),
    /// Where records come from that arrive in the process that took over.
    Successor,
    /// Where data connections come from that were made to the process that took over.
    Bindings,
    Mailbox,
}

const V6: u64 = 1 << 63;
const OTHER: u64 = 1 << 31;
const KIND_SHIFT: u32 = 28;
const NUMBER: u64 = (1 << KIND_SHIFT) - 1;

const LISTENER: u64 = OTHER;
const ACCEPTOR: u64 = OTHER | 1 << KIND_SHIFT;
const CONNECTION: u64 = OTHER | 2 << KIND_SHIFT;
const FAR: u64 = OTHER | 3 << KIND_SHIFT;
const TCP: u64 = OTHER | 4 << KIND_SHIFT;
const SUCCESSOR: u64 = OTHER | 5 << KIND_SHIFT;
const BINDINGS: u64 = OTHER | 6 << KIND_SHIFT;
const KINDS: u64 = OTHER | 7 << KIND_SHIFT;
const MAILBOX: u64 = KINDS;

/// The most connections and listeners that a token can tell apart.
pub(super) const MOST: usize = 1 << KIND_SHIFT;

impl ConnectionId {
    const fn to_bits(self) -> u64 {
        self.index as u64 & NUMBER | (self.generation as u64) << 32
    }

    const fn from_bits(bits: u64) -> Self {
        Self {
            index: (bits & NUMBER) as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl Token {
    pub(super) const fn to_bits(self) -> u64 {
        match self {
            Self::Relay(key, Family::V4) => key.to_token(),
            Self::Relay(key, Family::V6) => key.to_token() | V6,
            Self::Listener(number) => LISTENER | number as u64 & NUMBER,
            Self::Acceptor(number) => ACCEPTOR | number as u64 & NUMBER,
            Self::Connection(id) => CONNECTION | id.to_bits(),
            Self::Far(id) => FAR | id.to_bits(),
            Self::Tcp(number) => TCP | number & NUMBER | number >> KIND_SHIFT << 32,
            Self::Successor => SUCCESSOR,
            Self::Bindings => BINDINGS,
            Self::Mailbox => MAILBOX,
        }
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        if bits & OTHER == 0 {
            let family = if bits & V6 == 0 {
                Family::V4
            } else {
                Family::V6
            };
            return Self::Relay(AllocationKey::from_token(bits & !V6), family);
        }
        let number = bits & NUMBER;
        match bits & KINDS {
            LISTENER => Self::Listener(number as usize),
            ACCEPTOR => Self::Acceptor(number as usize),
            CONNECTION => Self::Connection(ConnectionId::from_bits(bits)),
            FAR => Self::Far(ConnectionId::from_bits(bits)),
            TCP => Self::Tcp(number | bits >> 32 << KIND_SHIFT),
            SUCCESSOR => Self::Successor,
            BINDINGS => Self::Bindings,
            _ => Self::Mailbox,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_round_trip() {
        let keys = [0, 5, 0x7FFF_FFFF_7FFF_FFFF].map(AllocationKey::from_token);
        let relays = keys
            .into_iter()
            .flat_map(|key| Family::ALL.map(|family| Token::Relay(key, family)));
        let id = ConnectionId {
            index: u32::try_from(MOST - 1).unwrap(),
            generation: u32::MAX,
        };
        let others = [
            Token::Listener(0),
            Token::Listener(7),
            Token::Acceptor(7),
            Token::Connection(id),
            Token::Far(id),
            Token::Tcp(0),
            Token::Tcp((1 << 60) - 1),
            Token::Successor,
            Token::Bindings,
            Token::Mailbox,
        ];
        for token in relays.chain(others) {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
