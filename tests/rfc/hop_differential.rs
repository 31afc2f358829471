//! The short way against the wire: the same sequence gives the same messages and the same counters.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::turn::{
    Bandwidth, Counter, Direction, External, FiveTuple, HopWay, Policy, Reason, Rule, RuleAction,
    Source, Stats,
};

use crate::common::random::Random;
use crate::common::{
    Login, Out, World, additional_family, channel_data, ip, lifetime, peers, policy,
    requested_transport, tcp, udp,
};
use crate::dialogue::seconds;

const SHARDS: usize = 2;
const STEPS: usize = 400;

/// The same servers twice: in one of them packets between allocations hop, in the other they pass the relay
/// sockets, which the test plays.
struct Twins {
    hopping: Vec<World>,
    wired: Vec<World>,
    /// How many packets hopped, and how many of them reached a client.
    hops: usize,
    reached: usize,
}

/// A client, its shard, and its relayed addresses.
#[derive(Clone, Debug)]
struct Party {
    shard: usize,
    from: FiveTuple,
    relays: Vec<SocketAddr>,
}

impl Twins {
    fn new(policy: impl Fn() -> Policy) -> Self {
        let shards = u16::try_from(SHARDS).unwrap();
        let mut hopping = World::group(policy(), shards, 7);
        hopping.iter_mut().for_each(|world| world.hops = true);
        Self {
            hopping,
            wired: World::group(policy(), shards, 7),
            hops: 0,
            reached: 0,
        }
    }

    /// Does the same in both; the result, which has to be the same.
    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        shard: usize,
        mut act: impl FnMut(&mut World) -> T,
    ) -> T {
        let one = act(&mut self.hopping[shard]);
        assert_eq!(one, act(&mut self.wired[shard]));
        one
    }

    /// Sends a packet to another allocation, both ways.
    fn send(&mut self, from: &Party, packet: &[u8]) {
        let hopped = match self.hopping[from.shard].send(from.from, packet) {
            Out::ToRelay { hop, payload } => {
                self.hops += 1;
                let to = usize::from(hop.to.shard);
                self.hopping[to]
                    .receives(&hop, &payload)
                    .expect("nobody moved")
            }
            out => out,
        };
        let mut wired = self.wired[from.shard].send(from.from, packet);
        if let Out::ToPeer {
            from,
            peer,
            payload,
        } = &wired
        {
            let mut all = self.wired.iter_mut();
            // Behind a 1:1 NAT an address that is no relay's any more is somewhere outside.
            if let Some(world) = all.find(|world| world.relays.contains_key(peer)) {
                wired = world.peer_sends(*peer, *from, payload);
            }
        }
        self.reached += usize::from(matches!(hopped, Out::ToClient { .. }));
        assert_eq!(hopped, wired, "{from:?} {packet:02x?}");
    }

    /// Every counter is alike but that of hops itself.
    fn compare(&self) {
        let ways = HopWay::ALL
            .iter()
            .map(|way| Counter::RelayHops(*way).slot());
        let ways: Vec<usize> = ways.collect();
        let counters = |stats: &Stats| {
            let slots = stats.slots().iter().enumerate();
            slots
                .filter(|(slot, _)| !ways.contains(slot))
                .map(|(_, value)| *value)
                .collect::<Vec<u64>>()
        };
        for (hopping, wired) in self.hopping.iter().zip(&self.wired) {
            let (hopping, wired) = (hopping.server.stats(), wired.server.stats());
            assert_eq!(counters(hopping), counters(wired));
            check_sum(hopping);
        }
    }

    fn sum(&self, counter: Counter) -> u64 {
        let stats = self.hopping.iter().map(|world| world.server.stats());
        stats.map(|stats| stats.get(counter)).sum()
    }
}

/// received = relayed + answered + parked + dropped
fn check_sum(stats: &Stats) {
    let received = Source::ALL
        .iter()
        .map(|it| stats.get(Counter::ReceivedPackets(*it)));
    let relayed = Direction::ALL
        .iter()
        .map(|it| stats.get(Counter::RelayedPackets(*it)));
    let dropped = Reason::ALL
        .iter()
        .map(|it| stats.get(Counter::Dropped(*it)));
    let rest = [Counter::Answered, Counter::Parked].map(|counter| stats.get(counter));
    let outcomes = relayed.chain(dropped).chain(rest).sum::<u64>();
    assert_eq!(received.sum::<u64>(), outcomes);
}

/// Clients of every kind, on both shards, with an allocation of both families each.
fn parties(twins: &mut Twins) -> Vec<Party> {
    let kinds = [
        udp("203.0.113.7:4000"),
        tcp("203.0.113.7:4000"),
        udp("[2001:db8:2::1]:4000"),
        crate::common::dtls("203.0.113.7:4001"),
        udp("203.0.113.9:4000"),
        tcp("[2001:db8:2::1]:4000"),
    ];
    let mut parties = Vec::new();
    for (place, from) in kinds.into_iter().enumerate() {
        let mut party = Party {
            shard: place % SHARDS,
            from,
            relays: Vec::new(),
        };
        allocate(twins, &mut party);
        parties.push(party);
    }
    parties
}

fn allocate(twins: &mut Twins, party: &mut Party) {
    let both = [requested_transport(17), additional_family(2)];
    let from = party.from;
    let answer = twins.both(party.shard, |world| {
        world.ask(&Login::alice(), from, Method::ALLOCATE, &both).0
    });
    let answer = crate::common::Response(answer);
    assert_eq!(answer.code(), None);
    let message = answer.message();
    let relayed = message
        .attributes()
        .filter(|it| it.kind == AttributeType::XOR_RELAYED_ADDRESS);
    party.relays = relayed
        .map(|it| message.xor_address(&it).unwrap())
        .collect();
}

/// One random thing that a client does.
fn step(twins: &mut Twins, random: &mut Random, parties: &mut [Party]) {
    let place = random.below(parties.len());
    let party = parties[place].clone();
    let peer = {
        let to = random.pick(parties);
        *random.pick(&to.relays)
    };
    let number = 0x4000 + u16::try_from(random.below(4)).unwrap();
    let (shard, from) = (party.shard, party.from);
    match random.below(20) {
        0..=2 => {
            twins.both(shard, |world| world.permit(from, peer).code());
        }
        3..=5 => {
            twins.both(shard, |world| world.bind_channel(from, number, peer).code());
        }
        6..=12 => twins.send(&party, &channel_data(number, &payload(random))),
        13..=17 => {
            let packet = indication(peer, &payload(random), random.once_in(2));
            twins.send(&party, &packet);
        }
        18 if random.once_in(4) => {
            let gone = [lifetime(0)];
            twins.both(shard, |world| {
                world
                    .ask(&Login::alice(), from, Method::REFRESH, &gone)
                    .code()
            });
            allocate(twins, &mut parties[place]);
        }
        _ => {
            let duration = seconds(random.next() % 40);
            for shard in 0..SHARDS {
                twins.both(shard, |world| world.pass(duration));
            }
        }
    }
}

fn payload(random: &mut Random) -> Vec<u8> {
    let length = *random.pick(&[0, 1, 2, 3, 4, 160, 1200, 1201, 1450]);
    (0..length).map(|_| random.byte()).collect()
}

fn indication(to: SocketAddr, data: &[u8], whole: bool) -> Vec<u8> {
    let mut buffer = Vec::new();
    let id = TransactionId([7; 12]);
    let mut builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id);
    builder.xor_address(AttributeType::XOR_PEER_ADDRESS, to);
    if whole {
        builder.attribute(AttributeType::DONT_FRAGMENT, b"");
    }
    builder.attribute(AttributeType::DATA, data);
    buffer
}

fn run(policy: impl Fn() -> Policy, then: impl Fn() -> Policy) -> Twins {
    let mut twins = Twins::new(policy);
    for seed in 0..10 {
        let mut random = Random(seed);
        let mut parties = parties(&mut twins);
        for _ in 0..STEPS {
            step(&mut twins, &mut random, &mut parties);
        }
        twins.compare();
        for shard in 0..SHARDS {
            twins.both(shard, |world| world.pass(seconds(3600)));
        }
    }
    let mut random = Random(99);
    let mut parties = parties(&mut twins);
    for step_of in 0..STEPS {
        if step_of == STEPS / 2 {
            for shard in 0..SHARDS {
                twins.both(shard, |world| world.swap_policy(then()));
            }
        }
        step(&mut twins, &mut random, &mut parties);
    }
    twins.compare();
    let hopped = HopWay::ALL
        .iter()
        .map(|way| twins.sum(Counter::RelayHops(*way)));
    let hopped: Vec<u64> = hopped.collect();
    assert!(hopped.iter().all(|hops| *hops > 20), "{hopped:?}");
    assert_eq!(hopped.iter().sum::<u64>(), twins.hops as u64);
    assert!(twins.reached > 100, "{}", twins.reached);
    twins
}

/// A policy under which no relay of IPv4 may be a peer any more.
fn denying() -> Policy {
    let mut policy = policy();
    let rule = Rule {
        network: "192.0.2.0/24".parse().unwrap(),
        action: RuleAction::Deny,
    };
    policy.peers = turnstone::turn::PeerFilter::new(&[rule], &Default::default());
    policy
}

#[test]
fn the_short_way_is_the_wire_to_clients_and_counters() {
    let twins = run(policy, denying);
    for reason in [
        Reason::NoPermission,
        Reason::NoChannel,
        Reason::ForbiddenPeer,
    ] {
        assert!(twins.sum(Counter::Dropped(reason)) > 0, "{reason:?}");
    }
}

#[test]
fn the_short_way_is_the_wire_behind_a_nat() {
    let external = || {
        let mut policy = policy();
        policy.relay.external = ["9.9.9.200", "2606:4700::1"]
            .map(|public| External {
                local: None,
                public: ip(public),
            })
            .to_vec();
        policy.peers = peers(&[]);
        policy
    };
    run(external, external);
}

#[test]
fn the_short_way_is_the_wire_under_limits_on_bandwidth() {
    let limited = || {
        let mut policy = policy();
        policy.bandwidth = Bandwidth {
            per_allocation: NonZeroU64::new(20_000),
            per_user: NonZeroU64::new(60_000),
            total: NonZeroU64::new(80_000),
        };
        policy
    };
    let twins = run(limited, denying);
    let reasons = [Reason::AllocationBandwidth, Reason::UserBandwidth];
    let dropped = reasons.map(|reason| twins.sum(Counter::Dropped(reason)));
    assert!(dropped.iter().all(|dropped| *dropped > 0), "{dropped:?}");
}
