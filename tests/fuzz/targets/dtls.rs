//! libFuzzer's way into the target.

#![no_main]

#[path = "../dtls.rs"]
mod dtls;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtls::target(data));
