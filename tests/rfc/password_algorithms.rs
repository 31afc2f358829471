//! Password algorithms, USERHASH and bid-down protection (RFC 8489 §9.2, §14.4, §14.11, §14.12, §18.5).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use turnstone::stun::{Algorithm, AttributeType, Class, MessageBuilder, Method, PasswordAlgorithm};
use turnstone::turn::{Credentials, Policy, Security, StoredKey};

use crate::common::{
    Login, Out, PASSWORD, REALM, Response, USER, World, policy, requested_transport, udp,
};

const SHA256: &[u8] = &[0, 2, 0, 0];
const MD5: &[u8] = &[0, 1, 0, 0];
const BOTH: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];

/// A client that signs as RFC 8489 says; each field can be set wrong.
struct Signer {
    name: (AttributeType, Vec<u8>),
    list: Option<Vec<u8>>,
    choice: Option<Vec<u8>>,
    key: StoredKey,
    integrity: Algorithm,
}

impl Signer {
    fn sha256() -> Self {
        Self {
            name: (AttributeType::USERNAME, USER.into()),
            list: Some(BOTH.into()),
            choice: Some(SHA256.into()),
            key: StoredKey::derive(PasswordAlgorithm::Sha256, USER, REALM, PASSWORD),
            integrity: Algorithm::Sha256,
        }
    }

    fn md5() -> Self {
        Self {
            choice: Some(MD5.into()),
            key: StoredKey::derive(PasswordAlgorithm::Md5, USER, REALM, PASSWORD),
            ..Self::sha256()
        }
    }

    fn allocate(&self, world: &mut World) -> Response {
        let request = self.request(world);
        world.send(udp("203.0.113.7:4000"), &request).response()
    }

    fn request(&self, world: &mut World) -> Vec<u8> {
        let from = udp("203.0.113.7:4000");
        let nonce = world.nonce(from);
        let (kind, transport) = requested_transport(17);
        let transaction = world.transaction();
        let mut request = Vec::new();
        let mut builder =
            MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, transaction);
        builder
            .attribute(kind, &transport)
            .attribute(self.name.0, &self.name.1)
            .attribute(AttributeType::REALM, REALM.as_bytes())
            .attribute(AttributeType::NONCE, &nonce);
        if let Some(list) = &self.list {
            builder.attribute(AttributeType::PASSWORD_ALGORITHMS, list);
        }
        if let Some(choice) = &self.choice {
            builder.attribute(AttributeType::PASSWORD_ALGORITHM, choice);
        }
        builder.integrity(self.integrity, self.key.as_bytes());
        request
    }

    /// The same with so many bytes of the hash, signed by hand: the length field counts in the hash.
    fn allocate_truncated(&self, length: usize) -> Response {
        let mut world = world();
        let from = udp("203.0.113.7:4000");
        let nonce = world.nonce(from);
        let transaction = world.transaction();
        let transport = requested_transport(17);
        let mut attributes = vec![transport, self.name.clone()];
        attributes.push((AttributeType::REALM, REALM.into()));
        attributes.push((AttributeType::NONCE, nonce));
        attributes.extend(
            self.list
                .clone()
                .map(|list| (AttributeType::PASSWORD_ALGORITHMS, list)),
        );
        attributes.extend(
            self.choice
                .clone()
                .map(|one| (AttributeType::PASSWORD_ALGORITHM, one)),
        );
        let build = |hash: &[u8]| {
            let mut request = Vec::new();
            let mut builder =
                MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, transaction);
            for (kind, value) in &attributes {
                builder.attribute(*kind, value);
            }
            builder.attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, hash);
            request
        };
        let unsigned = build(&vec![0; length]);
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).unwrap();
        mac.update(&unsigned[..unsigned.len() - 4 - length]);
        let request = build(&mac.finalize().into_bytes()[..length]);
        world.send(from, &request).response()
    }

    fn code(&self) -> Option<u16> {
        self.allocate(&mut world()).code()
    }
}

/// Offers both algorithms and USERHASH; alice alone may allocate.
fn world() -> World {
    World::new(offering_both())
}

pub(crate) fn offering_both() -> Policy {
    let algorithms = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
    let mut credentials = Credentials::new(REALM);
    for algorithm in algorithms {
        credentials.add_user(USER, StoredKey::derive(algorithm, USER, REALM, PASSWORD));
    }
    Policy {
        credentials,
        security: Security::new(&algorithms, true),
        ..policy()
    }
}

/// A world in which the usual client has an allocation by SHA-256, its request and the answer.
pub(crate) fn allocated_with_sha256() -> (World, Vec<u8>, Response) {
    let mut world = world();
    let request = Signer::sha256().request(&mut world);
    let answer = world.send(udp("203.0.113.7:4000"), &request).response();
    assert_eq!(answer.code(), None);
    (world, request, answer)
}

fn challenge(world: &mut World) -> Response {
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    world.send(udp("203.0.113.7:4000"), &request).response()
}

fn is_signed(response: &Response, algorithm: Algorithm, signer: &Signer) -> bool {
    let message = response.message();
    message
        .check_integrity(algorithm, signer.key.as_bytes())
        .is_ok()
}

/// RFC 8489 §9.2.4: the list in a challenge goes with the bit "password algorithms" in the nonce.
#[test]
fn a_challenge_lists_the_algorithms_and_says_so_in_the_nonce() {
    let challenge = challenge(&mut world());
    assert_eq!(challenge.code(), Some(401));
    assert_eq!(
        challenge.value(AttributeType::PASSWORD_ALGORITHMS),
        Some(BOTH.into())
    );
    let nonce = challenge.value(AttributeType::NONCE).unwrap();
    assert!(nonce.starts_with(b"obMatJos2wAAA"), "bits 0 and 1 of 24");
}

/// RFC 8489 §9.2.4: without the list, no bit; a client of RFC 5389 sees nothing new.
#[test]
fn md5_alone_is_not_listed() {
    let security = Security::new(&[PasswordAlgorithm::Md5], false);
    let mut world = World::new(Policy {
        security,
        ..policy()
    });
    let challenge = challenge(&mut world);
    assert_eq!(challenge.value(AttributeType::PASSWORD_ALGORITHMS), None);
    let nonce = challenge.value(AttributeType::NONCE).unwrap();
    assert!(nonce.starts_with(b"obMatJos2AAAA"));
}

/// RFC 8489 §18.5.1.2, §9.2.4: the response carries MESSAGE-INTEGRITY-SHA256 with the same key.
#[test]
fn sha256_is_served_and_signs_the_response() {
    let signer = Signer::sha256();
    let response = signer.allocate(&mut world());
    assert_eq!(response.code(), None);
    assert!(is_signed(&response, Algorithm::Sha256, &signer));
    assert!(!response.message().has_integrity_by(Algorithm::Sha1));
}

/// RFC 8489 §9.2.4: MD5 may be chosen from the list; the response is signed with SHA-256 all the same.
#[test]
fn md5_chosen_from_the_list_signs_with_sha256() {
    let signer = Signer::md5();
    let response = signer.allocate(&mut world());
    assert_eq!(response.code(), None);
    assert!(is_signed(&response, Algorithm::Sha256, &signer));
}

/// RFC 8489 §9.2.4: neither list nor choice means MD5, and the response carries MESSAGE-INTEGRITY.
#[test]
fn a_client_of_rfc_5389_is_served_as_ever() {
    let old = Signer {
        list: None,
        choice: None,
        integrity: Algorithm::Sha1,
        ..Signer::md5()
    };
    let response = old.allocate(&mut world());
    assert_eq!(response.code(), None);
    assert!(response.is_signed_by(&Login::alice()));
    assert!(!response.message().has_integrity_by(Algorithm::Sha256));
}

/// RFC 8489 §9.2.4: both attributes or none.
#[test]
fn list_and_choice_go_together() {
    let no_list = Signer {
        list: None,
        ..Signer::sha256()
    };
    let no_choice = Signer {
        choice: None,
        ..Signer::sha256()
    };
    assert_eq!((no_list.code(), no_choice.code()), (Some(400), Some(400)));
}

/// RFC 8489 §16.1.3, requirement S13: a list that somebody shortened on the way is noticed.
#[test]
fn s13_another_list_than_ours_is_refused() {
    for list in [MD5, SHA256, &[0, 1, 0, 0, 0, 2, 0, 0], &[]] {
        let bid_down = Signer {
            list: Some(list.into()),
            ..Signer::md5()
        };
        assert_eq!(bid_down.code(), Some(400), "{list:?}");
    }
}

/// RFC 8489 §16.1.3, requirement S13: nor can the bits be taken out of the nonce.
#[test]
fn s13_a_nonce_without_its_bits_is_stale() {
    let mut world = world();
    let from = udp("203.0.113.7:4000");
    let mut nonce = world.nonce(from);
    nonce[9] = b'A';
    let transaction = world.transaction();
    let request = Login::alice().sign(
        transaction,
        Method::ALLOCATE,
        &[requested_transport(17)],
        &nonce,
    );
    assert_eq!(world.send(from, &request).response().code(), Some(438));
}

/// RFC 8489 §9.2.4: the choice is one of the list.
#[test]
fn an_algorithm_that_is_not_offered_is_refused() {
    for choice in [
        &[0, 3, 0, 0][..],
        &[0, 0, 0, 0],
        &[0, 2],
        &[0, 2, 0, 1, 0, 0, 0, 0],
    ] {
        let signer = Signer {
            choice: Some(choice.into()),
            ..Signer::sha256()
        };
        assert_eq!(signer.code(), Some(400), "{choice:?}");
    }
}

/// RFC 8489 §9.2.2: the key is that of the chosen algorithm.
#[test]
fn the_key_of_the_other_algorithm_is_wrong() {
    let crossed = Signer {
        key: Signer::md5().key,
        ..Signer::sha256()
    };
    assert_eq!(crossed.code(), Some(401));
}

/// RFC 8489 §14.6: 16 to 32 bytes of the hash in steps of four.
#[test]
fn a_truncated_sha256_is_accepted_down_to_sixteen_bytes() {
    for (length, code) in [(32, None), (28, None), (16, None)] {
        assert_eq!(
            Signer::sha256().allocate_truncated(length).code(),
            code,
            "{length} bytes"
        );
    }
}

/// RFC 8489 §9.2.4: a 438 lists the algorithms as a 401 does.
#[test]
fn a_stale_nonce_is_answered_with_the_list() {
    let mut world = world();
    let from = udp("203.0.113.7:4000");
    let nonce = world.nonce(from);
    world.pass(std::time::Duration::from_secs(600));
    let transaction = world.transaction();
    let request = Login::alice().sign(
        transaction,
        Method::ALLOCATE,
        &[requested_transport(17)],
        &nonce,
    );
    let stale = world.send(from, &request).response();
    assert_eq!(stale.code(), Some(438));
    assert_eq!(
        stale.value(AttributeType::PASSWORD_ALGORITHMS),
        Some(BOTH.into())
    );
}

/// RFC 8489 §9.2.4: whoever is not known or signs wrongly gets the list, the realm and a nonce, and no
/// name; and a request that is no good gets none of them.
#[test]
fn every_401_is_a_whole_challenge_and_a_400_is_none() {
    let unknown = Signer {
        name: (AttributeType::USERNAME, b"mallory".into()),
        ..Signer::sha256()
    };
    let hidden = Signer {
        name: (AttributeType::USERHASH, vec![7; 32]),
        ..Signer::sha256()
    };
    let wrong = Signer {
        key: Signer::md5().key,
        ..Signer::sha256()
    };
    let bid_down = Signer {
        list: Some(MD5.into()),
        ..Signer::sha256()
    };
    let parts = [
        AttributeType::REALM,
        AttributeType::NONCE,
        AttributeType::PASSWORD_ALGORITHMS,
    ];
    let names = [AttributeType::USERNAME, AttributeType::USERHASH];
    for (signer, code) in [(unknown, 401), (hidden, 401), (wrong, 401), (bid_down, 400)] {
        let response = signer.allocate(&mut world());
        assert_eq!(response.code(), Some(code));
        let is_there = |kind: &AttributeType| response.value(*kind).is_some();
        assert!(
            parts.iter().all(|kind| is_there(kind) == (code == 401)),
            "{code}"
        );
        assert!(!names.iter().any(is_there));
        assert!(!is_there(&AttributeType::MESSAGE_INTEGRITY_SHA256));
    }
}

/// RFC 8489 §9.2.4: of two integrities the one by SHA-256 counts, and a right one by SHA-1 does not make
/// up for it.
#[test]
fn with_both_integrities_that_by_sha256_counts() {
    let signer = Signer::sha256();
    let wrong = Signer::md5().key;
    for (sha1, sha256, code) in [
        (&signer.key, &signer.key, None),
        (&wrong, &signer.key, None),
        (&signer.key, &wrong, Some(401)),
    ] {
        let mut world = world();
        let from = udp("203.0.113.7:4000");
        let nonce = world.nonce(from);
        let id = world.transaction();
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, id)
            .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .attribute(AttributeType::USERNAME, USER.as_bytes())
            .attribute(AttributeType::REALM, REALM.as_bytes())
            .attribute(AttributeType::NONCE, &nonce)
            .attribute(AttributeType::PASSWORD_ALGORITHMS, BOTH)
            .attribute(AttributeType::PASSWORD_ALGORITHM, SHA256)
            .integrity(Algorithm::Sha1, sha1.as_bytes())
            .integrity(Algorithm::Sha256, sha256.as_bytes());
        let response = world.send(from, &request).response();
        assert_eq!(response.code(), code);
    }
}

/// RFC 8489 §14.6: at least 16 bytes, at most 32, in steps of four; anything else is no message.
#[test]
fn a_sha256_of_another_length_is_discarded() {
    for length in [0, 4, 12, 15, 17, 18, 30, 33, 36, 64] {
        let mut world = world();
        let id = world.transaction();
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, id)
            .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, &vec![7; length]);
        let out = world.send(udp("203.0.113.7:4000"), &request);
        assert_eq!(out, Out::Nothing, "{length} bytes");
    }
}

/// RFC 8489 §14.4: SHA-256 of `username ":" realm` in place of the name.
#[test]
fn a_user_is_found_by_userhash() {
    // printf 'alice:example.org' | sha256sum
    let hash = [
        0x43, 0x5b, 0x79, 0x33, 0x09, 0x6a, 0x30, 0x4d, 0x3c, 0x73, 0x4c, 0xfb, 0x83, 0x3e, 0xc9,
        0x07, 0x5b, 0xd4, 0x7a, 0xb1, 0xc0, 0x16, 0x03, 0x21, 0xae, 0xd3, 0x1c, 0x06, 0xa8, 0xc7,
        0x00, 0x9e,
    ];
    let hashed = Signer {
        name: (AttributeType::USERHASH, hash.into()),
        ..Signer::sha256()
    };
    let mut world = world();
    let response = hashed.allocate(&mut world);
    assert_eq!(response.code(), None);
    let unknown = Signer {
        name: (AttributeType::USERHASH, vec![7; 32]),
        ..Signer::sha256()
    };
    assert_eq!(unknown.code(), Some(401));
    let short = Signer {
        name: (AttributeType::USERHASH, vec![7; 31]),
        ..Signer::sha256()
    };
    assert_eq!(short.code(), Some(401));
}

/// RFC 8656 §5: whoever allocated by hash is the same user as by name.
#[test]
fn hash_and_name_are_one_user() {
    let mut world = world();
    assert_eq!(Signer::sha256().allocate(&mut world).code(), None);
    let by_name = world.ask(
        &Login::alice(),
        udp("203.0.113.7:4000"),
        Method::REFRESH,
        &[],
    );
    assert_eq!(by_name.code(), None);
}
