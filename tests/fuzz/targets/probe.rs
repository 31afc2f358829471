//! libFuzzer's way into the target.

#![no_main]

#[path = "../probe.rs"]
mod probe;

libfuzzer_sys::fuzz_target!(|data: &[u8]| probe::target(data));
