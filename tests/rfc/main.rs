//! The rules of the RFCs, one test each, named for the rule.

#[path = "../common/mod.rs"]
mod common;

mod allocate;
mod allocate_refused;
mod binding;
mod channel_bind;
mod create_permission;
mod dialogue;
mod fingerprint;
mod lifetime;
mod long_term;
mod refresh;
mod retransmission;
mod smoke;
mod stun_attributes;
mod stun_header;
