//! Replays the committed inputs of the fuzz targets, among them every one that was ever a bug.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::fs;
use std::path::Path;

#[path = "fuzz/access_token.rs"]
mod access_token;
#[path = "fuzz/channel_data.rs"]
mod channel_data;
#[path = "common/mod.rs"]
mod common;
#[path = "fuzz/config.rs"]
mod config;
#[path = "fuzz/dtls.rs"]
mod dtls;
#[path = "fuzz/framing.rs"]
mod framing;
#[path = "fuzz/handover.rs"]
mod handover;
#[path = "fuzz/message.rs"]
mod message;
#[path = "fuzz/probe.rs"]
mod probe;
#[path = "fuzz/proxy_header.rs"]
mod proxy_header;
#[path = "fuzz/server.rs"]
mod server;

fn replay(folder: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(folder);
    let mut inputs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        target(&fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 10, "{inputs} inputs");
}

#[test]
fn messages() {
    replay("message", message::target);
}

#[test]
fn channel_data_messages() {
    replay("channel_data", channel_data::target);
}

#[test]
fn proxy_headers() {
    replay("proxy_header", proxy_header::target);
}

#[test]
fn dtls_datagrams() {
    replay("dtls", dtls::target);
}

#[test]
fn streams_in_pieces() {
    replay("framing", framing::target);
}

#[test]
fn configuration_files() {
    replay("config", config::target);
}

#[test]
fn answers_to_a_probe() {
    replay("probe", probe::target);
}

#[test]
fn sequences_of_packets_and_time() {
    replay("server", server::target);
}

#[test]
fn access_tokens() {
    replay("access_token", access_token::target);
}

#[test]
fn handovers() {
    replay("handover", handover::target);
}
