//! Counters that a shard is asked for.

use std::sync::mpsc::TryRecvError;

use turnstone::turn::{Counter, Family, Transport};

use crate::client::Client;
use crate::harness::{Options, PATIENCE, start};

#[test]
fn what_a_shard_has_done_is_published_when_it_is_asked() {
    let shards = start(&Options::default());
    let mut client = Client::udp(shards.v4());
    let allocations = || shards.get(Counter::Allocations(Transport::Udp, Family::V4));
    // Faster than it publishes by itself.
    for _ in 0..20 {
        for lives in [1, 0] {
            match lives {
                1 => drop(client.allocate()),
                _ => client.refresh(0),
            }
            let published = shards.handle(0).publish();
            published.recv_timeout(PATIENCE).expect("an answer");
            assert_eq!(allocations(), lives);
        }
    }
    shards.stop();
}

#[test]
fn a_shard_that_stands_still_answers_when_it_goes_on() {
    let shards = start(&Options::default());
    shards.freezer().freeze().expect("it settles");
    let published = shards.handle(0).publish();
    // The freezer's word is read behind the question.
    assert!(shards.freezer().hold().is_err());
    assert_eq!(published.try_recv(), Err(TryRecvError::Empty));
    shards.freezer().resume();
    published.recv_timeout(PATIENCE).expect("an answer");
    shards.stop();
}
