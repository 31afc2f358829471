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
//! Clients over TCP that stay with the old process keep the data connections that they have (RFC 6062), and
//! can make no further ones: ConnectionBind comes on a new connection, which the new process accepts and
//! which names nothing there.

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
