//! libFuzzer's way into the target.

#![no_main]

#[path = "../config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::target(data));
