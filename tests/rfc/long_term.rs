//! The long-term credential mechanism (RFC 8489 §9.2), in the order of §9.2.4.

use turnstone::stun::{
    Algorithm, AttributeType, Class, Message, MessageBuilder, Method, TransactionId,
};
use turnstone::turn::{AuthFailure, Counter, StoredKey};

use crate::common::{
    Login, Response, START, World, lifetime, requested_transport, udp, xor_peer_address,
};
use crate::dialogue::{allocated, ask, client, code, peer, raw, seconds, world, world_with};

const CREDENTIALS: [AttributeType; 3] = [
    AttributeType::USERNAME,
    AttributeType::REALM,
    AttributeType::NONCE,
];

fn unsigned(world: &mut World) -> Response {
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    world.send(client(), &request).response()
}

/// Alice's Allocate request with `nonce`.
fn with_nonce(world: &mut World, login: &Login, nonce: &[u8]) -> Response {
    let transaction = world.transaction();
    let transport = [requested_transport(17)];
    let request = login.sign(transaction, Method::ALLOCATE, &transport, nonce);
    world.send(client(), &request).response()
}

fn has(response: &Response, kinds: &[AttributeType]) -> bool {
    kinds.iter().any(|kind| response.value(*kind).is_some())
}

/// A challenge carries realm and nonce and nothing that a client would send.
fn assert_is_challenge(response: &Response, code: u16) {
    assert_eq!(response.code(), Some(code));
    assert_eq!(
        response.value(AttributeType::REALM),
        Some(b"example.org".to_vec())
    );
    assert!(has(response, &[AttributeType::NONCE]));
    assert!(!has(
        response,
        &[AttributeType::USERNAME, AttributeType::USERHASH]
    ));
    assert!(!response.message().has_integrity_by(Algorithm::Sha1));
    assert!(!response.message().has_integrity_by(Algorithm::Sha256));
}

/// RFC 8489 §9.2.4, first check.
#[test]
fn a_request_without_message_integrity_is_challenged() {
    let mut world = world();
    assert_is_challenge(&unsigned(&mut world), 401);
    for bits in [0x0004, 0x0008, 0x0009] {
        let request = raw(bits, &[(0x000D, &[0; 4])]);
        assert_is_challenge(&world.send(client(), &request).response(), 401);
    }
}

/// RFC 8489 §9.2: the nonce begins with the cookie and the security features.
#[test]
fn a_nonce_begins_with_the_nonce_cookie() {
    let nonce = world().nonce(client());
    assert!(nonce.starts_with(b"obMatJos2"), "{nonce:?}");
}

/// RFC 8489 §9.2.4: never the same nonce for two source addresses or ports.
#[test]
fn clients_get_different_nonces() {
    let mut world = world();
    let nonce = world.nonce(client());
    assert_ne!(world.nonce(udp("203.0.113.7:4001")), nonce);
    assert_ne!(world.nonce(udp("203.0.113.8:4000")), nonce);
}

/// RFC 8489 §14.9, §14.10: fewer than 128 characters.
#[test]
fn realm_and_nonce_are_short() {
    let answer = unsigned(&mut world());
    for kind in [AttributeType::REALM, AttributeType::NONCE] {
        let value = answer.value(kind).unwrap();
        assert!((1..128).contains(&value.len()));
        assert!(value.iter().all(u8::is_ascii_graphic));
    }
}

/// RFC 8489 §9.2.4, second check.
#[test]
fn message_integrity_without_username_realm_or_nonce_is_a_bad_request() {
    let mut world = world();
    let nonce = world.nonce(client());
    for missing in CREDENTIALS {
        let mut request = Vec::new();
        let transaction = world.transaction();
        let mut builder =
            MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, transaction);
        for (kind, value) in CREDENTIALS
            .iter()
            .zip([b"alice", &b"example.org"[..], &nonce])
        {
            if *kind != missing {
                builder.attribute(*kind, value);
            }
        }
        builder.integrity(Algorithm::Sha1, Login::alice().key().as_bytes());
        let refusal = world.send(client(), &request).response();
        assert_eq!(refusal.code(), Some(400));
        assert!(!has(&refusal, &CREDENTIALS));
        assert!(!refusal.message().has_integrity_by(Algorithm::Sha1));
    }
}

/// RFC 8489 §9.2.4, second check, with nothing but the integrity.
#[test]
fn message_integrity_alone_is_a_bad_request() {
    let mut world = world();
    let mut request = Vec::new();
    let transaction = world.transaction();
    MessageBuilder::new(&mut request, Class::Request, Method::REFRESH, transaction)
        .integrity(Algorithm::Sha1, Login::alice().key().as_bytes());
    let refusal = world.send(client(), &request).response();
    assert_eq!(refusal.code(), Some(400));
}

/// RFC 8489 §9.2.4: a username that is not valid.
#[test]
fn an_unknown_user_is_challenged() {
    let mut world = world();
    let nonce = world.nonce(client());
    let refusal = with_nonce(&mut world, &Login::new("mallory", "wonderland"), &nonce);
    assert_is_challenge(&refusal, 401);
}

/// RFC 8489 §14.3: usernames of up to 763 bytes are parsed.
#[test]
fn a_username_of_763_bytes_or_of_no_text_is_merely_unknown() {
    let mut world = world();
    let nonce = world.nonce(client());
    let refusal = with_nonce(&mut world, &Login::new(&"é".repeat(381), "x"), &nonce);
    assert_is_challenge(&refusal, 401);
    let attributes = [
        (0x0006, &b"\xFF\xFE"[..]),
        (0x0014, b"example.org"),
        (0x0015, &nonce),
        (0x0008, &[0; 20]),
    ];
    let refusal = world.send(client(), &raw(0x0003, &attributes)).response();
    assert_is_challenge(&refusal, 401);
}

/// RFC 8489 §9.2.4: the integrity does not match.
#[test]
fn a_wrong_password_is_challenged() {
    let mut world = world();
    let nonce = world.nonce(client());
    let refusal = with_nonce(&mut world, &Login::new("alice", "looking-glass"), &nonce);
    assert_is_challenge(&refusal, 401);
}

/// RFC 8489 §9.2.4, §14.5: the integrity covers every byte before it.
#[test]
fn a_changed_request_is_challenged() {
    let mut world = world();
    let nonce = world.nonce(client());
    let transport = [requested_transport(17), lifetime(700)];
    let transaction = world.transaction();
    let good = Login::alice().sign(transaction, Method::ALLOCATE, &transport, &nonce);
    let lifetime_value = 35;
    for place in [19, 25, lifetime_value, good.len() - 1] {
        let mut changed = good.clone();
        changed[place] ^= 1;
        assert_is_challenge(&world.send(client(), &changed).response(), 401);
    }
}

/// RFC 8489 §9.2.2: the key depends on the realm.
#[test]
fn another_realm_is_challenged() {
    let mut world = world();
    let nonce = world.nonce(client());
    let mut login = Login::alice();
    login.realm = "example.net".into();
    assert_is_challenge(&with_nonce(&mut world, &login, &nonce), 401);
}

/// RFC 8489 §9.2.4, last check: 438 with a nonce that is valid.
#[test]
fn a_stale_nonce_is_refused_with_a_fresh_one() {
    let mut world = world();
    let stale = world.nonce(client());
    world.pass(seconds(600));
    let refusal = with_nonce(&mut world, &Login::alice(), &stale);
    assert_is_challenge(&refusal, 438);
    let fresh = refusal.value(AttributeType::NONCE).unwrap();
    assert_eq!(with_nonce(&mut world, &Login::alice(), &fresh).code(), None);
}

/// RFC 8656 §5: the nonce expires during the life of the allocation too.
#[test]
fn a_nonce_grows_stale_while_the_allocation_lives() {
    let mut world = world();
    let nonce = world.nonce(client());
    let hour = [requested_transport(17), lifetime(3600)];
    let request = Login::alice().sign(TransactionId([9; 12]), Method::ALLOCATE, &hour, &nonce);
    assert_eq!(world.send(client(), &request).response().code(), None);
    let refresh = Login::alice().sign(TransactionId([8; 12]), Method::REFRESH, &[], &nonce);
    world.pass(seconds(599));
    assert_eq!(world.send(client(), &refresh).response().code(), None);
    world.pass(seconds(1));
    assert_is_challenge(&world.send(client(), &refresh).response(), 438);
}

/// RFC 8489 §9.2.4: the checks come in this order.
#[test]
fn a_wrong_password_is_found_before_a_stale_nonce() {
    let mut world = world();
    let refusal = with_nonce(&mut world, &Login::new("alice", "wrong"), b"long gone");
    assert_is_challenge(&refusal, 401);
    let refusal = with_nonce(&mut world, &Login::alice(), b"long gone");
    assert_is_challenge(&refusal, 438);
}

/// RFC 8489 §9.2.4: success and error responses alike, with nothing that the client knows already.
#[test]
fn responses_to_authenticated_requests_are_signed_with_the_users_key() {
    let mut world = world();
    let success = ask(&mut world, Method::ALLOCATE, &[requested_transport(17)]);
    let errors = [
        ask(&mut world, Method::ALLOCATE, &[requested_transport(17)]),
        ask(&mut world, Method::CHANNEL_BIND, &[]),
        world.ask(&Login::bob(), client(), Method::REFRESH, &[]),
    ];
    assert!(success.is_signed_by(&Login::alice()) && !has(&success, &CREDENTIALS));
    for (error, login) in errors
        .iter()
        .zip([Login::alice(), Login::alice(), Login::bob()])
    {
        assert!(error.is_signed_by(&login) && !has(error, &CREDENTIALS));
    }
}

/// RFC 8489 §9.2: indications cannot be challenged.
#[test]
fn indications_need_no_credentials_and_ignore_those_they_have() {
    let (mut world, _) = allocated();
    world.permit(client(), peer());
    let transaction = TransactionId([3; 12]);
    let (kind, value) = xor_peer_address(peer(), transaction);
    let mut send = Vec::new();
    MessageBuilder::new(&mut send, Class::Indication, Method::SEND, transaction)
        .attribute(kind, &value)
        .attribute(AttributeType::DATA, b"data")
        .attribute(AttributeType::USERNAME, b"nobody")
        .integrity(Algorithm::Sha1, b"no key");
    let out = world.send(client(), &send);
    assert!(matches!(out, crate::common::Out::ToPeer { .. }));
}

/// RFC 8489 §9.2.4: without a choice of algorithm the key is that of MD5, whatever signs; the response
/// carries MESSAGE-INTEGRITY then.
#[test]
fn sha256_may_sign_with_the_key_of_md5() {
    let mut world = world();
    let nonce = world.nonce(client());
    let mut request = Vec::new();
    let transaction = world.transaction();
    let (kind, value) = requested_transport(17);
    MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, transaction)
        .attribute(kind, &value)
        .attribute(AttributeType::USERNAME, b"alice")
        .attribute(AttributeType::REALM, b"example.org")
        .attribute(AttributeType::NONCE, &nonce)
        .integrity(Algorithm::Sha256, Login::alice().key().as_bytes());
    assert!(Message::parse(&request).is_ok());
    let response = world.send(client(), &request).response();
    assert_eq!(response.code(), None);
    assert!(response.is_signed_by(&Login::alice()));
}

/// RFC 8489 §9.2.2: usernames and passwords are UTF-8.
#[test]
fn users_may_have_any_name() {
    for name in [
        "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}",
        "'\";--%n\r\n\0",
        "a b",
    ] {
        let mut world = world_with(|policy| {
            let key = StoredKey::derive(
                turnstone::stun::PasswordAlgorithm::Md5,
                name,
                "example.org",
                "TheMatrIX",
            );
            policy.credentials.add_user(name, key);
        });
        let login = Login::new(name, "TheMatrIX");
        let answer = world.ask(
            &login,
            client(),
            Method::ALLOCATE,
            &[requested_transport(17)],
        );
        assert_eq!(answer.code(), None);
    }
}

/// The TURN REST draft: good until the time in its name.
#[test]
fn a_time_limited_credential_is_good_until_its_time() {
    let mut world = world();
    let login = Login::time_limited("carol", START + 60);
    let transport = [requested_transport(17)];
    let before = world.ask(&login, client(), Method::ALLOCATE, &transport);
    assert_eq!(before.code(), None);
    world.pass(seconds(60));
    let after = world.ask(&login, udp("203.0.113.9:1"), Method::ALLOCATE, &transport);
    assert_is_challenge(&after, 401);
    let expired = Counter::AuthFailures(AuthFailure::Expired);
    assert_eq!(world.server.stats().get(expired), 1);
}

/// RFC 8656 §5: every method of TURN is authenticated alike.
#[test]
fn every_method_wants_the_right_password() {
    let (mut world, _) = allocated();
    let wrong = Login::new("alice", "wrong");
    for method in [
        Method::REFRESH,
        Method::CREATE_PERMISSION,
        Method::CHANNEL_BIND,
    ] {
        assert_is_challenge(&world.ask(&wrong, client(), method, &[]), 401);
    }
    assert_eq!(code(&mut world, Method::REFRESH, &[]), None);
}
