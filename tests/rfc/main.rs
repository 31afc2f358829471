//! The rules of the RFCs, one test each, named for the rule.

#[path = "../common/mod.rs"]
mod common;

mod smoke;
