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

/// A part of a handover that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line of [`Handover::to_bytes`](super::Handover::to_bytes) that it is in, counted from one.
    pub line: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with a line of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is no record, or one of a kind that only a newer version knows.
    Unreadable,
    /// This field has a value that it cannot have; for what is one of many, that one is left out.
    Invalid(&'static str),
    /// What this field names is in use already.
    Taken(&'static str),
    /// The policy denies this peer: its permission is left out.
    Denied,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, flaw } = self;
        match flaw {
            Flaw::Unreadable => write!(f, "line {line}: cannot be read"),
            Flaw::Invalid(field) => write!(f, "line {line}: {field} has no valid value"),
            Flaw::Taken(field) => write!(f, "line {line}: {field} is in use already"),
            Flaw::Denied => write!(f, "line {line}: a permission that is no longer allowed"),
        }
    }
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
