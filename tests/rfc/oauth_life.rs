//! Allocations of holders of access tokens: how long they live, and whose they are (RFC 7635 §9).

use std::num::NonZeroU64;

use turnstone::stun::{Algorithm, AttributeType, Method};
use turnstone::turn::{AuthFailure, Limits, OAuth, Policy, TokenAlgorithm, TokenKey};

use crate::bearer::{Bearer, failures, world_of_oauth};
use crate::common::token::{MAC_KEY, SERVER, UNION, oauth, seal};
use crate::common::{Login, Out, USER, World, lifetime, policy, send_indication, udp};
use crate::dialogue::{client, peer, reaches, seconds, world_with};

/// A world in which the usual client has an allocation by an access token for `lifetime` seconds.
fn allocated_for(lifetime: u32) -> (World, Bearer) {
    let mut world = world_of_oauth();
    let bearer = Bearer::north(lifetime);
    assert_eq!(bearer.allocate(&mut world).code(), None);
    (world, bearer)
}

/// RFC 7635 §9: the lifetime in the response is not longer than the token's.
#[test]
fn an_allocation_does_not_outlive_its_token() {
    let (mut world, bearer) = allocated_for(100);
    world.pass(seconds(40));
    let answer = bearer.refresh(&mut world, &[lifetime(3600)]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(60)));
    let answer = bearer.without_token().refresh(&mut world, &[]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(60)));
    world.pass(seconds(59));
    assert!(world.server.has_allocation(&client()));
    world.pass(seconds(1));
    assert!(!world.server.has_allocation(&client()));
    assert!(world.relays.is_empty() && world.shared.is_idle());
}

/// RFC 7635 §9: a token that lasts longer than an allocation changes nothing about it.
#[test]
fn a_long_token_leaves_the_lifetime_as_it_is() {
    let (mut world, bearer) = allocated_for(86_400);
    let answer = bearer.refresh(&mut world, &[]);
    assert_eq!(answer.lifetime(), Some(600));
    let answer = bearer.refresh(&mut world, &[lifetime(7200)]);
    assert_eq!(answer.lifetime(), Some(3600));
}

/// RFC 7635 §9: a token that has run out refreshes nothing.
#[test]
fn a_token_that_has_run_out_is_a_401() {
    let (mut world, bearer) = allocated_for(100);
    world.now.unix.0 += 105;
    for bearer in [bearer.without_token(), bearer] {
        let answer = bearer.refresh(&mut world, &[]);
        assert_eq!(answer.code(), Some(401));
    }
    assert_eq!(failures(&world, AuthFailure::Expired), 2);
}

/// RFC 7635 §9: the client refreshes existing allocations with its new token, and from then on signs
/// with its key. Keys rotate: the new token may be under another id.
#[test]
fn a_new_token_prolongs_the_allocation() {
    let (mut world, old) = allocated_for(100);
    world.pass(seconds(90));
    let new = Bearer::union_at(world.now.unix, 300, b"a new key of twenty!");
    let answer = new.refresh(&mut world, &[]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(300)));
    assert_eq!(new.without_token().permit(&mut world).code(), None);
    assert_eq!(old.without_token().permit(&mut world).code(), Some(401));
    world.pass(seconds(200));
    assert!(world.server.has_allocation(&client()));
    assert!(reaches(&mut world, peer()));
    world.pass(seconds(100));
    assert!(world.shared.is_idle());
}

/// RFC 7635 §9: only Allocate and Refresh carry the token; the others are signed with its key.
#[test]
fn requests_without_the_token_are_signed_with_its_key() {
    let (mut world, bearer) = allocated_for(3600);
    let bearer = bearer.without_token();
    assert_eq!(bearer.permit(&mut world).code(), None);
    let answer = bearer.refresh(&mut world, &[]);
    assert_eq!(answer.code(), None);
    let checked = answer.message().check_integrity(Algorithm::Sha1, MAC_KEY);
    assert_eq!(checked, Ok(()));
    let stranger = Bearer {
        mac_key: b"another".to_vec(),
        ..bearer
    };
    assert_eq!(stranger.permit(&mut world).code(), Some(401));
}

/// RFC 7635 §9 and RFC 8656 §7.2: without an allocation there is no key but in a token.
#[test]
fn an_allocate_without_the_token_is_a_401() {
    let mut world = world_of_oauth();
    let bearer = Bearer::north(3600).without_token();
    assert_eq!(bearer.allocate(&mut world).code(), Some(401));
}

/// RFC 8656 §5: another session's key is somebody else's, though its token is under the same id.
#[test]
fn another_token_of_the_same_id_is_another_user() {
    let (mut world, _) = allocated_for(3600);
    let other = Bearer::with_mac_key(b"a key of another one");
    assert_eq!(other.permit(&mut world).code(), Some(441));
    assert_eq!(failures(&world, AuthFailure::OtherUser), 1);
    assert_eq!(other.allocate(&mut world).code(), Some(437));
}

/// RFC 8656 §5: users with passwords and holders of tokens keep out of one another's allocations.
#[test]
fn a_user_of_the_same_name_has_wrong_credentials() {
    let with_alice = |policy: &mut Policy| {
        let mut oauth = oauth();
        let key = TokenKey::new(TokenAlgorithm::A128Gcm, &[7; 16]).unwrap();
        oauth.add_key(USER, key);
        policy.oauth = Some(oauth);
    };
    let key = TokenKey::new(TokenAlgorithm::A128Gcm, &[7; 16]).unwrap();
    let bearer = Bearer {
        name: (AttributeType::USERNAME, USER.into()),
        token: Some(seal(&key, MAC_KEY, 3600, SERVER)),
        ..Bearer::north(3600)
    };
    let mut world = world_with(with_alice);
    assert_eq!(bearer.allocate(&mut world).code(), None);
    for attributes in [vec![], vec![lifetime(0)]] {
        let answer = world.ask(&Login::alice(), client(), Method::REFRESH, &attributes);
        assert_eq!(answer.code(), Some(441));
    }
    let mut world = world_with(with_alice);
    world.allocate(client());
    assert_eq!(bearer.refresh(&mut world, &[lifetime(0)]).code(), Some(441));
    assert!(world.server.has_allocation(&client()));
}

/// RFC 8656 §8.2 by RFC 7635 §9.
#[test]
fn a_lifetime_of_zero_deletes_the_allocation() {
    let (mut world, bearer) = allocated_for(3600);
    let answer = bearer.refresh(&mut world, &[lifetime(0)]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(0)));
    assert!(world.shared.is_idle());
}

/// S15, S16: a quota counts the session of a token, not the id that all share; and what was taken is
/// given back though the allocation has another token by then.
#[test]
fn a_quota_counts_one_session() {
    let mut world = world_with(|policy| {
        policy.oauth = Some(oauth());
        policy.limits = Limits {
            allocations_per_user: 1,
            ..Limits::default()
        };
    });
    let first = Bearer::north(3600);
    assert_eq!(first.allocate(&mut world).code(), None);
    let elsewhere = |bearer: Bearer| Bearer {
        from: udp("203.0.113.7:4001"),
        ..bearer
    };
    let again = elsewhere(Bearer::north(3600));
    assert_eq!(again.allocate(&mut world).code(), Some(486));
    let other = elsewhere(Bearer::with_mac_key(b"a key of another one"));
    assert_eq!(other.allocate(&mut world).code(), None);
    let renewed = Bearer::with_mac_key(b"the next one's key..");
    assert_eq!(renewed.refresh(&mut world, &[]).code(), None);
    assert_eq!(renewed.refresh(&mut world, &[lifetime(0)]).code(), None);
    assert_eq!(other.refresh(&mut world, &[lifetime(0)]).code(), None);
    assert!(world.shared.is_idle());
}

/// S15: so does a limit on bandwidth.
#[test]
fn a_limit_on_bandwidth_is_one_sessions() {
    let mut world = world_with(|policy| {
        policy.oauth = Some(oauth());
        policy.bandwidth.per_user = NonZeroU64::new(8000);
    });
    let at = |from, bearer| Bearer {
        from: udp(from),
        ..bearer
    };
    let one = at("203.0.113.7:1", Bearer::north(3600));
    let same = at("203.0.113.7:2", Bearer::north(3600));
    let other = at("203.0.113.7:3", Bearer::with_mac_key(b"another"));
    for bearer in [&one, &same, &other] {
        assert_eq!(bearer.allocate(&mut world).code(), None);
        assert_eq!(bearer.permit(&mut world).code(), None);
    }
    let packet = send_indication(peer(), &[7; 1000]);
    let mut speaks = |bearer: &Bearer| world.send(bearer.from, &packet) != Out::Nothing;
    assert!((0..10_000).any(|_| !speaks(&one)));
    assert!(!speaks(&same) && speaks(&other));
}

/// S12: a key that was taken away opens nothing more, and allocations by it are not refreshed.
#[test]
fn a_key_that_was_withdrawn_lets_nobody_in() {
    let (mut world, bearer) = allocated_for(3600);
    let key = TokenKey::new(TokenAlgorithm::A128Gcm, &[7; 16]).unwrap();
    world.swap_policy(Policy {
        oauth: Some(OAuth::new(SERVER, UNION, key)),
        ..policy()
    });
    assert_eq!(bearer.without_token().permit(&mut world).code(), None);
    for bearer in [bearer.without_token(), bearer] {
        assert_eq!(bearer.refresh(&mut world, &[]).code(), Some(401));
    }
    assert_eq!(failures(&world, AuthFailure::UnknownKey), 2);
    assert!(world.server.has_allocation(&client()));
}
