//! The rules of STUN and TURN: pure, on values and virtual time (RFC 8489, RFC 8656).
//!
//! A [`Server`] owns no socket, clock, thread or random source. Packets, events and the time go into
//! its `handle_*` methods; after each of them the owner drains `poll_action` and `poll_response` and
//! asks `poll_timeout`. Time never goes back. The same inputs and seed give the same outputs.

mod allocation;
mod five_tuple;
mod keys;
mod outcome;
mod peer_filter;
mod policy;
mod server;
mod stats;

pub use allocation::AllocationKey;
pub use five_tuple::{Family, FiveTuple, Transport};
pub use keys::{Credentials, SharedSecret, StoredKey};
pub use outcome::{Prefix, Reason, Verdict};
pub use peer_filter::{Action as RuleAction, Network, NetworkError, OwnHost, PeerFilter, Rule};
pub use policy::{External, Lifetimes, Limits, Policy, RelayAddresses, RelaySource};
pub use server::{Action, Event, Server, Setup, Shared};
pub use stats::{
    AllocationEnd, AuthFailure, ConnectionEnd, Counter, Direction, RequestMethod, ResultCode,
    SLOTS, Source, Stats,
};
