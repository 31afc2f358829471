//! What may be wrong with a handover.

use std::fmt;

/// Why nothing of a handover can be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverError {
    /// It does not begin with the head of a handover.
    Head,
    /// It was written by a newer version of the program, in a format that this one does not know.
    Format {
        /// The format it is in.
        found: u32,
        /// The newest one that is known.
        known: u32,
    },
    /// It is of another shard than the server, or of a process with another number of shards.
    Shard {
        /// The shard it is of, and how many there were.
        found: (u16, u16),
        /// The shard that the server is of, and how many there are.
        here: (u16, u16),
    },
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("the state of the running process cannot be read"),
            Self::Format { found, known } => write!(
                f,
                "the running process hands over its state in format {found}, and this version knows \
                 formats up to {known}; upgrade to a version as new as the running one"
            ),
            Self::Shard { found, here } => write!(
                f,
                "shard {} of {} cannot take the place of shard {} of {}; upgrade with as many shards as \
                 the running process has",
                here.0, here.1, found.0, found.1
            ),
        }
    }
}

impl std::error::Error for HandoverError {}

/// A part of a handover that was left out. Records are counted from zero in the order of the handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The line is no record, or one of a kind that only a newer version knows.
    Unreadable {
        /// Lines are counted from one.
        line: usize,
    },
    /// A field of the record cannot have the value that it has.
    Invalid {
        /// Which record.
        record: usize,
        /// Which field.
        field: &'static str,
    },
    /// The five-tuple, the relayed transport address, the token or the ticket is in use.
    Taken {
        /// Which record.
        record: usize,
        /// Which field.
        field: &'static str,
    },
    /// The new policy denies the peers of so many permissions.
    Denied {
        /// Which record.
        record: usize,
        /// How many permissions.
        permissions: usize,
    },
}

/// What was taken in of a handover. The allocations become live as their sockets come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Allocations.
    pub allocations: usize,
    /// Reservations.
    pub reservations: usize,
    /// Clients with a ticket that are awaited on another five-tuple.
    pub awaited: usize,
    /// What was left out.
    pub problems: Vec<Problem>,
}
