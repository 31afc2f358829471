//! RESERVATION-TOKEN (RFC 8656 §7.2 step 5, §18.10).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::FiveTuple;

use crate::common::{
    Login, Response, World, additional_family, address, even_port, lifetime, policy,
    requested_family, requested_transport, tcp, udp,
};
use crate::dialogue::{client, peer, seconds, world, world_with};

const UDP: u8 = 17;

/// Reserves; the reserved address and its token.
pub(crate) fn reserve(world: &mut World, from: FiveTuple) -> (SocketAddr, Vec<u8>) {
    let attributes = [requested_transport(UDP), even_port(true)];
    let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
    let relayed = answer
        .xor_address(AttributeType::XOR_RELAYED_ADDRESS)
        .expect("a relayed address");
    let token = answer.value(AttributeType::RESERVATION_TOKEN);
    let above = SocketAddr::new(relayed.ip(), relayed.port() + 1);
    (above, token.expect("a token"))
}

/// Redeems `token`; the relayed address or the error code.
pub(crate) fn redeem(
    world: &mut World,
    login: &Login,
    from: FiveTuple,
    token: &[u8],
) -> Result<SocketAddr, u16> {
    let token = (AttributeType::RESERVATION_TOKEN, token.to_vec());
    let attributes = [requested_transport(UDP), token];
    let answer: Response = world.ask(login, from, Method::ALLOCATE, &attributes);
    let relayed = answer.xor_address(AttributeType::XOR_RELAYED_ADDRESS);
    relayed.ok_or_else(|| answer.code().expect("an error code"))
}

fn other() -> FiveTuple {
    udp("203.0.113.7:4001")
}

/// RFC 8656 §7.2: the relayed address is the one reserved, and it relays.
#[test]
fn a_token_redeems_the_reserved_address() {
    let mut world = world();
    let (above, token) = reserve(&mut world, client());
    assert_eq!(
        redeem(&mut world, &Login::alice(), other(), &token),
        Ok(above)
    );
    assert!(world.held().is_empty() && world.relays.contains_key(&above));
    world.permit(other(), peer());
    assert_ne!(
        world.peer_sends(above, peer(), b"data"),
        crate::common::Out::Nothing
    );
}

/// RFC 8656 §7.2: any five-tuple of the server, any user.
#[test]
fn a_token_is_good_on_every_five_tuple_and_for_every_user() {
    let mut elsewhere = other();
    elsewhere.server = address("192.0.2.11:3479");
    let five_tuples = [
        other(),
        tcp("203.0.113.7:4000"),
        udp("203.0.113.99:1"),
        udp("[2001:db8:2::7]:4000"),
        elsewhere,
    ];
    for from in five_tuples {
        for login in [Login::alice(), Login::bob()] {
            let mut world = world();
            let (above, token) = reserve(&mut world, client());
            assert_eq!(redeem(&mut world, &login, from, &token), Ok(above));
        }
    }
}

/// RFC 8656 §7.2: held for 30 seconds.
#[test]
fn a_token_is_good_for_thirty_seconds() {
    for (pause, is_good) in [(0, true), (29, true), (30, false), (31, false)] {
        let mut world = world();
        let (above, token) = reserve(&mut world, client());
        world.pass(seconds(pause));
        let wanted = if is_good { Ok(above) } else { Err(508) };
        let got = redeem(&mut world, &Login::alice(), other(), &token);
        assert_eq!(got, wanted, "after {pause} s");
    }
}

/// RFC 8656 §7.2 step 5: expired to the tick, before anybody has cleaned up.
#[test]
fn an_expired_token_is_dead_before_its_deadline_is_handled() {
    let mut world = world();
    let (_, token) = reserve(&mut world, client());
    world.now.instant = world.now.instant + seconds(30);
    let got = redeem(&mut world, &Login::alice(), other(), &token);
    assert_eq!(got, Err(508));
    assert!(world.held().is_empty());
}

/// RFC 8656 §7.2 step 5: no longer available.
#[test]
fn a_token_is_good_once() {
    let mut world = world();
    let (above, token) = reserve(&mut world, client());
    assert_eq!(
        redeem(&mut world, &Login::alice(), other(), &token),
        Ok(above)
    );
    let again = redeem(&mut world, &Login::alice(), udp("203.0.113.7:4002"), &token);
    assert_eq!(again, Err(508));
}

/// RFC 8656 §7.2 step 5: not a token of ours.
#[test]
fn an_unknown_token_finds_insufficient_capacity() {
    let mut world = world();
    let (_, token) = reserve(&mut world, client());
    for place in 0..8 {
        let mut forged = token.clone();
        forged[place] ^= 1;
        let got = redeem(&mut world, &Login::alice(), other(), &forged);
        assert_eq!(got, Err(508));
    }
    assert!(redeem(&mut world, &Login::alice(), other(), &token).is_ok());
}

/// RFC 8656 §18.10: eight bytes.
#[test]
fn a_malformed_token_is_a_bad_request() {
    let mut world = world();
    for length in [0, 4, 7, 9, 16] {
        let got = redeem(&mut world, &Login::alice(), other(), &vec![0; length]);
        assert_eq!(got, Err(400));
    }
}

/// RFC 8656 §7.2 step 5: a token stands alone, valid or not.
#[test]
fn a_token_beside_another_wish_is_a_bad_request() {
    let mut world = world();
    let (_, token) = reserve(&mut world, client());
    for token in [token, vec![0; 8]] {
        for wish in [
            even_port(false),
            even_port(true),
            requested_family(1),
            additional_family(2),
        ] {
            let token = (AttributeType::RESERVATION_TOKEN, token.clone());
            let attributes = [requested_transport(UDP), token, wish];
            let answer = world.ask(&Login::alice(), other(), Method::ALLOCATE, &attributes);
            assert_eq!(answer.code(), Some(400));
        }
    }
}

/// Requirement S9: tokens are random.
#[test]
fn tokens_differ_in_every_byte() {
    let mut world = world();
    let client = |port: u16| udp(&format!("203.0.113.7:{port}"));
    let tokens: Vec<Vec<u8>> = (1..=64)
        .map(|port| reserve(&mut world, client(port)).1)
        .collect();
    for place in 0..8 {
        let values: BTreeSet<u8> = tokens.iter().map(|token| token[place]).collect();
        assert!(values.len() > 32, "byte {place}: {values:?}");
    }
}

/// RFC 8656 §7.2 step 10: who redeems pays, and who reserved pays no longer.
#[test]
fn redeeming_counts_against_the_quota_of_who_redeems() {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 2);
    let (above, token) = reserve(&mut world, client());
    // Alice has paid for the reservation, so its allocation costs her nothing more.
    assert_eq!(
        redeem(&mut world, &Login::alice(), other(), &token),
        Ok(above)
    );
    let third = udp("203.0.113.7:4002");
    let attributes = [requested_transport(UDP)];
    let answer = world.ask(&Login::alice(), third, Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(486));

    let mut world = world_with(|policy| policy.limits.allocations_per_user = 2);
    let (above, token) = reserve(&mut world, client());
    assert_eq!(
        redeem(&mut world, &Login::bob(), other(), &token),
        Ok(above)
    );
    let answer = world.ask(&Login::alice(), third, Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), None);
}

/// RFC 8656 §7.2 step 10: who may not redeem takes nothing away.
#[test]
fn a_token_survives_a_redemption_over_quota() {
    let mut world = world_with(|policy| policy.limits.allocations_per_user = 2);
    for port in 1..=2 {
        let from = udp(&format!("203.0.113.9:{port}"));
        let attributes = [requested_transport(UDP)];
        let answer = world.ask(&Login::bob(), from, Method::ALLOCATE, &attributes);
        assert_eq!(answer.code(), None);
    }
    let (above, token) = reserve(&mut world, client());
    let refused = redeem(&mut world, &Login::bob(), other(), &token);
    assert_eq!(refused, Err(486));
    assert_eq!(
        redeem(&mut world, &Login::alice(), other(), &token),
        Ok(above)
    );
}

/// RFC 8489 §6.3.1: a retransmission of the request that redeemed is answered alike.
#[test]
fn a_retransmitted_redemption_is_answered_alike() {
    let mut world = world();
    let (_, token) = reserve(&mut world, client());
    let token = (AttributeType::RESERVATION_TOKEN, token);
    let attributes = [requested_transport(UDP), token];
    let request = world.signed(&Login::alice(), other(), Method::ALLOCATE, &attributes);
    let first = world.send(other(), &request).response();
    assert_eq!(first.code(), None);
    assert_eq!(world.send(other(), &request).response(), first);
}

/// RFC 8656 §7.2: the reservation is server-wide. Whichever shard reserves and whichever redeems, the
/// port goes back where it belongs.
#[test]
fn a_token_is_good_on_every_shard() {
    const SHARDS: usize = 3;
    for (from, to) in (0..SHARDS).flat_map(|from| (0..SHARDS).map(move |to| (from, to))) {
        let mut policy = policy();
        policy.relay.ports = 50_000..=50_005;
        let mut shards = World::group(policy, 3, 7);
        for round in 0..3 {
            let (above, token) = reserve(&mut shards[from], client());
            let got = redeem(&mut shards[to], &Login::bob(), other(), &token);
            assert_eq!(got, Ok(above), "{from} to {to}, round {round}");
            assert!(shards[to].relays.contains_key(&above));
            let late = redeem(
                &mut shards[from],
                &Login::bob(),
                tcp("203.0.113.7:9"),
                &token,
            );
            assert_eq!(late, Err(508));
            for (shard, login, client) in [
                (from, Login::alice(), client()),
                (to, Login::bob(), other()),
            ] {
                let end = [lifetime(0)];
                let answer = shards[shard].ask(&login, client, Method::REFRESH, &end);
                assert_eq!(answer.code(), None);
            }
            let is_idle = |world: &World| world.relays.is_empty() && world.held().is_empty();
            assert!(shards.iter().all(is_idle) && shards[from].shared.is_idle());
        }
        for shard in &mut shards {
            shard.pass(seconds(600));
            assert!(shard.server.poll_timeout().is_none());
        }
    }
}
