//! libFuzzer's way into the target.

#![no_main]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../handover.rs"]
mod handover;

libfuzzer_sys::fuzz_target!(|data: &[u8]| handover::target(data));
