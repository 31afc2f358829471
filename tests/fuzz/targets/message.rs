//! libFuzzer's way into the target.

#![no_main]

#[path = "../message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| message::target(data));
