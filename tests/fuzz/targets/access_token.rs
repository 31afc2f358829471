//! libFuzzer's way into the target.

#![no_main]

#[path = "../access_token.rs"]
mod access_token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| access_token::target(data));
