//! Third-party authorization by access tokens (RFC 7635), requirements S12 and S16.

use turnstone::stun::{Algorithm, AttributeType, Class, MessageBuilder, Method, PasswordAlgorithm};
use turnstone::time::UnixTime;
use turnstone::turn::{AccessToken, AuthFailure, OAuth, Security, TokenAlgorithm, TokenKey};

use crate::bearer::{Bearer, failures, world_of_oauth};
use crate::common::token::{MAC_KEY, NORTH, SERVER, UNION, north, oauth, seal, union};
use crate::common::{Login, REALM, Response, START, USER, requested_transport, udp};
use crate::dialogue::{client, seconds, world, world_with};

/// RFC 7635 §4, §6.1: the challenge names the server beside realm and nonce, in 401 and in 438.
#[test]
fn a_challenge_carries_third_party_authorization() {
    let mut world = world_of_oauth();
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    let answer = world.send(client(), &request).response();
    assert_eq!(answer.code(), Some(401));
    let name = |answer: &Response| answer.value(AttributeType::THIRD_PARTY_AUTHORIZATION);
    assert_eq!(name(&answer), Some(SERVER.into()));
    assert!(answer.value(AttributeType::REALM).is_some());
    assert!(answer.value(AttributeType::NONCE).is_some());
    let nonce = world.nonce(client());
    world.pass(seconds(601));
    let late = Bearer::at(world.now.unix, 3600).with_nonce(nonce);
    let stale = late.allocate(&mut world);
    assert_eq!(
        (stale.code(), name(&stale)),
        (Some(438), Some(SERVER.into()))
    );
}

/// RFC 7635 §6.1: who believes no token does not offer it.
#[test]
fn without_keys_there_is_no_third_party_authorization() {
    let mut world = world();
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    let answer = world.send(client(), &request).response();
    assert_eq!(answer.code(), Some(401));
    assert_eq!(answer.value(AttributeType::THIRD_PARTY_AUTHORIZATION), None);
}

/// RFC 7635 §6.2: comprehension-required (RFC 8489 §6.3.1).
#[test]
fn without_keys_an_access_token_is_an_unknown_attribute() {
    let mut world = world();
    let token = (AttributeType::ACCESS_TOKEN, north(3600));
    let attributes = [requested_transport(17), token.clone()];
    let answer = world.ask(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(420));
    let unknown = answer.value(AttributeType::UNKNOWN_ATTRIBUTES);
    assert_eq!(unknown, Some(vec![0x00, 0x1B]));
    let request = world.request(Method::BINDING, &[token]);
    assert_eq!(world.send(client(), &request).response().code(), Some(420));
}

/// RFC 7635 §7, §8: MESSAGE-INTEGRITY of request and response is made with the token's mac_key.
#[test]
fn a_token_lets_its_holder_in_and_signs_the_response() {
    for bearer in [Bearer::north(3600), Bearer::union(3600)] {
        let mut world = world_of_oauth();
        let answer = bearer.allocate(&mut world);
        assert_eq!(answer.code(), None);
        let message = answer.message();
        assert_eq!(message.check_integrity(Algorithm::Sha1, MAC_KEY), Ok(()));
        assert!(!message.has_integrity_by(Algorithm::Sha256));
    }
}

/// RFC 7635 §6.2: the key length leaves room for other hashes; RFC 8489 §14.6 brings SHA-256. The
/// response is signed as the request is, with the whole key.
#[test]
fn a_longer_key_signs_with_sha256() {
    for length in [1, 16, 32, 64, 128] {
        let mac_key = vec![0xA5; length];
        let mut world = world_of_oauth();
        let bearer = Bearer {
            integrity: Algorithm::Sha256,
            ..Bearer::with_mac_key(&mac_key)
        };
        let answer = bearer.allocate(&mut world);
        assert_eq!(answer.code(), None, "{length} bytes");
        let checked = answer
            .message()
            .check_integrity(Algorithm::Sha256, &mac_key);
        assert_eq!(checked, Ok(()), "{length} bytes");
    }
}

/// RFC 8489 §9.2.4: a client that chose a password algorithm gets its answer with SHA-256.
#[test]
fn a_token_goes_together_with_password_algorithms() {
    let algorithms = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
    let mut world = world_with(|policy| {
        policy.oauth = Some(oauth());
        policy.security = Security::new(&algorithms, true);
    });
    let list = vec![0, 2, 0, 0, 0, 1, 0, 0];
    let bearer = Bearer {
        integrity: Algorithm::Sha256,
        more: vec![
            (AttributeType::PASSWORD_ALGORITHMS, list.clone()),
            (AttributeType::PASSWORD_ALGORITHM, vec![0, 2, 0, 0]),
        ],
        ..Bearer::north(3600)
    };
    let answer = bearer.allocate(&mut world);
    assert_eq!(answer.code(), None);
    let checked = answer.message().check_integrity(Algorithm::Sha256, MAC_KEY);
    assert_eq!(checked, Ok(()));
    let bid_down = Bearer {
        more: vec![(AttributeType::PASSWORD_ALGORITHMS, list[4..].to_vec())],
        ..bearer
    };
    assert_eq!(bid_down.allocate(&mut world).code(), Some(400));
}

/// RFC 8489 §9.2.4: the key id is the name that USERHASH hides.
#[test]
fn userhash_may_hide_the_key_id() {
    use sha2::{Digest as _, Sha256};
    let mut world = world_of_oauth();
    let hash = Sha256::digest(format!("{NORTH}:{REALM}"));
    let bearer = Bearer {
        name: (AttributeType::USERHASH, hash.to_vec()),
        ..Bearer::north(3600)
    };
    assert_eq!(bearer.allocate(&mut world).code(), None);
    let permitted = bearer.without_token().permit(&mut world);
    assert_eq!(permitted.code(), None);
}

/// RFC 7635 §7: a token that cannot be believed is answered with a challenge, and by no key.
#[test]
fn what_is_wrong_with_a_token_is_a_401() {
    let good = north(3600);
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    let elsewhere = seal(
        &TokenKey::new(TokenAlgorithm::A256Gcm, &[1; 32]).unwrap(),
        MAC_KEY,
        3600,
        "other.example",
    );
    let key_of_nobody = TokenKey::new(TokenAlgorithm::A256Gcm, &[9; 32]).unwrap();
    let foreign = seal(&key_of_nobody, MAC_KEY, 3600, SERVER);
    let cases = [
        (NORTH, Vec::new(), AuthFailure::BadToken),
        (NORTH, flipped, AuthFailure::BadToken),
        (
            NORTH,
            good[..good.len() - 1].to_vec(),
            AuthFailure::BadToken,
        ),
        (NORTH, [&*good, &[0]].concat(), AuthFailure::BadToken),
        (NORTH, elsewhere, AuthFailure::BadToken),
        (NORTH, foreign, AuthFailure::BadToken),
        (NORTH, union(3600), AuthFailure::BadToken),
        (UNION, good.clone(), AuthFailure::BadToken),
        ("south", good.clone(), AuthFailure::UnknownKey),
        (USER, good, AuthFailure::UnknownKey),
    ];
    for (id, token, failure) in cases {
        let mut world = world_of_oauth();
        let bearer = Bearer {
            name: (AttributeType::USERNAME, id.into()),
            token: Some(token),
            ..Bearer::north(3600)
        };
        let answer = bearer.allocate(&mut world);
        assert_eq!(answer.code(), Some(401), "{id} {failure:?}");
        assert_eq!(failures(&world, failure), 1, "{id} {failure:?}");
        assert!(
            answer
                .value(AttributeType::THIRD_PARTY_AUTHORIZATION)
                .is_some()
        );
        assert!(!answer.message().has_integrity_by(Algorithm::Sha1));
    }
}

/// RFC 8489 §9.2.4: whoever knows the token but not its key proves nothing.
#[test]
fn a_token_that_was_overheard_is_of_no_use() {
    let mut world = world_of_oauth();
    let thief = Bearer {
        mac_key: b"not the key of this!".to_vec(),
        ..Bearer::north(3600)
    };
    assert_eq!(thief.allocate(&mut world).code(), Some(401));
    assert_eq!(failures(&world, AuthFailure::WrongPassword), 1);
}

/// RFC 7635 §7: the whole key signs, though some clients of coturn's library take 16 bytes of it.
#[test]
fn a_part_of_the_key_signs_nothing() {
    let mut world = world_of_oauth();
    let part = Bearer {
        mac_key: MAC_KEY[..16].to_vec(),
        ..Bearer::north(3600)
    };
    assert_eq!(part.allocate(&mut world).code(), Some(401));
}

/// RFC 7635 §7: good from its time stamp on for its lifetime, five seconds of clock skew aside.
#[test]
fn a_token_is_good_for_its_lifetime_and_five_seconds() {
    let codes = |age: u64| {
        let mut world = world_of_oauth();
        let answer = Bearer::at(UnixTime(START - age), 60).allocate(&mut world);
        (answer.code(), answer.lifetime())
    };
    assert_eq!(codes(0), (None, Some(60)));
    assert_eq!(codes(59), (None, Some(1)));
    assert_eq!(codes(60), (None, Some(5)));
    assert_eq!(codes(64), (None, Some(1)));
    assert_eq!(codes(65), (Some(401), None));
    assert_eq!(codes(1_000_000), (Some(401), None));
}

/// RFC 7635 §7: the distance counts, on either side; a clock ahead makes no token last longer.
#[test]
fn a_token_of_the_future_is_good_within_the_same_bounds() {
    let answers = |ahead: u64| {
        let mut world = world_of_oauth();
        let answer = Bearer::at(UnixTime(START + ahead), 60).allocate(&mut world);
        (answer.code(), answer.lifetime())
    };
    assert_eq!(answers(3), (None, Some(60)));
    assert_eq!(answers(64), (None, Some(60)));
    assert_eq!(answers(65), (Some(401), None));
}

/// RFC 7635 §6.2: extreme numbers are numbers.
#[test]
fn extreme_time_stamps_and_lifetimes_are_harmless() {
    for (issued, lifetime) in [(0, 0), (0, u32::MAX), ((1 << 48) - 1, u32::MAX), (START, 0)] {
        let mut world = world_of_oauth();
        let answer = Bearer::at(UnixTime(issued), lifetime).allocate(&mut world);
        let is_good = issued == 0 && lifetime == u32::MAX;
        assert_eq!(answer.code().is_none(), is_good, "{issued} {lifetime}");
    }
}

/// RFC 7635 §5: first-party credentials go on beside.
#[test]
fn users_and_time_limited_credentials_go_on() {
    for login in [Login::alice(), Login::time_limited("carol", START + 60)] {
        let mut world = world_of_oauth();
        let answer = world.ask(
            &login,
            client(),
            Method::ALLOCATE,
            &[requested_transport(17)],
        );
        assert_eq!((answer.code(), answer.lifetime()), (None, Some(600)));
        assert!(answer.is_signed_by(&login));
    }
}

/// RFC 8489 §9.2.4: the nonce is checked as for everybody.
#[test]
fn a_foreign_nonce_is_stale() {
    let mut world = world_of_oauth();
    let nonce = world.nonce(udp("203.0.113.8:4000"));
    let bearer = Bearer::north(3600).with_nonce(nonce);
    assert_eq!(bearer.allocate(&mut world).code(), Some(438));
}

/// RFC 8656 §7.2 (S14): a retransmission is answered alike.
#[test]
fn a_retransmitted_allocate_is_answered_alike() {
    let mut world = world_of_oauth();
    let request =
        Bearer::north(3600).request(&mut world, Method::ALLOCATE, &[requested_transport(17)]);
    let first = world.send(client(), &request).response();
    assert_eq!(first.code(), None);
    assert_eq!(world.send(client(), &request).response(), first);
}

/// S10: the first of two tokens counts, and none behind the integrity.
#[test]
fn the_first_token_counts() {
    let bearer = |first, second| Bearer {
        token: Some(first),
        more: vec![(AttributeType::ACCESS_TOKEN, second)],
        ..Bearer::north(3600)
    };
    let mut world = world_of_oauth();
    let answer = bearer(b"junk".to_vec(), north(3600)).allocate(&mut world);
    assert_eq!(answer.code(), Some(401));
    let answer = bearer(north(3600), b"junk".to_vec()).allocate(&mut world);
    assert_eq!(answer.code(), None);
}

/// RFC 8489 §9.2.4: what is missing beside the token makes a bad request.
#[test]
fn a_token_without_username_is_a_bad_request() {
    let mut world = world_of_oauth();
    let nonce = world.nonce(client());
    let transaction = world.transaction();
    let mut request = Vec::new();
    let mut builder =
        MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, transaction);
    builder
        .attribute(AttributeType::ACCESS_TOKEN, &north(3600))
        .attribute(AttributeType::REALM, REALM.as_bytes())
        .attribute(AttributeType::NONCE, &nonce)
        .integrity(Algorithm::Sha1, MAC_KEY);
    assert_eq!(world.send(client(), &request).response().code(), Some(400));
}

/// S21: nothing that can be printed shows a key.
#[test]
fn debug_shows_no_key() {
    let key = TokenKey::new(TokenAlgorithm::A256Gcm, b"hush hush hush hush hush hush hu").unwrap();
    let token = AccessToken::new(b"hush", UnixTime(START), 60).unwrap();
    let shown = format!(
        "{key:?}{token:?}{:?}",
        OAuth::new(SERVER, NORTH, key.clone())
    );
    assert!(
        !shown.contains("hush") && !shown.contains("104, 117"),
        "{shown}"
    );
}
