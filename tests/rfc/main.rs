//! The rules of the RFCs, one test each, named for the rule.

#[path = "../common/mod.rs"]
mod common;

mod binding;
mod dialogue;
mod fingerprint;
mod smoke;
mod stun_attributes;
mod stun_header;
