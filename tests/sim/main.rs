//! A whole deployment on virtual time, from one seed: clients, NATs, links, peers and shards.
//!
//! A failing seed is named; `TURNSTONE_SIM_SEED=N cargo test --test sim` runs it alone, and
//! `TURNSTONE_SIM_SEEDS=COUNT` runs more of them than usual.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod coverage;
mod deployment;
mod exhaust;
mod model;
mod network;
mod oracle;
mod payload;
mod peer;
mod plan;
mod properties;
mod resources;
mod rng;
mod scenarios;
mod seeds;
mod shards;
mod transaction;
