//! libFuzzer's way into the target.

#![no_main]

#[path = "../framing.rs"]
mod framing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing::target(data));
