//! What went wrong elsewhere: floods, forgeries and what is left behind. The peers are in
//! `security_peers`.

use std::collections::BTreeSet;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::Reason;

use crate::common::random::Random;
use crate::common::{
    Login, Out, START, World, lifetime, policy, requested_transport, tcp, udp, xor_peer_address,
};
use crate::dialogue::{
    allocated, ask, assert_dropped, binding, client, code, dropped, hears, peer, raw, reaches,
    seconds, world, world_with,
};

const TRANSPORT: (u16, &[u8]) = (0x0019, &[17, 0, 0, 0]);

/// S6: an unauthenticated datagram leaves no state.
#[test]
fn s6_unauthenticated_requests_leave_no_state() {
    let mut world = world();
    let mut random = Random(6);
    for _ in 0..20_000 {
        let [a, b, c, d] = random.array();
        let from = udp(&format!("{a}.{b}.{c}.{d}:{}", random.u16()));
        for request in [binding(&[]), raw(0x0003, &[TRANSPORT])] {
            let _ = world.send(from, &request);
        }
        assert!(!world.server.has_allocation(&from));
    }
    assert!(world.shared.is_idle() && world.relays.is_empty());
    assert!(world.server.poll_timeout().is_none());
}

/// S6: a nonce is good on every server with the same key, so no server remembers it.
#[test]
fn s6_a_nonce_is_good_on_a_server_that_never_made_it() {
    let nonce = world().nonce(client());
    let mut other = world();
    let id = other.transaction();
    let transport = [requested_transport(17)];
    let request = Login::alice().sign(id, Method::ALLOCATE, &transport, &nonce);
    assert_eq!(other.send(client(), &request).response().code(), None);
}

/// S7: a Binding success carries the mapped address and no more.
#[test]
fn s7_a_binding_success_is_as_small_as_can_be() {
    let mut world = world();
    let answer = world.send(client(), &binding(&[])).response();
    assert_eq!(answer.0.len(), 20 + 12);
    let v6 = udp("[2001:db8:2::7]:1");
    assert_eq!(world.send(v6, &binding(&[])).response().0.len(), 20 + 24);
}

/// S7: a challenge carries error, realm and nonce and no more.
#[test]
fn s7_a_challenge_is_as_small_as_can_be() {
    let mut world = world();
    let answer = world.send(client(), &raw(0x0003, &[TRANSPORT])).response();
    let kinds: Vec<_> = answer.message().attributes().map(|a| a.kind).collect();
    let expected = [
        AttributeType::ERROR_CODE,
        AttributeType::REALM,
        AttributeType::NONCE,
    ];
    assert_eq!(kinds, expected);
    assert!(answer.0.len() <= 108, "{} bytes", answer.0.len());
}

/// S7: what can be drawn without credentials is at most four and a half times what was sent.
#[test]
fn s7_no_unauthenticated_answer_is_much_more_than_its_request() {
    let mut world = world();
    let signed_badly = raw(0x0003, &[(0x0008, &[0; 20])]);
    let unknown = [0x7FFE; 300].map(|kind| (kind, &b""[..]));
    for request in [
        binding(&[]),
        binding(&[(0x7FFE, b"")]),
        binding(&unknown),
        raw(0x0003, &[TRANSPORT]),
        raw(0x0004, &[(0x000D, &[0; 4])]),
        raw(0x0008, &[(0x8022, b"")]),
        raw(0x0009, &unknown),
        signed_badly,
    ] {
        let answer = world.send(client(), &request).response();
        let (sent, drawn) = (request.len(), answer.0.len());
        assert!(drawn <= sent * 9 / 2, "{drawn} bytes for {sent}");
    }
}

/// S7: nor to malformed messages, indications or responses.
#[test]
fn s7_no_answer_to_a_bare_turn_header() {
    let mut world = world();
    for method in [0x0003, 0x0004, 0x0008, 0x0009] {
        assert_dropped(&mut world, &raw(method, &[]), Reason::Malformed);
        let from = tcp("203.0.113.7:4000");
        let answer = world.send(from, &raw(method, &[])).response();
        assert_eq!(answer.code(), Some(401), "a stream's source is no forgery");
    }
}

/// S7: a limit on what one source prefix can draw in a second, IPv4 /24 and IPv6 /48.
#[test]
fn s7_reflected_bytes_are_limited_by_source_prefix() {
    for (neighbour, stranger) in [
        ("203.0.113.{}:53", "203.0.114.1:53"),
        ("[2001:db8:2:{}::1]:53", "[2001:db8:3::1]:53"),
    ] {
        let mut world = world_with(|policy| policy.limits.reflection_bytes_per_second = 3200);
        let mut drawn = 0;
        for host in 0..250 {
            let from = udp(&neighbour.replace("{}", &host.to_string()));
            if let Out::ToClient { message, .. } = world.send(from, &binding(&[])) {
                drawn += message.len();
            }
        }
        assert!((3100..=3200).contains(&drawn), "{drawn} bytes");
        assert_eq!(
            world.send(udp(stranger), &binding(&[])).response().code(),
            None
        );
        assert!(dropped(&world, Reason::RateLimited) > 0);
        world.pass(seconds(1));
        let again = world.send(udp(&neighbour.replace("{}", "1")), &binding(&[]));
        assert_eq!(again.response().code(), None);
    }
}

/// S7: errors of every kind count against the limit, answers to the authenticated do not.
#[test]
fn s7_the_limit_is_for_the_unauthenticated_alone() {
    let (mut world, _) = allocated();
    let refreshes = [(); 3].map(|()| world.signed(&Login::alice(), client(), Method::REFRESH, &[]));
    let mut strict = policy();
    strict.limits.reflection_bytes_per_second = 0;
    world.swap_policy(strict);
    let bad = raw(0x0003, &[(0x0008, &[0; 20])]);
    for request in [
        binding(&[]),
        binding(&[(0x7FFE, b"")]),
        raw(0x0003, &[TRANSPORT]),
        bad,
    ] {
        assert_dropped(&mut world, &request, Reason::RateLimited);
    }
    for refresh in refreshes {
        assert_eq!(world.send(client(), &refresh).response().code(), None);
    }
}

/// S7: who signs with a nonce that is not for its address has not proven the address: a password in the
/// hands of a page's visitors must not make a reflector. An allocation's five-tuple is proven.
#[test]
fn s7_a_stale_nonce_is_told_within_the_limit_unless_an_allocation_lives() {
    let (mut world, _) = allocated();
    let mut strict = policy();
    strict.limits.reflection_bytes_per_second = 0;
    world.swap_policy(strict);
    let id = world.transaction();
    let stale = Login::alice().sign(id, Method::REFRESH, &[], b"stale");
    assert_eq!(world.send(client(), &stale).response().code(), Some(438));
    let forged = udp("203.0.113.99:53");
    assert_eq!(world.send(forged, &stale), Out::Nothing);
    assert_eq!(dropped(&world, Reason::RateLimited), 1);
}

/// S7: however small its share, a shard answers one request at a time, or nobody could ever get in.
#[test]
fn s7_the_smallest_limit_lets_one_answer_through() {
    let mut world = world_with(|policy| policy.limits.reflection_bytes_per_second = 1);
    let first = world.send(client(), &raw(0x0003, &[TRANSPORT]));
    assert_eq!(first.response().code(), Some(401));
    assert_dropped(&mut world, &raw(0x0003, &[TRANSPORT]), Reason::RateLimited);
    world.pass(seconds(120));
    let later = world.send(client(), &raw(0x0003, &[TRANSPORT]));
    assert_eq!(later.response().code(), Some(401));
}

/// S7: never two datagrams for one.
#[test]
fn s7_one_datagram_draws_one_answer() {
    let mut world = world();
    for request in [binding(&[]), raw(0x0003, &[TRANSPORT])] {
        let _ = world.server.handle_client(world.now, client(), &request);
        assert!(world.server.poll_response().is_some());
        assert!(world.server.poll_response().is_none());
    }
}

/// S9: what the server chooses depends on its seed, and on nothing that a client sees.
#[test]
fn s9_servers_with_other_seeds_choose_otherwise() {
    let mut relays = BTreeSet::new();
    let mut nonces = BTreeSet::new();
    for seed in 0..20 {
        let mut world = World::with_seed(policy(), seed);
        nonces.insert(world.nonce(client()));
        relays.insert(world.allocate(client()));
    }
    assert_eq!((relays.len(), nonces.len()), (20, 20));
}

/// Appends an attribute behind the message integrity.
fn append(request: &mut Vec<u8>, (kind, value): (AttributeType, Vec<u8>)) {
    request.extend_from_slice(&kind.0.to_be_bytes());
    request.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    request.extend_from_slice(&value);
    let length = u16::try_from(request.len() - 20).unwrap();
    request[2..4].copy_from_slice(&length.to_be_bytes());
}

/// S10, RFC 8489 §14.5: what is not signed does not count.
#[test]
fn s10_attributes_after_message_integrity_are_ignored() {
    let (mut world, _) = allocated();
    let mut refresh = world.signed(&Login::alice(), client(), Method::REFRESH, &[]);
    append(&mut refresh, lifetime(0));
    append(&mut refresh, (AttributeType(0x7FFE), vec![]));
    let answer = world.send(client(), &refresh).response();
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(600)));
    let method = Method::CREATE_PERMISSION;
    let mut permission = world.signed(&Login::alice(), client(), method, &[]);
    let id = turnstone::stun::TransactionId([0; 12]);
    append(&mut permission, xor_peer_address(peer(), id));
    assert_eq!(
        world.send(client(), &permission).response().code(),
        Some(400)
    );
    assert!(!reaches(&mut world, peer()));
}

/// S10: a second integrity is one of those attributes.
#[test]
fn s10_a_second_message_integrity_proves_nothing() {
    let mut world = world();
    let nonce = world.nonce(client());
    let id = world.transaction();
    let transport = [requested_transport(17)];
    let good = Login::alice().sign(id, Method::ALLOCATE, &transport, &nonce);
    let mut forged = good[..good.len() - 24].to_vec();
    append(&mut forged, (AttributeType::MESSAGE_INTEGRITY, vec![0; 20]));
    append(
        &mut forged,
        (
            AttributeType::MESSAGE_INTEGRITY,
            good[good.len() - 20..].to_vec(),
        ),
    );
    assert_eq!(world.send(client(), &forged).response().code(), Some(401));
}

/// S10: the first of two usernames counts, so the key is looked up for what is acted upon.
#[test]
fn s10_the_first_username_counts() {
    let (mut world, _) = allocated();
    let bob_first = [(AttributeType::USERNAME, b"bob".to_vec())];
    let refusal = ask(&mut world, Method::REFRESH, &bob_first);
    assert_eq!(refusal.code(), Some(401));
}

/// S12: forged and foreign nonces.
#[test]
fn s12_forged_and_foreign_nonces_are_stale() {
    let mut world = world();
    let own = world.nonce(client());
    let foreign = world.nonce(udp("203.0.113.7:4001"));
    let mut forged = own.clone();
    *forged.last_mut().unwrap() ^= 1;
    for nonce in [
        foreign,
        forged,
        own[..own.len() - 1].to_vec(),
        vec![],
        vec![b'A'; 127],
    ] {
        let id = world.transaction();
        let transport = [requested_transport(17)];
        let request = Login::alice().sign(id, Method::ALLOCATE, &transport, &nonce);
        assert_eq!(world.send(client(), &request).response().code(), Some(438));
    }
}

/// S12: an allocation of an expired credential lives to the end of its lifetime, and no longer.
#[test]
fn s12_an_expired_credential_works_on_but_is_not_refreshed() {
    let mut world = world();
    let login = Login::time_limited("carol", START + 100);
    let transport = [requested_transport(17)];
    let answer = world.ask(&login, client(), Method::ALLOCATE, &transport);
    assert_eq!(answer.code(), None);
    world.pass(seconds(99));
    let refreshed = world.ask(&login, client(), Method::REFRESH, &[]);
    assert_eq!(refreshed.code(), None);
    world.pass(seconds(1));
    for attributes in [vec![], vec![lifetime(3600)]] {
        let refusal = world.ask(&login, client(), Method::REFRESH, &attributes);
        assert_eq!(refusal.code(), Some(401));
    }
    let permission = [world.xor_peer(peer())];
    let method = Method::CREATE_PERMISSION;
    let answer = world.ask(&login, client(), method, &permission);
    assert_eq!(answer.code(), None);
    assert!(reaches(&mut world, peer()));
    world.pass(seconds(599));
    assert!(!world.server.has_allocation(&client()));
}

/// S12: a client can always leave.
#[test]
fn s12_an_expired_credential_may_still_delete() {
    let mut world = world();
    let login = Login::time_limited("carol", START + 100);
    let transport = [requested_transport(17)];
    let answer = world.ask(&login, client(), Method::ALLOCATE, &transport);
    assert_eq!(answer.code(), None);
    world.pass(seconds(200));
    let deleted = world.ask(&login, client(), Method::REFRESH, &[lifetime(0)]);
    assert_eq!((deleted.code(), deleted.lifetime()), (None, Some(0)));
}

/// A policy that knows neither alice nor the shared secret.
fn without_users() -> turnstone::turn::Policy {
    let mut policy = policy();
    policy.credentials = turnstone::turn::Credentials::default();
    policy
}

/// S12: a user who is removed keeps the allocation to its end, and may leave it.
#[test]
fn s12_a_removed_user_keeps_the_allocation_but_cannot_refresh_it() {
    for login in [Login::alice(), Login::time_limited("carol", START + 9000)] {
        let mut world = world();
        let transport = [requested_transport(17)];
        let answer = world.ask(&login, client(), Method::ALLOCATE, &transport);
        assert_eq!(answer.code(), None);
        world.swap_policy(without_users());
        let permission = [world.xor_peer(peer())];
        let method = Method::CREATE_PERMISSION;
        let answer = world.ask(&login, client(), method, &permission);
        assert_eq!(answer.code(), None);
        let refusal = world.ask(&login, client(), Method::REFRESH, &[lifetime(3600)]);
        assert_eq!(refusal.code(), Some(401));
        let deleted = world.ask(&login, client(), Method::REFRESH, &[lifetime(0)]);
        assert_eq!(deleted.code(), None);
    }
}

/// S12: and gets no other.
#[test]
fn s12_a_removed_user_gets_no_new_allocation() {
    let (mut world, _) = allocated();
    world.swap_policy(without_users());
    let transport = [requested_transport(17)];
    let elsewhere = udp("203.0.113.7:4001");
    let answer = world.ask(&Login::alice(), elsewhere, Method::ALLOCATE, &transport);
    assert_eq!(answer.code(), Some(401));
}

/// S14.
#[test]
fn s14_the_same_allocate_is_answered_alike_and_another_is_a_mismatch() {
    let mut world = world();
    let transport = [requested_transport(17)];
    let request = world.signed(&Login::alice(), client(), Method::ALLOCATE, &transport);
    let first = world.send(client(), &request).response();
    assert_eq!(world.send(client(), &request).response(), first);
    assert_eq!(code(&mut world, Method::ALLOCATE, &transport), Some(437));
}

/// S12: the host's clock is set, by years and back: what lives goes on, nonces are made anew.
#[test]
fn a_clock_that_jumps_ends_no_allocation() {
    let (mut world, _) = allocated();
    assert_eq!(world.permit(client(), peer()).code(), None);
    let true_time = world.now.unix.0;
    let decade = 10 * 365 * 86_400;
    for jumped in [true_time + decade, true_time - decade, true_time, 0] {
        world.now.unix.0 = jumped;
        world.pass(seconds(30));
        assert!(reaches(&mut world, peer()), "at {jumped}");
        let refreshed = world.ask(&Login::alice(), client(), Method::REFRESH, &[lifetime(600)]);
        assert_eq!(refreshed.code(), None, "at {jumped}");
    }
}

/// S12: the host's clock decides about nothing but credentials that carry a time: nobody else is kept out
/// while it is wrong, and they are let in again when it is right.
#[test]
fn a_clock_that_jumps_matters_to_credentials_with_a_time_alone() {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    let timed = Login::time_limited("carol", START + 3600);
    let decade = 10 * 365 * 86_400;
    let transport = [requested_transport(17)];
    let jumps = [
        (START, None),
        (START + decade, Some(401)),
        (START - decade, None),
        (0, None),
    ];
    for ((jumped, expected), port) in jumps.into_iter().zip(1..) {
        world.now.unix.0 = jumped;
        let from = |host: u8| udp(&format!("203.0.113.{host}:{port}"));
        let answer = world.ask(&timed, from(8), Method::ALLOCATE, &transport);
        assert_eq!(answer.code(), expected, "at {jumped}");
        let answer = world.ask(&Login::alice(), from(9), Method::ALLOCATE, &transport);
        assert_eq!(answer.code(), None, "at {jumped}");
        assert!(hears(&mut world, relay, peer()), "at {jumped}");
    }
    world.pass(seconds(3600));
    assert!(
        world.relays.is_empty(),
        "lifetimes are measured by another clock"
    );
}
