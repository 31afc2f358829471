//! Data connections of TCP allocations that come to any shard (RFC 6062 §5.4).

use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use turnstone::turn::{Counter, PeerEnd, Transport};

use crate::client::Client;
use crate::harness::{Options, PATIENCE, Shards, start};
use crate::tcp_scene::{LAST_WORDS, Scene, ended, hears, is_closed, noise};

/// A connection that the kernel gave to the shard of that index.
fn client_of(shards: &Shards, wanted: usize) -> Client {
    for _ in 0..200 {
        let accepted = || [0, 1].map(|shard| accepted(shards, shard));
        let before = accepted();
        let client = Client::tcp(shards.v4());
        let deadline = Instant::now() + PATIENCE;
        while accepted() == before && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if accepted()[wanted] != before[wanted] {
            return client;
        }
    }
    panic!("the kernel gives shard {wanted} nothing");
}

fn accepted(shards: &Shards, shard: usize) -> u64 {
    let counter = Counter::ConnectionsAccepted(Transport::Tcp);
    shards.published(shard).stats.get(counter)
}

/// RFC 6062 §5.4: whichever shards the two connections come to.
#[test]
fn the_data_connection_may_come_to_any_shard() {
    for (owner, binder) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let options = Options {
            shards: 2,
            ..Options::default()
        };
        let shards = start(&options);
        let mut control = client_of(&shards, owner);
        let relayed = control.allocate_tcp();
        let peer = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a port");
        let mut scene = Scene {
            shards,
            control,
            relayed,
            peer,
        };
        let last = noise(LAST_WORDS);
        for arrives in [true, false] {
            let (id, mut far) = if arrives {
                scene.arrive()
            } else {
                scene.connect()
            };
            let data = client_of(&scene.shards, binder);
            let (mut near, _) = data.bind_connection(id, b"early");
            hears(&mut far, b"early");
            far.write_all(&last).expect("sent");
            hears(&mut near, &last);
            drop(near);
            assert!(is_closed(&mut far));
        }
        // The same peer once more: the owner has learnt that the first connection is over.
        scene.shards.wait_for(ended(PeerEnd::Closed), 2);
        let (id, mut far) = scene.arrive();
        let data = client_of(&scene.shards, binder);
        let (mut near, _) = data.bind_connection(id, b"");
        scene.control.refresh(0);
        assert!(is_closed(&mut near) && is_closed(&mut far));
        scene.shards.wait_for(ended(PeerEnd::AllocationGone), 1);
        let joined_at = |shard: usize| {
            let published = scene.shards.published(shard);
            published.stats.get(ended(PeerEnd::Closed))
        };
        assert_eq!(joined_at(binder), 2, "the pipe is where the client is");
        scene.shards.stop();
    }
}
