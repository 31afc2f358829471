//! The client side: what a server and the network between tell about themselves.
//!
//! Pure as the server's rules are: packets and the time go in; what to send and what was found come
//! out. Who owns the sockets drains `poll_transmit` after each `handle_*` and asks `poll_timeout`.

mod findings;
mod nat;
mod transaction;

pub use findings::{Behaviour, Findings, ProbeError};
pub use nat::{NatProbe, Setup, Transmit, Via};
