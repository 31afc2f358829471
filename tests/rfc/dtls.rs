//! Clients over DTLS (RFC 7350): datagrams, but of a client that has proven its address.

use turnstone::stun::Method;
use turnstone::turn::{Counter, Family, Transport};

use crate::common::{Login, Out, World, dtls, ip, policy, requested_transport};
use crate::dialogue::{peer, seconds, world};

const CLIENT: &str = "203.0.113.7:4000";

/// RFC 8656 §12.5: padding is for byte streams.
#[test]
fn channel_data_over_dtls_is_not_padded() {
    let mut world = world();
    let client = dtls(CLIENT);
    let relay = world.allocate(client);
    world.bind_channel(client, 0x4000, peer());
    for length in 0..8 {
        let payload = vec![7; length];
        let Out::ToClient { to, message } = world.peer_sends(relay, peer(), &payload) else {
            panic!("nothing for the client");
        };
        assert_eq!((to, message.len()), (client, 4 + length));
    }
    let created = Counter::AllocationsCreated(Transport::Dtls, Family::V4);
    assert_eq!(world.server.stats().get(created), 1);
}

/// RFC 7350 §4.1, RFC 8489 §6.3.1: DTLS loses datagrams as UDP does, so that requests come again.
#[test]
fn a_retransmitted_allocate_over_dtls_gets_the_same_answer() {
    let mut world = world();
    let client = dtls(CLIENT);
    let transport = [requested_transport(17)];
    let request = world.signed(&Login::alice(), client, Method::ALLOCATE, &transport);
    let first = world.send(client, &request).response();
    world.pass(seconds(5));
    assert_eq!(world.send(client, &request).response(), first);
    assert_eq!(world.relays.len(), 1);
}

/// RFC 8656 §3: the transport is a part of the five-tuple.
#[test]
fn the_same_addresses_over_udp_are_another_client() {
    let mut world = world();
    let over_dtls = dtls(CLIENT);
    let relay = world.allocate(over_dtls);
    let over_udp = turnstone::turn::FiveTuple {
        transport: Transport::Udp,
        ..over_dtls
    };
    assert_ne!(world.allocate(over_udp), relay);
}

/// S7: the cookie of DTLS has proven the address, so that answers cannot be turned against somebody.
#[test]
fn s7_answers_over_dtls_are_not_limited() {
    let mut strict = policy();
    strict.limits.reflection_bytes_per_second = 0;
    let mut world = World::new(strict);
    for _ in 0..10 {
        let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
        let response = world.send(dtls(CLIENT), &request).response();
        assert_eq!(response.code(), Some(401));
    }
}

/// S7, S8: before the cookie comes back, what a source prefix draws is limited, by shards together.
#[test]
fn s7_strangers_draw_no_more_than_the_limit() {
    for shards in [1_usize, 2] {
        let mut limited = policy();
        limited.limits.reflection_bytes_per_second = 3200;
        let count = u16::try_from(shards).expect("a small number");
        let mut worlds = World::group(limited, count, 7);
        let mut drawn = 0;
        for world in &mut worlds {
            for host in 0..100 {
                let client = ip(&format!("203.0.113.{host}"));
                let allowed = world.server.may_answer_stranger(world.now, client, 50);
                drawn += if allowed { 50 } else { 0 };
            }
            let other = ip("203.0.114.1");
            assert!(world.server.may_answer_stranger(world.now, other, 50));
        }
        assert_eq!(drawn, 3200, "{shards} shards");
    }
}
