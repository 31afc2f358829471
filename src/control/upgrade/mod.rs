//! One process takes over from another without a lost call: listening sockets and the allocations of
//! clients over UDP move, the others stay where their connections are until they end.
//!
//! The new process begins, on the control socket of the old one:
//!
//! | new | old |
//! |---|---|
//! | `take-over` | `ok` |
//! | Hello: version | Offer: what it is, with listening sockets and the way to the [deed] |
//! | *prepares everything that can fail* | |
//! | Freeze | *reads no socket from here on* Relays that live there |
//! | | State of each shard, with relay sockets |
//! | Ready | *signs the deed* |
//! | *takes the deed, serves* Serving | *lets go* Released |
//! | Relays, as they change | Relays, as they change |
//!
//! Whoever has the deed serves, and nobody else. What clients and peers send meanwhile waits in the sockets,
//! which are the same ones for both. Each side waits for each word for seconds only; if one dies or stops
//! after a word, then:
//!
//! | after | serves | old dies | old stops | new dies, refuses or stops |
//! |---|---|---|---|---|
//! | Hello | old | new gives up | new gives up | old was never disturbed |
//! | Offer | old | new serves, without the calls | new gives up | old was never disturbed |
//! | Freeze | old, later | new serves, without the calls that it was not told of | new gives up, the shards of the old go on by themselves | old keeps the deed and goes on |
//! | Ready | old, later | new serves | as above | as above |
//! | deed signed | whoever reads it first | new serves | new serves; old lets go when it wakes | old reads the deed and goes on |
//! | deed taken | new | new serves | new serves; old lets go when it wakes | when it dies, old goes on; when it stops, old lets go, and it serves when it wakes |
//! | Serving | new | new serves | new serves; old lets go when it wakes | as with every server that dies or stops |
//!
//! "Gives up" is to end without having served. The deed alone decides: the old process writes to it that it is
//! kept before it closes anything, so that a deed which ends unsigned is that of a dead process. What a process
//! says or does when it was too slow has no effect: the new one that wakes late finds the deed kept, and the old
//! one finds it taken.
//!
//! Versions that do not understand each other say so before anything has changed: the first line is the same
//! in all of them, and so are frames, the beginning of Hello and Offer, and what Refused is.
//!
//! Two ways lead from each shard of the new process to the one in its place in the old one, for clients that
//! stay there: DTLS records go back by one, and by the other the data connections that clients with a TCP
//! allocation make (RFC 6062), since both arrive where the listening sockets are.

mod ask;
mod bond;
mod container;
mod deed;
mod error;
mod give;
mod kin;
mod line;
mod take;
mod words;

pub(super) use container::Ancestry;
pub(super) use error::TakeOverError;
pub(super) use give::{Doors, Estate, Giving, Outcome, give};
pub(super) use kin::Kin;
pub(super) use take::{Predecessor, Taken};
pub(super) use words::{Binary, Service};

/// What the new process says on the control socket.
pub(super) const TAKE_OVER: &str = "take-over";
/// How a server answers, after `failed`, that knows no such word.
pub(super) const UNKNOWN_COMMAND: &str = "unknown command";
