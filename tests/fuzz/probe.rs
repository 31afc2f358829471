//! Any server and any network: a probe ends, and what comes back does not harm it.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::probe::{NatProbe, Setup, Transmit, Via};
use turnstone::time::Instant;

/// More than a probe can need, with every transaction at its longest.
const PATIENCE: Duration = Duration::from_secs(40);
const LONGEST: Duration = Duration::from_secs(400);
const ADDRESSES: [&str; 6] = [
    "192.0.2.10:3478",
    "192.0.2.11:3479",
    "192.0.2.10:3479",
    "192.0.2.11:3478",
    "203.0.113.1:40000",
    "[2001:db8::1]:3478",
];

/// One input, which tells what comes back and when; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    let start = Instant::ZERO;
    let setup = Setup {
        server: address(0),
        local: "10.0.0.2:4000".parse().expect("an address"),
        seed: *b"seed of ids!",
        patience: PATIENCE,
    };
    let mut probe = NatProbe::new(setup, start);
    let (mut now, mut input, mut sent) = (start, data, Vec::new());
    while probe.outcome().is_none() {
        while let Some(transmit) = probe.poll_transmit(now) {
            sent.push(transmit);
            assert!(sent.len() < 100, "requests without end");
        }
        let answer = take(&mut input, 4).and_then(|head| answer(head, &mut input, &sent));
        if let Some((via, from, bytes)) = answer {
            probe.handle_packet(now, via, from, &bytes);
        } else if probe.outcome().is_none() {
            let due = probe.poll_timeout().expect("it waits for something");
            now = now.max(due);
        }
        assert!(now.since(start) < LONGEST, "it goes on for ever");
    }
}

/// What comes back as `head` says: to which socket, from where, with which bytes.
fn answer(head: &[u8], input: &mut &[u8], sent: &[Transmit]) -> Option<(Via, SocketAddr, Vec<u8>)> {
    let [what, which, from, length] = *head else {
        return None;
    };
    let via = if what & 0x80 == 0 {
        Via::Main
    } else {
        Via::Second
    };
    let body = take(input, usize::from(length))?;
    let request = sent.get(usize::from(which) % sent.len().max(1))?;
    let mut bytes = request.bytes.clone();
    match what % 5 {
        0 => return None,
        1 => bytes = body.to_vec(),
        2 => {}
        kind => {
            bytes[0] = 1;
            bytes[1] = if kind == 3 { 0x01 } else { 0x11 };
            bytes.truncate(20);
            bytes.extend_from_slice(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let [low, high, ..] = (bytes.len() - 20).to_le_bytes();
            bytes[2..4].copy_from_slice(&[high, low]);
        }
    }
    Some((via, address(from.into()), bytes))
}

fn address(place: usize) -> SocketAddr {
    let text = ADDRESSES[place % ADDRESSES.len()];
    text.parse().expect("an address")
}

/// The next `count` bytes, if there are so many.
fn take<'d>(input: &mut &'d [u8], count: usize) -> Option<&'d [u8]> {
    let (taken, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(taken)
}
