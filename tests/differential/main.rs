//! Three independent implementations judge ours: `stun-types` and `turn-types`, the `stun` crate, and
//! the server of `turn-server-proto`.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "../common/mod.rs"]
mod common;

mod dialogues;
#[path = "../hostile/inputs.rs"]
mod inputs;
mod mutations;
mod other_server;
mod plan;
mod security;
mod writers;

use common::random::Random;
use plan::{Field, Integrity, Plan};
use stun::message::Message as StunCrateMessage;
use stun_types::message::Message as StunTypesMessage;
use turnstone::stun::{Algorithm, Message};

const MESSAGES: u64 = 3000;

/// All three write the same bytes for the same message.
#[test]
fn all_write_the_same_bytes() {
    for seed in 0..MESSAGES {
        let plan = Plan::random(&mut Random(seed));
        let ours = writers::ours(&plan);
        assert_eq!(ours, writers::stun_types(&plan), "stun-types, {plan:?}");
        if plan.integrity != Integrity::Sha256 {
            assert_eq!(ours, writers::stun_crate(&plan), "stun, {plan:?}");
        }
    }
}

/// Ours reads back what was meant, whoever wrote it.
#[test]
fn ours_reads_what_was_meant() {
    for seed in 0..MESSAGES {
        let plan = Plan::random(&mut Random(seed));
        let bytes = writers::stun_types(&plan);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.class(), message.method()),
            (plan.class, plan.method())
        );
        assert_eq!(message.transaction(), plan.transaction);
        assert_eq!(message.attributes().count(), plan.fields.len());
        for (attribute, field) in message.attributes().zip(&plan.fields) {
            assert!(field.is_read_from(&message, &attribute), "{field:?}");
        }
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
            let is_signed = plan.integrity.algorithm() == Some(algorithm);
            let checked = message.check_integrity(algorithm, plan::KEY.as_bytes());
            assert_eq!(checked.is_ok(), is_signed);
        }
        assert_eq!(message.has_fingerprint(), plan.fingerprint);
    }
}

/// The others accept what ours wrote, integrity and FINGERPRINT included.
#[test]
fn the_others_read_what_ours_wrote() {
    for seed in 0..MESSAGES {
        let plan = Plan::random(&mut Random(seed));
        let bytes = writers::ours(&plan);
        let theirs = StunTypesMessage::from_bytes(&bytes).unwrap();
        assert_eq!(theirs.method().value(), plan.method);
        let validated = theirs.validate_integrity(&writers::credentials());
        assert_eq!(validated.is_ok(), plan.integrity != Integrity::None);
        let mut theirs = StunCrateMessage::new();
        theirs.unmarshal_binary(&bytes).unwrap();
        assert_eq!(theirs.transaction_id.0, plan.transaction.0);
        if plan.fingerprint {
            stun::fingerprint::FINGERPRINT.check(&theirs).unwrap();
        }
        if plan.integrity == Integrity::Sha1 {
            writers::stun_crate_integrity().check(&mut theirs).unwrap();
        }
    }
}

/// The long-term key is the same everywhere.
#[test]
fn all_derive_the_same_long_term_key() {
    let mut random = Random(9);
    for _ in 0..200 {
        let [user, realm, password] = [(); 3].map(|()| Field::text(&mut random, 40));
        let ours = turnstone::turn::StoredKey::derive(
            turnstone::stun::PasswordAlgorithm::Md5,
            &user,
            &realm,
            &password,
        );
        let other = stun::integrity::MessageIntegrity::new_long_term_integrity(
            user.clone(),
            realm.clone(),
            password.clone(),
        );
        assert_eq!(ours.as_bytes(), other.0);
    }
}
