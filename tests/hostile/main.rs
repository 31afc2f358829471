//! Hostile input, from a seed: whatever arrives, nothing panics, every packet is counted once, and no
//! table grows beyond its bounds.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "../fuzz/access_token.rs"]
mod access_token;
#[path = "../fuzz/channel_data.rs"]
mod channel_data;
#[path = "../common/mod.rs"]
mod common;
#[path = "../fuzz/dtls.rs"]
mod dtls;
#[path = "../fuzz/handover.rs"]
mod handover;
#[path = "../fuzz/message.rs"]
mod message;
#[path = "../fuzz/proxy_header.rs"]
mod proxy_header;

mod inputs;
mod siege;

use common::random::Random;
use inputs::{mutate, seeds, seeds_in};
use siege::Siege;

/// Nearly two million inputs in all.
const MESSAGES: usize = 1_000_000;
const CHANNEL_DATA: usize = 200_000;
const PROXY_HEADERS: usize = 100_000;
const ACCESS_TOKENS: usize = 30_000;
const PACKETS: usize = 500_000;
/// Each of these is several datagrams and, when a cookie is good, a signature.
const DTLS: usize = 10_000;
/// Each of these is a server that begins and ends.
const HANDOVERS: usize = 3_000;

#[test]
fn no_bytes_hurt_the_message_view() {
    let seeds = seeds();
    let mut random = Random(1);
    let mut accepted = 0;
    for _ in 0..MESSAGES {
        let input = mutate(&seeds, &mut random);
        accepted += usize::from(turnstone::stun::Message::parse(&input).is_ok());
        message::target(&input);
    }
    assert!(
        accepted > MESSAGES / 10,
        "{accepted} inputs got past the header"
    );
}

#[test]
fn no_bytes_hurt_channel_data() {
    let seeds = seeds();
    let mut random = Random(2);
    for _ in 0..CHANNEL_DATA {
        channel_data::target(&mutate(&seeds, &mut random));
    }
}

#[test]
fn no_bytes_hurt_the_proxy_header() {
    let seeds = seeds_in(&["proxy_header"]);
    let mut random = Random(6);
    for _ in 0..PROXY_HEADERS {
        let mut input = mutate(&seeds, &mut random);
        input.truncate(256);
        proxy_header::target(&input);
    }
}

#[test]
fn no_datagrams_hurt_dtls() {
    let seeds = seeds_in(&["dtls"]);
    let mut random = Random(5);
    for _ in 0..DTLS {
        dtls::target(&mutate(&seeds, &mut random));
    }
}

#[test]
fn no_bytes_hurt_access_tokens() {
    let seeds = seeds_in(&["access_token"]);
    let mut random = Random(4);
    for _ in 0..ACCESS_TOKENS {
        access_token::target(&mutate(&seeds, &mut random));
    }
}

#[test]
fn no_bytes_hurt_who_takes_over() {
    let seeds = seeds_in(&["handover"]);
    let mut random = Random(7);
    for _ in 0..HANDOVERS {
        handover::target(&mutate(&seeds, &mut random));
    }
}

#[test]
fn no_packet_hurts_the_server() {
    let mut siege = Siege::new(5);
    for _ in 0..PACKETS {
        siege.step();
    }
    siege.lift();
}
