//! Packets between two allocations of one server, which need not leave the process.

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{
    Counter, Direction, External, FiveTuple, Hop, HopWay, Reason, RelaySource, Source,
};

use crate::common::{
    Login, Out, World, channel_data, ip, lifetime, peers, policy, send_indication, tcp, udp,
};
use crate::dialogue::{client, dropped, seconds};
use crate::mobility::{come, depart, elsewhere, mobile};

fn other() -> FiveTuple {
    udp("203.0.113.8:4000")
}

/// Two clients of one shard, each with a channel to the other's relayed address.
fn pair() -> (World, [SocketAddr; 2]) {
    let mut world = World::new(policy());
    world.hops = true;
    let relays = [client(), other()].map(|from| world.allocate(from));
    join(&mut world, relays);
    (world, relays)
}

fn join(world: &mut World, [near, far]: [SocketAddr; 2]) {
    for (from, peer) in [(client(), far), (other(), near)] {
        assert_eq!(world.bind_channel(from, 0x4000, peer).code(), None);
    }
}

fn hop(out: Out) -> (Hop, Vec<u8>) {
    match out {
        Out::ToRelay { hop, payload } => (hop, payload),
        other => panic!("no hop but {other:?}"),
    }
}

fn delete(world: &mut World, from: FiveTuple) {
    let answer = world.ask(&Login::alice(), from, Method::REFRESH, &[lifetime(0)]);
    assert_eq!(answer.code(), None);
}

fn get(world: &World, counter: Counter) -> u64 {
    world.server.stats().get(counter)
}

/// Both allocations see and count what they would of a packet that crosses the wire.
#[test]
fn a_packet_between_two_allocations_takes_the_short_way() {
    let (mut world, [near, far]) = pair();
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"across")));
    assert_eq!((hop.from.shard, hop.to.shard), (0, 0));
    assert_eq!(
        (hop.from.key, hop.to.key),
        (world.relays[&near], world.relays[&far])
    );
    assert_eq!((hop.source, hop.peer), (near, far));
    assert_eq!(payload, b"across");
    let message = b"\x40\x00\x00\x06across".to_vec();
    let arrived = Out::ToClient {
        to: other(),
        message,
    };
    assert_eq!(world.receives(&hop, &payload), Some(arrived));
    for (counter, value) in [
        (Counter::RelayedPackets(Direction::ToPeer), 1),
        (Counter::RelayedBytes(Direction::ToPeer), 6),
        (Counter::ReceivedPackets(Source::Peer), 1),
        (Counter::ReceivedBytes(Source::Peer), 6),
        (Counter::RelayedPackets(Direction::ToClient), 1),
        (Counter::RelayedBytes(Direction::ToClient), 6),
        (Counter::RelayHops(HopWay::Shard), 1),
        (Counter::RelayHops(HopWay::OtherShard), 0),
    ] {
        assert_eq!(get(&world, counter), value, "{counter:?}");
    }
}

/// RFC 8656 §9: a permission at both ends, as of any packet.
#[test]
fn both_ends_permit_it_or_it_is_dropped() {
    let (mut world, _) = pair();
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"data")));
    // Of the sender there may be nothing any more; the receiver's permission ends.
    world.pass(seconds(301));
    assert_eq!(
        world.send(client(), &channel_data(0x4000, b"data")),
        Out::Nothing
    );
    assert_eq!(dropped(&world, Reason::NoPermission), 1);
    assert_eq!(world.receives(&hop, &payload), Some(Out::Nothing));
    assert_eq!(dropped(&world, Reason::NoPermission), 2);
    assert_eq!(get(&world, Counter::ReceivedPackets(Source::Peer)), 1);
}

/// The client at the other end knows its peer by the public address, behind a 1:1 NAT too.
#[test]
fn the_public_relayed_address_is_the_peer() {
    let mut policy = policy();
    let public = ip("9.9.9.200");
    policy.relay.external = vec![External {
        local: None,
        public,
    }];
    policy.peers = peers(&[]);
    let mut world = World::new(policy);
    world.hops = true;
    let relays = [client(), other()].map(|from| world.allocate(from));
    join(&mut world, relays);
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"over")));
    assert_eq!(hop.source, relays[0]);
    assert_eq!(
        hop.peer,
        SocketAddr::new(ip("192.0.2.10"), relays[1].port())
    );
    assert!(
        matches!(world.receives(&hop, &payload), Some(Out::ToClient { to, .. }) if to == other())
    );
}

/// RFC 8656 §11.2: DONT-FRAGMENT is about an IP packet, and there is none.
#[test]
fn dont_fragment_takes_the_short_way_too() {
    let (mut world, [_, far]) = pair();
    let mut packet = send_indication(far, b"whole");
    let attribute = AttributeType::DONT_FRAGMENT.0.to_be_bytes();
    packet.extend([attribute[0], attribute[1], 0, 0]);
    packet[3] += 4;
    let (hop, payload) = hop(world.send(client(), &packet));
    assert!(matches!(
        world.receives(&hop, &payload),
        Some(Out::ToClient { .. })
    ));
}

/// What no UDP datagram holds is left to the socket, which refuses it.
#[test]
fn what_no_datagram_holds_takes_no_short_way() {
    let mut world = World::new(policy());
    world.hops = true;
    let from = tcp("203.0.113.7:4000");
    world.allocate(from);
    let far = world.allocate(other());
    assert_eq!(world.bind_channel(from, 0x4000, far).code(), None);
    let longest = channel_data(0x4000, &vec![0; 65_507]);
    assert!(matches!(world.send(from, &longest), Out::ToRelay { .. }));
    let longer = channel_data(0x4000, &vec![0; 65_508]);
    assert!(matches!(world.send(from, &longer), Out::ToPeer { peer, .. } if peer == far));
}

/// A peer that is no relay of this server, though at the address of one that a rule allows.
#[test]
fn other_sockets_of_the_relay_address_are_reached_by_the_wire() {
    let mut policy = policy();
    policy.peers = peers(&["192.0.2.10"]);
    let mut world = World::new(policy);
    world.hops = true;
    let relay = world.allocate(client());
    let place = SocketAddr::new(relay.ip(), 9);
    assert_eq!(world.permit(client(), place).code(), None);
    let out = world.send(client(), &send_indication(place, b"x"));
    assert!(matches!(out, Out::ToPeer { peer, .. } if peer == place));
}

/// What is on its way when the allocation ends is dropped, and counted where it was to arrive.
#[test]
fn a_hop_to_an_allocation_that_has_ended_is_dropped() {
    let (mut world, _) = pair();
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"data")));
    world.client_gone(other());
    assert_eq!(world.receives(&hop, &payload), Some(Out::Nothing));
    assert_eq!(dropped(&world, Reason::NoAllocation), 1);
    assert_eq!(get(&world, Counter::ReceivedPackets(Source::Peer)), 1);
    assert_eq!(
        world.send(client(), &channel_data(0x4000, b"data")),
        Out::Nothing
    );
    assert_eq!(dropped(&world, Reason::ForbiddenPeer), 1);
}

/// Whoever gets the port next, or the place in the table, gets nothing that was for another.
#[test]
fn nobody_is_given_what_was_for_another() {
    let mut policy = policy();
    policy.relay.ports = 50_000..=50_001;
    let mut world = World::new(policy);
    world.hops = true;
    let relays = [client(), other()].map(|from| world.allocate(from));
    join(&mut world, relays);
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"data")));
    world.client_gone(other());
    let third = udp("203.0.113.9:4000");
    assert_eq!(world.allocate(third), relays[1], "the same port");
    assert_eq!(world.permit(third, relays[0]).code(), None);
    assert_eq!(world.receives(&hop, &payload), Some(Out::Nothing));
    assert_eq!(dropped(&world, Reason::NoAllocation), 1);
    let (now, payload) = self::hop(world.send(client(), &channel_data(0x4000, b"data")));
    assert_ne!(now.to.key, hop.to.key);
    assert!(
        matches!(world.receives(&now, &payload), Some(Out::ToClient { to, .. }) if to == third)
    );
    // A key that is alive, but not at that address.
    let astray = Hop {
        peer: relays[0],
        ..now
    };
    assert_eq!(world.receives(&astray, &payload), Some(Out::Nothing));
    assert_eq!(dropped(&world, Reason::NoAllocation), 2);
}

/// Each family of a dual allocation is found by its own address, and seen with its own.
#[test]
fn both_families_of_a_dual_allocation_take_the_short_way() {
    let mut world = World::new(policy());
    world.hops = true;
    let v6 = udp("[2001:db8:2::1]:4000");
    let ends = [
        (client(), Some(1)),
        (other(), Some(1)),
        (v6, Some(2)),
        (tcp("203.0.113.8:4000"), Some(2)),
    ];
    let relays = ends.map(|(from, family)| world.allocate_family(from, family));
    for [a, b] in [[0, 1], [2, 3]] {
        for (from, to) in [(a, b), (b, a)] {
            let (from, far, to) = (ends[from].0, relays[to], ends[to].0);
            assert_eq!(world.permit(from, far).code(), None);
            let (hop, payload) = hop(world.send(from, &send_indication(far, b"data")));
            let heard = world.receives(&hop, &payload);
            // The far end has not permitted it the first time.
            let expected = if world.relays[&far] == world.relays[&relays[b]] {
                None
            } else {
                Some(to)
            };
            let heard = match heard {
                Some(Out::ToClient { to, .. }) => Some(to),
                _ => None,
            };
            assert_eq!(heard, expected);
        }
    }
}

/// RFC 8016: the entry follows the allocation; in between, packets wait in its socket.
#[test]
fn a_mobile_allocation_is_found_where_it_is() {
    let mut group = World::group(mobile(), 2, 7);
    group.iter_mut().for_each(|world| world.hops = true);
    let near = group[0].allocate(client());
    let (far, ticket) = depart(&mut group[0], other());
    assert_eq!(group[0].bind_channel(client(), 0x4000, far).code(), None);
    assert_eq!(group[0].bind_channel(other(), 0x4000, near).code(), None);
    let data = channel_data(0x4000, b"data");
    let (before, payload) = hop(group[0].send(client(), &data));
    assert_eq!(before.to.shard, 0);
    assert_eq!(come(&mut group[1], elsewhere(), &ticket).code(), None);
    assert_eq!(group[1].send(elsewhere(), &data), Out::Nothing, "parked");
    while World::deliver_one(&mut group[..]) {
        if group[0].held().contains(&far) {
            let out = group[0].send(client(), &data);
            assert!(
                matches!(out, Out::ToPeer { peer, .. } if peer == far),
                "{out:?}"
            );
        }
    }
    let stats = group[0].server.stats().clone();
    assert_eq!(group[0].receives(&before, &payload), None, "it goes back");
    assert_eq!(
        group[0].server.stats(),
        &stats,
        "and is counted where it is sent from"
    );
    let (after, payload) = hop(group[0].send(client(), &data));
    assert_eq!((after.to.shard, after.peer), (1, far));
    let heard = group[1].receives(&after, &payload);
    assert!(matches!(heard, Some(Out::ToClient { to, .. }) if to == elsewhere()));
    assert_eq!(get(&group[1], Counter::RelayHops(HopWay::OtherShard)), 1);
    // An allocation that ends leaves nothing to go back for.
    delete(&mut group[1], elsewhere());
    assert_eq!(group[1].receives(&after, &payload), Some(Out::Nothing));
}

/// A new policy that denies the relay address ends it, at either end.
#[test]
fn a_denied_relay_address_is_no_peer_at_either_end() {
    let denied = || {
        let mut policy = policy();
        let rule = turnstone::turn::Rule {
            network: "192.0.2.10".parse().unwrap(),
            action: turnstone::turn::RuleAction::Deny,
        };
        policy.peers =
            turnstone::turn::PeerFilter::new(&[rule], &turnstone::turn::OwnHost::default());
        policy
    };
    let (mut world, _) = pair();
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"data")));
    world.swap_policy(denied());
    assert_eq!(world.receives(&hop, &payload), Some(Out::Nothing));
    assert_eq!(
        world.send(client(), &channel_data(0x4000, b"data")),
        Out::Nothing
    );
    assert_eq!(dropped(&world, Reason::NoPermission), 2);
}

/// RFC 8656 §8: an allocation whose time has passed is none, though its owner wakes late.
#[test]
fn a_hop_finds_no_allocation_that_has_expired() {
    let (mut world, _) = pair();
    let (hop, payload) = hop(world.send(client(), &channel_data(0x4000, b"data")));
    world.now.instant = world.now.instant + seconds(601);
    assert_eq!(world.receives(&hop, &payload), Some(Out::Nothing));
    assert_eq!(dropped(&world, Reason::NoAllocation), 1);
}

/// Many relay addresses, each with its own ports.
#[test]
fn relays_of_several_addresses_are_told_apart() {
    let mut policy = policy();
    let addresses = ["192.0.2.10", "192.0.2.11"].map(ip);
    policy.relay.v4 = RelaySource::Fixed(addresses.to_vec());
    let mut world = World::new(policy);
    world.hops = true;
    let from = |port: usize| udp(&format!("203.0.113.7:{}", 4000 + port));
    let relays: Vec<_> = (0..8).map(|port| world.allocate(from(port))).collect();
    for relay in &relays {
        assert_eq!(world.permit(from(0), *relay).code(), None);
        let (hop, _) = hop(world.send(from(0), &send_indication(*relay, b"x")));
        assert_eq!((hop.peer, hop.to.key), (*relay, world.relays[relay]));
    }
    delete(&mut world, from(7));
    assert_eq!(
        world.send(from(0), &send_indication(relays[7], b"x")),
        Out::Nothing
    );
}

/// The process that takes the place of another goes on with the short way; to what stayed there is none.
#[test]
fn the_short_way_goes_on_in_the_next_process() {
    let (mut old, [near, far]) = pair();
    let stays = old.allocate(tcp("203.0.113.9:4000"));
    assert_eq!(old.permit(client(), stays).code(), None);
    let mut new = old.succeed(policy(), 0);
    new.hops = true;
    let (hop, payload) = hop(new.send(client(), &channel_data(0x4000, b"across")));
    assert_eq!(hop.to.key, new.relays[&far]);
    let heard = new.receives(&hop, &payload);
    assert!(matches!(heard, Some(Out::ToClient { to, .. }) if to == other()));
    let out = new.send(client(), &send_indication(stays, b"over"));
    let to_peer = Out::ToPeer {
        from: near,
        peer: stays,
        payload: b"over".to_vec(),
    };
    assert_eq!(out, to_peer);
}
