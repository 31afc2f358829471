//! libFuzzer's way into the target.

#![no_main]

#[path = "../channel_data.rs"]
mod channel_data;

libfuzzer_sys::fuzz_target!(|data: &[u8]| channel_data::target(data));
