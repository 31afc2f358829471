//! The rules of STUN and TURN: pure, on values and virtual time (RFC 8489, RFC 8656,
//! RFC 6062).
//!
//! A [`Server`] owns no socket, clock, thread or random source. Packets, events and the time go into
//! its `handle_*` methods; after each of them the owner drains `poll_action` and `poll_response` and
//! asks `poll_timeout`. Time never goes back. The same inputs and seed give the same outputs.

mod access_token;
mod allocation;
mod allocation_key;
mod auth;
mod awaited;
mod bandwidth;
mod by_client;
mod channel;
mod comprehension;
mod data;
mod deadlines;
mod elsewhere;
mod embedded;
mod endings;
mod exchange;
mod five_tuple;
mod handover;
mod hop;
mod icmp;
mod icmp_report;
mod keys;
mod letter;
mod life;
mod live_relays;
mod mobile_id;
mod mobility;
mod moving;
mod nat_discovery;
mod network;
mod nonce;
mod oauth;
mod opaque;
mod opening;
mod outcome;
mod owner;
mod peer_connection;
mod peer_connection_id;
mod peer_filter;
mod peer_refusal;
mod permission;
mod place;
mod policy;
mod policy_change;
mod ports;
mod quota;
mod random;
mod rate_limit;
mod redirect;
mod relay;
mod reply;
mod request;
mod reservation;
mod result_code;
mod security;
mod server;
mod short_way;
mod stats;
mod tcp;
mod ticket;

pub use access_token::{
    AccessToken, KeyError, MacKey, TOKEN_NONCE, TokenAlgorithm, TokenError, TokenKey,
};
pub use allocation_key::AllocationKey;
pub use bandwidth::Bandwidth;
pub use exchange::{Action, Event};
pub use five_tuple::{Family, FiveTuple, Transport};
pub use handover::{Flaw, Handed, Handover, HandoverError, Imported, Problem, RelaySet};
pub use hop::Hop;
pub use icmp::Icmp;
pub use keys::{Credentials, SharedSecret, StoredKey, expiry_of};
pub use letter::Letter;
pub use nat_discovery::NatDiscovery;
pub use network::{Network, NetworkError};
pub use oauth::OAuth;
pub use opaque::opaque_string;
pub use outcome::{Prefix, Reason, Verdict};
pub use peer_connection_id::PeerConnectionId;
pub use peer_filter::{OwnHost, PeerFilter, Rule, RuleAction};
pub use peer_refusal::PeerRefusal;
pub use place::Place;
pub use policy::{External, Lifetimes, Limits, Policy, RelayAddresses, RelaySource};
pub use quota::source_prefix;
pub use redirect::{Admission, Alternates};
pub use security::Security;
pub use server::{Server, Setup, Shared};
pub use stats::{
    AllocationEnd, AuthFailure, ConnectionEnd, Counter, Direction, Eviction, HandshakeFailure,
    HopWay, PassOutcome, PeerEnd, PeerOrigin, RequestMethod, ResultCode, SLOTS, Source, Stats,
};
