//! Floods, and what is left of them.

use std::time::Duration;

use super::world::{ALL, Client, LIMITS, Speaks, Told, World, five_tuple};
use crate::transport::dtls::{DtlsLimits, Heard};
use crate::turn::HandshakeFailure;

/// Takes a client to where its server waits for it: the cookie has come back.
fn half_open(world: &mut World, port: u16, speaks: Speaks) -> Client {
    let mut client = Client::new(port, speaks, world);
    for _ in 0..2 {
        for datagram in client.take_sent() {
            world.receive(client.at, &datagram);
        }
        if client.sent.is_empty() {
            let datagrams = world.take_sent();
            if let Some(first) = datagrams.first().filter(|_| world.sessions.is_empty()) {
                client.hear(first);
            }
        }
    }
    client
}

#[test]
fn hellos_of_strangers_leave_nothing_behind() {
    let mut world = World::new();
    let mut good = world.connect(3000, Speaks::Dtls12);
    let mut hello = Client::new(4000, Speaks::Dtls12, &world);
    let hello = hello.take_sent().remove(0);
    for port in 10_000..20_000 {
        assert_eq!(world.receive(five_tuple(port), &hello), Heard::Handshake);
        world.sent.clear();
    }
    assert_eq!(world.sessions.len(), 1);
    world.hears(&mut good, b"hello");
    world.connect(3001, Speaks::Dtls13);
}

#[test]
fn half_open_handshakes_are_bounded_and_the_oldest_goes() {
    let limits = DtlsLimits {
        half_open: 5,
        ..LIMITS
    };
    for speaks in [Speaks::Dtls12, Speaks::Dtls13] {
        let mut world = World::with(limits);
        let mut good = world.connect(3000, speaks);
        for port in 4000..4020 {
            let mut client = Client::new(port, speaks, &world);
            let first = client.take_sent().remove(0);
            world.receive(client.at, &first);
            for datagram in world.take_sent() {
                client.hear(&datagram);
            }
            for datagram in client.take_sent() {
                world.receive(client.at, &datagram);
            }
            world.sent.clear();
        }
        assert_eq!(world.sessions.len(), 6, "{speaks:?}");
        let evicted: Vec<_> = (4000..4015)
            .map(|port| Told::Failed(port, HandshakeFailure::Refused))
            .collect();
        assert_eq!(world.take_told(), evicted);
        world.hears(&mut good, b"not me");
        world.connect(3001, speaks);
        for _ in 0..20 {
            world.pass(Duration::from_secs(1));
        }
        assert_eq!(world.sessions.len(), 2);
        let told = world.take_told();
        let timed_out = told
            .iter()
            .filter(|told| matches!(told, Told::Failed(_, HandshakeFailure::Timeout)));
        assert_eq!(timed_out.count(), 4, "{told:?}");
    }
}

#[test]
fn clients_are_bounded_in_all_and_by_source() {
    for (sessions, sessions_per_source) in [(3, 100), (100, 3)] {
        let mut world = World::with(DtlsLimits {
            sessions,
            sessions_per_source,
            ..LIMITS
        });
        let mut clients: Vec<_> = (4000..4003)
            .map(|port| world.connect(port, Speaks::Dtls12))
            .collect();
        let mut refused = Client::new(4003, Speaks::Dtls12, &world);
        world.settle(&mut refused);
        assert!(!refused.connected);
        let told = world.take_told();
        assert_eq!(told, [Told::Failed(4003, HandshakeFailure::Refused)]);
        // One that is there may begin anew.
        let again = Client::new(4000, Speaks::Dtls12, &world);
        clients.push(again);
        if let Some(again) = clients.last_mut() {
            world.settle(again);
            assert!(again.connected);
        }
        clients[1].close();
        world.settle(&mut clients[1]);
        world.take_told();
        world.connect(4004, Speaks::Dtls12);
    }
}

#[test]
fn a_handshake_that_stops_is_given_up() {
    for speaks in ALL {
        let mut world = World::new();
        let client = half_open(&mut world, 4000, speaks);
        drop(client);
        let mut seconds = 0;
        while !world.sessions.is_empty() {
            world.pass(Duration::from_secs(1));
            seconds += 1;
            assert!(seconds < 15);
        }
        assert_eq!(
            world.take_told(),
            [Told::Failed(4000, HandshakeFailure::Timeout)]
        );
        assert_eq!(world.sessions.poll_timeout(), None);
    }
}

#[test]
fn new_limits_are_for_who_comes_next() {
    let mut world = World::new();
    let mut old = world.connect(4000, Speaks::Dtls12);
    world.sessions.set_limits(DtlsLimits {
        sessions: 1,
        idle_after: Duration::from_secs(5),
        ..LIMITS
    });
    let mut refused = Client::new(4001, Speaks::Dtls12, &world);
    world.settle(&mut refused);
    let told = world.take_told();
    assert_eq!(told, [Told::Failed(4001, HandshakeFailure::Refused)]);
    world.hears(&mut old, b"I may stay");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.take_told(), [Told::Quiet(4000)]);
}
