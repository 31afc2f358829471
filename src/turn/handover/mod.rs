//! What a process gives to the one that takes its place: the allocations of clients over plain UDP, the
//! reservations, and what keeps nonces and tickets good.
//!
//! A [`Handover`] is the state of one shard. The first process exports it ([`Server::export`]) and
//! changes nothing; the second one imports it ([`Server::import`]) into the server of the same shard, and
//! asks for the sockets as for held ones ([`Action::OpenReserved`]); when that stands, the first one
//! releases what it exported ([`Server::release`]). Both tell each other which relays are theirs
//! ([`Shared::relays`], [`Shared::elsewhere`]).
//!
//! Clients over TCP, TLS and DTLS stay where their sessions are, and so do TCP allocations (RFC 6062),
//! mobile ones whose client is awaited on a connection, and what is between two shards. A ticket is good in
//! the process that has its allocation; elsewhere it is unknown. A ConnectionBind that comes to the second
//! process is handed back to the first ([`Action::HandBack`]), which its CONNECTION-ID names. Packets that
//! wait for an answer or an allocation are dealt with where they came in. Bandwidth is measured afresh, and
//! so is what strangers are answered.
//!
//! [`Server::export`]: super::Server::export
//! [`Server::import`]: super::Server::import
//! [`Server::release`]: super::Server::release
//! [`Shared::relays`]: super::Shared::relays
//! [`Shared::elsewhere`]: super::Shared::elsewhere
//! [`Action::OpenReserved`]: super::Action::OpenReserved
//! [`Action::HandBack`]: super::Action::HandBack

mod bytes;
mod export;
mod import;
mod land;
mod problem;
mod read;
mod record;
mod relay_set;
mod release;
mod write;

use std::fmt;
use std::net::SocketAddr;

use super::allocation_key::AllocationKey;
pub use problem::{Flaw, HandoverError, Imported, Problem};
use record::{FORMAT, FormatOnly, Head, Record};
pub use relay_set::RelaySet;

/// The state of one shard that another process can go on with. It holds keys: it goes only to the process
/// that takes over, and nowhere else.
pub struct Handover {
    head: Head,
    /// With the lines that they stand in.
    records: Vec<(usize, Record)>,
    /// Lines that are no records.
    unread: Vec<Problem>,
}

/// A socket that goes with a [`Handover`]. The process that takes over holds it at `local` before it
/// imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The relay socket of an allocation.
    Relay {
        /// Of which allocation of the process that exported it.
        key: AllocationKey,
        /// What it is bound to.
        local: SocketAddr,
    },
    /// The held socket of a reserved relayed transport address.
    Reserved {
        /// What it is bound to.
        local: SocketAddr,
    },
}

impl Handover {
    /// The format of what is written here. Older ones can be read, newer ones cannot.
    pub const FORMAT: u32 = FORMAT;

    /// The shard that it is of, from zero.
    pub fn shard(&self) -> u16 {
        self.head.shard
    }

    /// How many shards the process has.
    pub fn shards(&self) -> u16 {
        self.head.shards
    }

    /// How many allocations go.
    pub fn allocations(&self) -> usize {
        let is_allocation =
            |(_, record): &&(usize, Record)| matches!(record, Record::Allocation(_));
        self.records.iter().filter(is_allocation).count()
    }

    /// The sockets that go with it: one for each relayed transport address.
    pub fn sockets(&self) -> impl Iterator<Item = Handed> {
        self.records.iter().flat_map(|(_, record)| sockets(record))
    }

    /// What [`from_bytes`](Self::from_bytes) reads: a line of JSON for each record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024 * (1 + self.records.len()));
        write_line(&mut bytes, &self.head);
        for (_, record) in &self.records {
            write_line(&mut bytes, record);
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, in this version of the program or another one.
    /// Lines that it cannot read are told by [`Server::import`](super::Server::import).
    ///
    /// # Errors
    /// It begins with no head, or the format is a newer one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HandoverError> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let head = lines.next().unwrap_or_default();
        let format: FormatOnly = serde_json::from_slice(head).map_err(|_| HandoverError::Head)?;
        if format.format > FORMAT {
            return Err(HandoverError::Format {
                found: format.format,
                known: FORMAT,
            });
        }
        let mut handover = Self {
            head: serde_json::from_slice(head).map_err(|_| HandoverError::Head)?,
            records: Vec::new(),
            unread: Vec::new(),
        };
        for (line, text) in (2..).zip(lines).filter(|(_, text)| !text.is_empty()) {
            match serde_json::from_slice(text) {
                Ok(record) => handover.records.push((line, record)),
                Err(_) => handover.unread.push(Problem {
                    line,
                    flaw: Flaw::Unreadable,
                }),
            }
        }
        Ok(handover)
    }
}

fn sockets(record: &Record) -> Vec<Handed> {
    match record {
        Record::Allocation(allocation) => {
            let key = AllocationKey::from_token(allocation.token);
            let relays = allocation.relays.iter();
            relays
                .map(|relay| Handed::Relay {
                    key,
                    local: relay.bind_address(),
                })
                .collect()
        }
        Record::Reservation(reservation) => vec![Handed::Reserved {
            local: reservation.relay.bind_address(),
        }],
        Record::Awaited(_) => Vec::new(),
    }
}

fn write_line(bytes: &mut Vec<u8>, record: &impl serde::Serialize) {
    // Strings, numbers and lists cannot fail to be written to memory.
    let _ = serde_json::to_writer(&mut *bytes, record);
    bytes.push(b'\n');
}

impl fmt::Debug for Handover {
    /// Keys are not logged (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover")
            .field("shard", &self.head.shard)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}
