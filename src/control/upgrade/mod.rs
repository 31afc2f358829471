//! One process takes over from another without a lost call: listening sockets and the allocations of
//! clients over UDP move, the others stay where their connections are until they end.
//!
//! The new process begins, on the control socket of the old one:
//!
//! | new | old |
//! |---|---|
//! | `take-over` | `ok` |
//! | Hello: version | Offer: what it is, with listening sockets |
//! | *prepares everything that can fail* | |
//! | Freeze | *reads no socket from here on* Relays that live there |
//! | | State of each shard, with relay sockets |
//! | Ready | Go |
//! | *serves* Serving | *lets go* Released |
//! | Relays, as they change | Relays, as they change |
//!
//! Whatever happens before Serving, the old process goes on as if nothing had been. After Go it says first that
//! it refuses, and waits for the new one to stop. What clients and peers send in between waits in the sockets,
//! which are the same ones for both.
//!
//! Two ways lead from each shard of the new process to the one in its place in the old one, for clients that
//! stay there: DTLS records go back by one, and by the other the data connections that clients with a TCP
//! allocation make (RFC 6062), since both arrive where the listening sockets are.

mod bond;
mod give;
mod kin;
mod line;
mod take;
mod words;

pub(super) use give::{Doors, Estate, Giving, Outcome, give};
pub(super) use kin::Kin;
pub(super) use take::{Predecessor, TakeOverError, Taken};
pub(super) use words::{Binary, Service};

/// What the new process says on the control socket.
pub(super) const TAKE_OVER: &str = "take-over";
