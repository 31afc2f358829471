//! Mobility when the new five-tuple lands on another shard (RFC 8016).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use turnstone::stun::Method;
use turnstone::turn::{AllocationEnd, Counter, FiveTuple, Policy};

use crate::common::random::Random;
use crate::common::{
    Login, Out, World, additional_family, lifetime, requested_transport, send_indication, tcp, udp,
};
use crate::dialogue::{client, peer, seconds};
use crate::mobility::{
    come, depart, depart_with, elsewhere, hearer, mobile, speaks, ticket, ticket_of,
};

const SHARDS: u16 = 3;

/// Twelve ports.
pub(crate) fn narrow() -> Policy {
    let mut policy = mobile();
    policy.relay.ports = 50_000..=50_011;
    policy
}

pub(crate) fn group() -> Vec<World> {
    World::group(narrow(), SHARDS, 7)
}

pub(crate) fn pass(group: &mut [World], duration: u64) {
    for world in group.iter_mut() {
        world.pass(seconds(duration));
    }
    World::deliver(group);
}

pub(crate) fn sum(group: &[World], counter: Counter) -> u64 {
    let stats = group.iter().map(|world| world.server.stats());
    stats.map(|stats| stats.get(counter)).sum()
}

/// All lifetimes pass, and every port can be had again.
pub(crate) fn assert_returned(group: &mut [World]) {
    pass(group, 3600);
    for world in group.iter() {
        assert!(world.relays.is_empty() && world.held().is_empty() && world.shared.is_idle());
        assert!(world.server.poll_timeout().is_none());
        let stats = world.server.stats();
        for gauge in [Counter::Permissions, Counter::Channels, Counter::RelayPorts] {
            assert_eq!(stats.get(gauge), 0);
        }
    }
    let mut ports = BTreeSet::new();
    for world in group.iter_mut() {
        for port in 1..=4 {
            ports.insert(world.allocate(udp(&format!("203.0.113.200:{port}"))));
        }
    }
    assert_eq!(ports.len(), 12, "every port of every shard");
}

/// RFC 8016 §3.2.2 on every pair of shards, by data and by a request: nothing is lost, nothing doubled.
#[test]
fn an_allocation_moves_from_every_shard_to_every_shard() {
    for (from, to) in (0..9).map(|pair| (pair / 3, pair % 3)) {
        for to_stream in [false, true] {
            for by_data in [true, false] {
                let new = if to_stream {
                    tcp("198.18.0.1:5000")
                } else {
                    elsewhere()
                };
                let mut group = group();
                let (relayed, first) = depart(&mut group[from], client());
                let answer = come(&mut group[to], new, &first);
                let second = ticket_of(&answer);
                World::deliver(&mut group);
                assert_eq!(hearer(&mut group[from], relayed), Some(client()));

                let out = if by_data {
                    speaks(&mut group[to], new)
                } else {
                    let request = group[to].signed(&Login::alice(), new, Method::REFRESH, &[]);
                    group[to].send(new, &request)
                };
                let late = World::deliver(&mut group);
                let outs: Vec<Out> = late
                    .into_iter()
                    .chain([out])
                    .filter(|out| *out != Out::Nothing)
                    .collect();
                assert_eq!(outs.len(), 1, "from {from} to {to}: {outs:?}");
                match &outs[0] {
                    Out::ToPeer { from, .. } => assert!(by_data && *from == relayed),
                    Out::ToClient { to, .. } => assert!(!by_data && *to == new),
                    Out::ToRelay { .. } | Out::Nothing => unreachable!(),
                }
                assert_eq!(hearer(&mut group[to], relayed), Some(new));
                assert_eq!(speaks(&mut group[from], client()), Out::Nothing);
                assert_eq!(sum(&group, Counter::AllocationsMoved), 1);
                assert_eq!(sum(&group, Counter::RelayPorts), 1);

                let back = ticket_of(&come(&mut group[from], client(), &second));
                speaks(&mut group[from], client());
                World::deliver(&mut group);
                assert_eq!(hearer(&mut group[from], relayed), Some(client()));
                assert_ne!(back, first);
                assert_returned(&mut group);
            }
        }
    }
}

/// Departs at shard 0 and comes at shard 1; relayed address and tickets.
pub(crate) fn awaited() -> (Vec<World>, SocketAddr, [Vec<u8>; 2]) {
    let mut group = group();
    let (relayed, first) = depart(&mut group[0], client());
    let second = ticket_of(&come(&mut group[1], elsewhere(), &first));
    World::deliver(&mut group);
    (group, relayed, [first, second])
}

/// Packets wait for their allocation in order, and only so many.
#[test]
fn packets_wait_for_the_allocation_in_order() {
    let (mut group, relayed, _) = awaited();
    for i in 0..40 {
        let out = group[1].send(elsewhere(), &send_indication(peer(), &[i]));
        assert_eq!(out, Out::Nothing);
    }
    let late = World::deliver(&mut group);
    let expected = (0..32).map(|i| Out::ToPeer {
        from: relayed,
        peer: peer(),
        payload: vec![i],
    });
    assert!(late.into_iter().eq(expected));
    assert!(matches!(
        speaks(&mut group[1], elsewhere()),
        Out::ToPeer { .. }
    ));
    assert_returned(&mut group);
}

/// What waited and cannot be served is dropped or refused as it would have been.
#[test]
fn packets_that_waited_in_vain_are_settled() {
    let (mut group, _, _) = awaited();
    assert_eq!(speaks(&mut group[1], elsewhere()), Out::Nothing);
    let request = group[1].signed(&Login::alice(), elsewhere(), Method::REFRESH, &[]);
    assert_eq!(group[1].send(elsewhere(), &request), Out::Nothing);
    group[0].ask(&Login::alice(), client(), Method::REFRESH, &[lifetime(0)]);
    let late = World::deliver(&mut group);
    let codes: Vec<_> = late.into_iter().map(|out| out.response().code()).collect();
    assert_eq!(codes, [Some(437)]);
    assert_eq!(sum(&group, Counter::AllocationsMoved), 0);
    assert_returned(&mut group);
}

/// The lifetime that the response promised holds, however the letters go.
#[test]
fn the_promised_lifetime_holds() {
    let mut group = group();
    let (relayed, first) = depart(&mut group[0], client());
    pass(&mut group, 599);
    let attributes = [ticket(&first), lifetime(1000)];
    let answer = group[1].ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.lifetime(), Some(1000));
    // The owner wakes before it has read its letter.
    group.iter_mut().for_each(|world| world.pass(seconds(2)));
    assert_eq!(group[0].relays.len(), 1);
    World::deliver(&mut group);
    pass(&mut group, 997);
    group[0].permit(client(), peer());
    assert_eq!(hearer(&mut group[0], relayed), Some(client()));
    pass(&mut group, 1);
    assert!(group[0].relays.is_empty());
    assert_returned(&mut group);
}

/// A shorter lifetime holds as well.
#[test]
fn a_shorter_lifetime_holds() {
    let mut group = group();
    let attributes = [lifetime(3600)];
    let (_, first) = depart_with(&mut group[0], client(), &attributes);
    ticket_of(&come(&mut group[1], elsewhere(), &first));
    World::deliver(&mut group);
    pass(&mut group, 599);
    assert_eq!(group[0].relays.len(), 1);
    pass(&mut group, 1);
    assert!(group[0].relays.is_empty());
    assert_returned(&mut group);
}

/// LIFETIME zero deletes at any shard, also what is on its way.
#[test]
fn a_deletion_reaches_the_allocation_wherever_it_is() {
    for letters in 0..4 {
        let (mut group, _, [_, second]) = awaited();
        speaks(&mut group[1], elsewhere());
        for _ in 0..letters {
            World::deliver_one(&mut group);
        }
        let attributes = [ticket(&second), lifetime(0)];
        let third = udp("198.18.0.3:1");
        let answer = group[2].ask(&Login::alice(), third, Method::REFRESH, &attributes);
        assert_eq!(
            (answer.code(), answer.lifetime()),
            (None, Some(0)),
            "{letters}"
        );
        World::deliver(&mut group);
        assert!(
            group.iter().all(|world| world.relays.is_empty()),
            "{letters}"
        );
        assert_returned(&mut group);
    }
}

/// One family of a dual allocation is deleted from another shard, the other moves on.
#[test]
fn one_family_is_deleted_from_another_shard() {
    let mut group = group();
    let (_, first) = depart_with(&mut group[0], client(), &[additional_family(2)]);
    let attributes = [
        ticket(&first),
        crate::common::requested_family(1),
        lifetime(0),
    ];
    let answer = group[1].ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.code(), None);
    ticket_of(&come(&mut group[1], elsewhere(), &first));
    speaks(&mut group[1], elsewhere());
    World::deliver(&mut group);
    assert_eq!((group[0].relays.len(), group[1].relays.len()), (0, 1));
    assert!(group[1].relays.keys().all(SocketAddr::is_ipv6));
    pass(&mut group, 3600);
    assert!(group.iter().all(|world| world.shared.is_idle()));
}

/// Both sockets of a dual allocation move.
#[test]
fn a_dual_allocation_moves_whole() {
    let mut group = group();
    let (_, first) = depart_with(&mut group[0], client(), &[additional_family(2)]);
    ticket_of(&come(&mut group[1], elsewhere(), &first));
    speaks(&mut group[1], elsewhere());
    World::deliver(&mut group);
    assert_eq!((group[0].relays.len(), group[1].relays.len()), (0, 2));
    pass(&mut group, 3600);
    assert!(
        group
            .iter()
            .all(|world| world.relays.is_empty() && world.shared.is_idle())
    );
}

/// The client moves on while its allocation follows: it gets it in the end.
#[test]
fn a_client_that_moves_on_is_followed() {
    for letters in 0..4 {
        let (mut group, relayed, [_, second]) = awaited();
        speaks(&mut group[1], elsewhere());
        for _ in 0..letters {
            World::deliver_one(&mut group);
        }
        let third = udp("198.18.0.3:1");
        ticket_of(&come(&mut group[2], third, &second));
        let mut said = vec![speaks(&mut group[2], third)];
        said.extend(World::deliver(&mut group));
        // What met the allocation on its way was lost, as a datagram may be.
        said.push(speaks(&mut group[2], third));
        said.extend(World::deliver(&mut group));
        assert!(said.iter().any(|out| matches!(out, Out::ToPeer { .. })));
        assert_eq!(hearer(&mut group[2], relayed), Some(third), "{letters}");
        assert_returned(&mut group);
    }
}

/// A connection that closes while its allocation follows it does not take it along.
#[test]
fn a_connection_that_closes_too_early_loses_nothing() {
    for letters in 0..4 {
        let mut group = group();
        let (relayed, first) = depart(&mut group[0], client());
        let new = tcp("198.18.0.1:5000");
        let second = ticket_of(&come(&mut group[1], new, &first));
        speaks(&mut group[1], new);
        for _ in 0..letters {
            World::deliver_one(&mut group);
        }
        group[1].client_gone(new);
        World::deliver(&mut group);
        let third = udp("198.18.0.3:1");
        ticket_of(&come(&mut group[2], third, &second));
        speaks(&mut group[2], third);
        World::deliver(&mut group);
        assert_eq!(hearer(&mut group[2], relayed), Some(third));
        assert_returned(&mut group);
    }
}

/// A shard that cannot take the sockets in ends the allocation; all it held returns.
#[test]
fn an_allocation_that_cannot_arrive_ends() {
    let (mut group, _, [_, second]) = awaited();
    group[1].refuses_held = true;
    speaks(&mut group[1], elsewhere());
    World::deliver(&mut group);
    let lost = Counter::AllocationsEnded(AllocationEnd::Lost);
    assert_eq!(sum(&group, lost), 1);
    assert!(group.iter().all(|world| world.relays.is_empty()));
    assert!(group[0].shared.is_idle() && group[0].held().is_empty());
    assert_eq!(come(&mut group[2], client(), &second).code(), Some(400));
    group[1].refuses_held = false;
    assert_returned(&mut group);
}

/// Another shard's allocation is at the five-tuple: 437, and all stays as it is.
#[test]
fn a_taken_five_tuple_is_a_mismatch_across_shards() {
    let mut group = group();
    let (relayed, first) = depart(&mut group[0], client());
    depart(&mut group[1], elsewhere());
    assert_eq!(come(&mut group[1], elsewhere(), &first).code(), Some(437));
    World::deliver(&mut group);
    assert_eq!(hearer(&mut group[0], relayed), Some(client()));
    assert_returned(&mut group);
}

/// Requirements S16, S17: after any walk of any clients everything is where it was at the beginning.
#[test]
fn after_any_walk_everything_returns() {
    for seed in 0..300 {
        Walk::new(seed).run();
    }
}

struct Walk {
    group: Vec<World>,
    random: Random,
    /// Each client's five-tuple, its shard, and the tickets that it has had.
    clients: Vec<(FiveTuple, usize, Vec<Vec<u8>>)>,
    ports: u16,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Self {
            group: group(),
            random: Random(seed),
            clients: Vec::new(),
            ports: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..100 {
            self.step();
            let open: usize = self.group.iter().map(|world| world.relays.len()).sum();
            assert_eq!(sum(&self.group, Counter::RelayPorts), open as u64);
        }
        for world in &mut self.group {
            (world.refused, world.refuses_held) = (None, false);
        }
        World::deliver(&mut self.group);
        assert_returned(&mut self.group);
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0 => self.depart(),
            1 | 2 => self.come(),
            3 | 4 => self.speak(),
            5 | 6 => drop(World::deliver_one(&mut self.group)),
            7 => self.refresh(),
            8 => self.close(),
            _ => self.time(),
        }
    }

    fn new_five_tuple(&mut self) -> (FiveTuple, usize) {
        self.ports += 1;
        let text = format!("198.18.0.{}:{}", self.random.below(3), self.ports);
        let from = if self.random.once_in(2) {
            udp(&text)
        } else {
            tcp(&text)
        };
        (from, self.random.below(usize::from(SHARDS)))
    }

    fn depart(&mut self) {
        let (from, shard) = self.new_five_tuple();
        let mut attributes = vec![requested_transport(17), ticket(b"")];
        attributes.extend(self.random.once_in(4).then(|| additional_family(2)));
        let answer = self.group[shard].ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        if answer.code().is_none() {
            let tickets = vec![ticket_of(&answer)];
            self.group[shard].permit(from, peer());
            self.clients.push((from, shard, tickets));
        }
    }

    fn come(&mut self) {
        let (from, shard) = self.new_five_tuple();
        if self.clients.is_empty() {
            return;
        }
        let who = self.random.below(self.clients.len());
        let which = self.random.pick(&self.clients[who].2).clone();
        let mut attributes = vec![ticket(&which)];
        if self.random.once_in(8) {
            attributes.push(lifetime(0));
        }
        let answer = self.group[shard].ask(&Login::alice(), from, Method::REFRESH, &attributes);
        if let Some(fresh) = answer.value(turnstone::stun::AttributeType::MOBILITY_TICKET) {
            self.clients[who].2.push(fresh);
            let tickets = self.clients[who].2.clone();
            self.clients.push((from, shard, tickets));
        }
    }

    fn speak(&mut self) {
        if let Some((from, shard)) = self.anybody() {
            speaks(&mut self.group[shard], from);
        }
    }

    fn refresh(&mut self) {
        let Some((from, shard)) = self.anybody() else {
            return;
        };
        let zero = self.random.once_in(3).then(|| lifetime(0));
        let attributes: Vec<_> = zero.into_iter().collect();
        let login = Login::alice();
        let request = self.group[shard].signed(&login, from, Method::REFRESH, &attributes);
        self.group[shard].send(from, &request);
    }

    fn close(&mut self) {
        if let Some((from, shard)) = self
            .anybody()
            .filter(|(from, _)| from.transport.is_stream())
        {
            self.group[shard].client_gone(from);
        }
    }

    fn time(&mut self) {
        let duration = *self.random.pick(&[0, 1, 100, 599, 600]);
        for world in &mut self.group {
            world.pass(seconds(duration));
        }
        if self.random.once_in(8) {
            let shard = self.random.below(usize::from(SHARDS));
            let refused = [None, Some(turnstone::turn::Family::V4)];
            self.group[shard].refused = *self.random.pick(&refused);
            self.group[shard].refuses_held = self.group[shard].refused.is_some();
        }
    }

    fn anybody(&mut self) -> Option<(FiveTuple, usize)> {
        if self.clients.is_empty() {
            return None;
        }
        let (from, shard, _) = self.random.pick(&self.clients);
        Some((*from, *shard))
    }
}
