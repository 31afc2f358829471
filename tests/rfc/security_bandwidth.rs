//! Limits on bandwidth, and fair shares of it: nobody starves, voice survives, and it all holds over all
//! shards together.

use std::num::NonZeroU64;
use std::time::Duration;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Bandwidth, Counter, FiveTuple, Reason};

use crate::common::{Login, Out, World, channel_number, policy, requested_transport, udp};
use crate::dialogue::peer;

const MBIT: u64 = 1_000_000;

/// Somebody who sends packets of one size at a steady rate, each millisecond's worth at once.
struct Sender {
    shard: usize,
    from: FiveTuple,
    relay: std::net::SocketAddr,
    size: usize,
    bits_per_second: u64,
    owed: u64,
    sent: u64,
    passed: u64,
}

struct Town {
    shards: Vec<World>,
    senders: Vec<Sender>,
}

impl Town {
    fn new(shards: u16, bandwidth: Bandwidth) -> Self {
        let mut policy = policy();
        policy.bandwidth = bandwidth;
        Self {
            shards: World::group(policy, shards, 7),
            senders: Vec::new(),
        }
    }

    /// A further allocation of `user`, with a channel to the peer.
    fn add(&mut self, user: &str, shard: usize, size: usize, bits_per_second: u64) -> usize {
        let world = &mut self.shards[shard];
        let from = udp(&format!("203.0.113.7:{}", 1000 + self.senders.len()));
        let login = Login::time_limited(user, world.now.unix.0 + 1000);
        let transport = requested_transport(17);
        let allocated = world.ask(&login, from, Method::ALLOCATE, &[transport]);
        let relay = allocated.xor_address(AttributeType::XOR_RELAYED_ADDRESS);
        let relay = relay.expect("a relayed address");
        let channel = [channel_number(0x4000), world.xor_peer(peer())];
        let bound = world.ask(&login, from, Method::CHANNEL_BIND, &channel);
        assert_eq!(bound.code(), None);
        self.senders.push(Sender {
            shard,
            from,
            relay,
            size,
            bits_per_second,
            owed: 0,
            sent: 0,
            passed: 0,
        });
        self.senders.len() - 1
    }

    /// Lets everybody send for so many milliseconds, to the peer and back.
    fn run(&mut self, millis: u64, send: fn(&mut World, &Sender) -> bool) {
        for _ in 0..millis {
            for sender in &mut self.senders {
                sender.owed += sender.bits_per_second / 8;
                let packet = sender.size as u64 * 1000;
                while sender.owed >= packet {
                    sender.owed -= packet;
                    sender.sent += 1;
                    let passed = send(&mut self.shards[sender.shard], sender);
                    sender.passed += u64::from(passed);
                }
            }
            for world in &mut self.shards {
                world.pass(Duration::from_millis(1));
            }
        }
    }

    /// Forgets what was counted.
    fn count_anew(&mut self) {
        for sender in &mut self.senders {
            (sender.sent, sender.passed) = (0, 0);
        }
    }

    /// What passed of a sender, in bits per second, after so many milliseconds.
    fn rate(&self, sender: usize, millis: u64) -> u64 {
        let sender = &self.senders[sender];
        sender.passed * sender.size as u64 * 8 * 1000 / millis
    }

    fn dropped(&self, reason: Reason) -> u64 {
        let stats = self.shards.iter().map(|world| world.server.stats());
        stats.map(|stats| stats.get(Counter::Dropped(reason))).sum()
    }
}

fn to_peer(world: &mut World, sender: &Sender) -> bool {
    let [high, low] = u16::try_from(sender.size).unwrap().to_be_bytes();
    let mut packet = vec![0x40, 0, high, low];
    packet.resize(4 + sender.size, 7);
    world.send(sender.from, &packet) != Out::Nothing
}

fn to_client(world: &mut World, sender: &Sender) -> bool {
    let payload = vec![7; sender.size];
    world.peer_sends(sender.relay, peer(), &payload) != Out::Nothing
}

fn limit(mbit: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(mbit * MBIT)
}

/// `rate` is within a twentieth of `mbit`.
#[track_caller]
fn is_about(rate: u64, mbit: u64) {
    let expected = mbit * MBIT;
    assert!(
        rate.abs_diff(expected) <= expected / 20,
        "{rate} bits per second"
    );
}

#[test]
fn an_allocation_gets_its_bandwidth_each_way() {
    for way in [to_peer, to_client] {
        let per_allocation = limit(2);
        let mut town = Town::new(
            1,
            Bandwidth {
                per_allocation,
                ..Bandwidth::default()
            },
        );
        let greedy = town.add("alice", 0, 1200, 20 * MBIT);
        let other = town.add("alice", 0, 1200, MBIT);
        town.run(1000, way);
        town.count_anew();
        town.run(5000, way);
        is_about(town.rate(greedy, 5000), 2);
        assert_eq!(town.senders[other].passed, town.senders[other].sent);
        assert!(town.dropped(Reason::AllocationBandwidth) > 1000);
    }
}

#[test]
fn a_user_gets_one_bandwidth_for_all_allocations_on_all_shards() {
    for way in [to_peer, to_client] {
        let per_user = limit(4);
        let mut town = Town::new(
            2,
            Bandwidth {
                per_user,
                ..Bandwidth::default()
            },
        );
        let own: Vec<_> = (0..4)
            .map(|i| town.add("alice", i % 2, 1200, 4 * MBIT))
            .collect();
        let other = town.add("bob", 0, 1200, 3 * MBIT);
        town.run(1000, way);
        town.count_anew();
        town.run(5000, way);
        is_about(own.iter().map(|place| town.rate(*place, 5000)).sum(), 4);
        assert_eq!(town.senders[other].passed, town.senders[other].sent);
        assert!(town.dropped(Reason::UserBandwidth) > 1000);
    }
}

#[test]
fn one_who_sends_ten_times_its_share_costs_nine_others_nothing() {
    for (shards, way) in [
        (1, to_peer as fn(&mut World, &Sender) -> bool),
        (2, to_client),
    ] {
        let total = limit(20);
        let mut town = Town::new(
            shards,
            Bandwidth {
                total,
                ..Bandwidth::default()
            },
        );
        let shard = |i: u16| usize::from(i % shards);
        let modest: Vec<_> = (0..9)
            .map(|i| town.add(&format!("user{i}"), shard(i), 1200, MBIT))
            .collect();
        let greedy = town.add("greedy", 0, 1200, 20 * MBIT);
        town.run(10_000, way);
        for place in modest {
            let sender = &town.senders[place];
            assert_eq!(sender.passed, sender.sent, "{place} of {shards} shards");
        }
        town.count_anew();
        town.run(5000, way);
        // What nine leave, less the little that keeps the limit itself from dropping anything.
        let rate = town.rate(greedy, 5000);
        assert!(
            (10 * MBIT..=11 * MBIT).contains(&rate),
            "{rate} bits per second"
        );
    }
}

#[test]
fn users_who_want_more_than_there_is_get_equal_shares() {
    let total = limit(12);
    let mut town = Town::new(
        2,
        Bandwidth {
            total,
            ..Bandwidth::default()
        },
    );
    for (i, wanted) in [6, 12, 24, 48].into_iter().enumerate() {
        town.add(&format!("user{i}"), i % 2, 1200, wanted * MBIT);
    }
    town.run(10_000, to_peer);
    town.count_anew();
    town.run(10_000, to_peer);
    (0..4).for_each(|place| is_about(town.rate(place, 10_000), 3));
    assert!(town.dropped(Reason::FairShare) > 1000);
}

#[test]
fn what_one_does_not_use_is_lent_and_comes_back() {
    let total = limit(10);
    let mut town = Town::new(
        1,
        Bandwidth {
            total,
            ..Bandwidth::default()
        },
    );
    let (first, second) = (
        town.add("alice", 0, 1200, 50 * MBIT),
        town.add("bob", 0, 1200, 0),
    );
    town.run(5000, to_peer);
    town.count_anew();
    town.run(5000, to_peer);
    is_about(town.rate(first, 5000), 10);
    town.senders[second].bits_per_second = 50 * MBIT;
    town.run(5000, to_peer);
    town.count_anew();
    town.run(5000, to_peer);
    is_about(town.rate(first, 5000), 5);
    is_about(town.rate(second, 5000), 5);
}

#[test]
fn voice_survives_when_video_is_dropped() {
    let bandwidth = Bandwidth {
        per_allocation: limit(2),
        per_user: limit(2),
        total: limit(4),
    };
    let mut town = Town::new(1, bandwidth);
    let video = town.add("alice", 0, 1200, 20 * MBIT);
    let voice = town.add("alice", 0, 160, 64_000);
    town.run(10_000, to_peer);
    let heard = &town.senders[voice];
    assert_eq!(heard.passed, heard.sent);
    assert!(town.senders[video].passed < town.senders[video].sent / 5);
}

/// S16.
#[test]
fn nobody_is_measured_when_all_are_gone() {
    let bandwidth = Bandwidth {
        per_user: limit(2),
        ..Bandwidth::default()
    };
    let mut town = Town::new(2, bandwidth);
    for i in 0..6 {
        town.add(&format!("user{}", i % 3), i % 2, 1200, MBIT);
    }
    town.run(100, to_peer);
    assert!(!town.shards[0].shared.is_idle());
    for sender in town.senders.drain(..) {
        town.shards[sender.shard].client_gone(sender.from);
    }
    assert!(town.shards[0].shared.is_idle());
}

/// A limit that comes, goes or changes with a new policy is in force at once.
#[test]
fn a_new_limit_holds_for_allocations_that_live() {
    let mut town = Town::new(1, Bandwidth::default());
    let sender = town.add("alice", 0, 1200, 20 * MBIT);
    town.run(1000, to_peer);
    assert_eq!(town.senders[sender].passed, town.senders[sender].sent);
    let mut narrow = policy();
    narrow.bandwidth.per_user = limit(1);
    town.shards[0].swap_policy(narrow);
    town.run(1000, to_peer);
    town.count_anew();
    town.run(5000, to_peer);
    is_about(town.rate(sender, 5000), 1);
    town.shards[0].swap_policy(policy());
    town.count_anew();
    town.run(1000, to_peer);
    assert_eq!(town.senders[sender].passed, town.senders[sender].sent);
}
