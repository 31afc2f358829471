//! Packets from as many forged sources as one likes leave the memory as it is, and cost a client that is
//! let in nothing (requirement S6): on the pure core, every byte of memory counted.
//!
//! A million sources in a debug build, ten million in a release build or on demand:
//! `cargo test --release --test spoofed`.

#[path = "common/mod.rs"]
mod common;
#[path = "../benches/core/counting.rs"]
mod counting;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::random::Random;
use common::{
    Login, Out, World, address, channel_data, lifetime, policy, requested_transport, udp,
};
use turnstone::stun::Method;
use turnstone::turn::{AllocationKey, FiveTuple, Verdict};

const SOURCES: u64 = if cfg!(debug_assertions) {
    1_000_000
} else {
    10_000_000
};
/// A hundred thousand forged packets a second.
const INTERVAL: Duration = Duration::from_micros(10);
/// One packet of the good client, and one for it, among so many forged ones.
const BETWEEN: u64 = 100;
/// Memory that buffers take once and keep.
const WARM_UP: u64 = 10_000;

/// The client that is let in, and its peer.
struct Good {
    client: FiveTuple,
    peer: SocketAddr,
    key: AllocationKey,
    payload: Vec<u8>,
}

impl Good {
    fn new(world: &mut World) -> Self {
        let (client, peer) = (udp("203.0.113.7:4000"), address("198.51.100.9:7000"));
        let relay = world.allocate(client);
        assert_eq!(world.bind_channel(client, 0x4000, peer).code(), None);
        Self {
            client,
            peer,
            key: world.relays[&relay],
            payload: channel_data(0x4000, &[7; 160]),
        }
    }

    /// Both ways, nothing is lost.
    fn talks(&self, world: &mut World) {
        let sent = world
            .server
            .handle_client(world.now, self.client, &self.payload);
        assert!(matches!(sent, Verdict::ToPeer { .. }), "{sent:?}");
        let heard = world
            .server
            .handle_peer(world.now, self.key, self.peer, &[7; 160]);
        assert!(matches!(heard, Verdict::ToClient { .. }), "{heard:?}");
    }

    fn refreshes(&self, world: &mut World) {
        let answer = world.ask(
            &Login::alice(),
            self.client,
            Method::REFRESH,
            &[lifetime(600)],
        );
        assert_eq!(answer.code(), None);
    }
}

/// What strangers send: requests without credentials, with a made-up nonce, data for nobody, noise.
fn hostile_packets(world: &mut World) -> Vec<Vec<u8>> {
    let allocate = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    let transaction = world.transaction();
    let nonce = b"obMatJos2AAABa-made-up-nonce-of-a-stranger";
    let forged = Login::alice().sign(
        transaction,
        Method::ALLOCATE,
        &[requested_transport(17)],
        nonce,
    );
    let binding = world.request(Method::BINDING, &[]);
    vec![
        allocate,
        forged,
        binding,
        channel_data(0x4000, b"x"),
        vec![0; 40],
    ]
}

#[test]
fn s6_spoofed_sources_leave_memory_flat_and_cost_a_good_client_nothing() {
    let mut world = World::new(policy());
    let good = Good::new(&mut world);
    let packets = hostile_packets(&mut world);
    let mut random = Random(66);
    let mut at_first = 0;
    for source in 0..SOURCES {
        if source == WARM_UP {
            at_first = counting::live_bytes();
        }
        // A different address each time: the sequence visits every one.
        let bits = u32::try_from(source).unwrap().wrapping_mul(2_654_435_761);
        let from = FiveTuple {
            client: SocketAddr::new(Ipv4Addr::from_bits(bits).into(), random.u16()),
            ..good.client
        };
        let packet = &packets[usize::try_from(source).unwrap() % packets.len()];
        if from.client.ip() != good.client.client.ip() {
            let _: Out = world.send(from, packet);
        }
        world.pass(INTERVAL);
        if source % BETWEEN == 0 {
            good.talks(&mut world);
        }
        if source % 1_000_000 == 999_999 {
            good.refreshes(&mut world);
        }
    }
    let grown = counting::live_bytes().saturating_sub(at_first);
    assert!(
        grown < 4096,
        "{grown} bytes are kept of {SOURCES} strangers"
    );
    assert!(
        at_first > 0 && counting::calls() > 0,
        "the allocator counts"
    );
    let newcomer = udp("198.18.0.77:5000");
    world.allocate(newcomer);
    assert!(world.server.has_allocation(&newcomer));
}
