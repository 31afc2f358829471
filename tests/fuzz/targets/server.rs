//! libFuzzer's way into the target.

#![no_main]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../server.rs"]
mod server;

libfuzzer_sys::fuzz_target!(|data: &[u8]| server::target(data));
