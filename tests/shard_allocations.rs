//! A relayed packet allocates nothing: counted on the shard's own thread.

#[path = "shard/client.rs"]
mod client;
#[path = "shard/dtls_link.rs"]
mod dtls_link;
#[path = "shard/harness.rs"]
mod harness;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use client::Client;
use harness::{Options, peer, start, wait_until};
use turnstone::turn::{Counter, HopWay};

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, which counts what the shard's thread asks of it.
struct Counting;

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
mod allocator {
    use std::alloc::{GlobalAlloc, Layout, System};

    // SAFETY: every call goes to the system's allocator as it came.
    unsafe impl GlobalAlloc for super::Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            super::count();
            // SAFETY: as the caller promised.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: as the caller promised.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            super::count();
            // SAFETY: as the caller promised.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_relayed_packet_allocates_nothing() {
    let options = Options {
        shards: 2,
        on_start: || COUNTED.with(|counted| counted.set(true)),
        ..Options::default()
    };
    let shards = start(&options);
    let mut udp = Client::udp(shards.v4());
    let mut tcp = Client::tcp(shards.v6());
    let mut relays = Vec::new();
    for client in [&mut udp, &mut tcp] {
        let relayed = client.allocate();
        let peer = peer(relayed.ip());
        client.bind(0x4000, peer.local_addr().expect("an address"));
        relays.push((peer, relayed));
    }
    let mut relay = |rounds: usize| {
        let mut buffer = [0; 2048];
        for _ in 0..rounds {
            for (client, (peer, relayed)) in [&mut udp, &mut tcp].into_iter().zip(&relays) {
                for _ in 0..10 {
                    client.send_data(0x4000, &[7; 1200]);
                }
                for _ in 0..10 {
                    assert_eq!(peer.recv(&mut buffer).expect("a datagram"), 1200);
                    peer.send_to(&buffer[..1200], relayed).expect("sent");
                }
                for _ in 0..10 {
                    assert_eq!(client.receive_data(0x4000).len(), 1200);
                }
            }
        }
    };
    relay(50);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the counter counts");
    allocates_nothing(|| relay(200), "8000 packets");
    hops_allocate_nothing(&shards);
    shards.stop();
}

/// Buffers grow with the longest burst that there was, and that is the machine's luck: but not each time.
fn allocates_nothing(mut relay: impl FnMut(), what: &str) {
    let mut count = || {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        relay();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let counts: Vec<u64> = (0..10).map(|_| count()).take_while(|n| *n > 0).collect();
    assert!(counts.len() < 10, "allocations for {what}: {counts:?}");
}

/// Between clients, in one shard and from shard to shard.
fn hops_allocate_nothing(shards: &harness::Shards) {
    let mut pairs: Vec<[Client; 2]> = (0..32)
        .map(|_| [Client::udp(shards.v4()), Client::udp(shards.v4())])
        .collect();
    for [a, b] in &mut pairs {
        let (near, far) = (a.allocate(), b.allocate());
        a.bind(0x4000, far);
        b.bind(0x4000, near);
    }
    let mut relay = |rounds: usize| {
        for _ in 0..rounds {
            for [a, b] in &mut pairs {
                for _ in 0..10 {
                    a.send_data(0x4000, &[7; 1200]);
                }
                for _ in 0..10 {
                    assert_eq!(b.receive_data(0x4000).len(), 1200);
                }
            }
        }
    };
    relay(20);
    allocates_nothing(|| relay(20), "6400 hops");
    for way in HopWay::ALL {
        let hops = || shards.get(Counter::RelayHops(*way));
        wait_until(|| format!("no {way:?}"), || hops() > 0);
    }
}
