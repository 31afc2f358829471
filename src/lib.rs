//! Turnstone, a STUN/TURN NAT-traversal relay server.
//!
//! The rooms form a ladder; each imports only from rooms on lower rungs:
//!
//! ```text
//! 5  main, cli
//! 4  control                                     may wait: HTTP, signals
//! 3  shard                                       one thread per core; never waits
//!    load                                        the load tester
//! 2  transport · net · metrics · credentials · config · probe
//! 1  turn                                        the rules
//! 0  stun · time                                 the wire; values
//! ```

pub mod cli;
pub mod config;
pub mod control;
pub mod credentials;
pub mod load;
pub mod metrics;
pub mod net;
pub mod probe;
pub mod shard;
pub mod stun;
pub mod time;
pub mod transport;
pub mod turn;
