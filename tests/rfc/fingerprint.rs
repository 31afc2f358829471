//! FINGERPRINT (RFC 8489 §7, §14.7).

use turnstone::stun::{Algorithm, AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::turn::Reason;

use crate::common::{Login, Out, requested_transport, send_indication};
use crate::dialogue::{allocated, assert_dropped, binding, client, peer, raw, world};

/// Appends a right FINGERPRINT to an unsigned message.
pub(crate) fn with_fingerprint(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[3] += 8;
    let crc = crc32fast::hash(&message) ^ 0x5354_554E;
    message.extend_from_slice(&[0x80, 0x28, 0, 4]);
    message.extend_from_slice(&crc.to_be_bytes());
    message
}

/// RFC 8489 §12: a server must not require it.
#[test]
fn a_request_without_fingerprint_is_answered_without() {
    let mut world = world();
    let answer = world.send(client(), &binding(&[])).response();
    assert_eq!(answer.code(), None);
    assert!(!answer.message().has_fingerprint());
}

/// RFC 8489 §7: an agent that uses it includes it in messages to the other.
#[test]
fn a_request_with_fingerprint_is_answered_with_one() {
    let mut world = world();
    for request in [binding(&[]), raw(0x0003, &[(0x0019, &[17, 0, 0, 0])])] {
        let request = with_fingerprint(&request);
        let answer = world.send(client(), &request).response();
        assert!(answer.message().has_fingerprint());
    }
}

/// RFC 8489 §6.3.
#[test]
fn a_message_with_a_wrong_fingerprint_is_discarded() {
    let mut world = world();
    let good = with_fingerprint(&binding(&[(0x8022, b"test")]));
    for place in [8, 24, good.len() - 1] {
        let mut wrong = good.clone();
        wrong[place] ^= 1;
        assert_dropped(&mut world, &wrong, Reason::BadFingerprint);
    }
}

/// RFC 8489 §14.7.
#[test]
fn a_message_whose_fingerprint_is_not_last_is_discarded() {
    let mut world = world();
    let mut request = with_fingerprint(&binding(&[]));
    request.extend_from_slice(&[0x80, 0x22, 0, 0]);
    request[3] += 4;
    assert_dropped(&mut world, &request, Reason::Malformed);
}

/// RFC 8489 §14.7: four bytes.
#[test]
fn a_fingerprint_of_another_length_is_discarded() {
    let mut world = world();
    for value in [&[][..], &[1, 2, 3], &[0; 8]] {
        assert_dropped(&mut world, &binding(&[(0x8028, value)]), Reason::Malformed);
    }
}

/// RFC 8489 §14.7: it follows MESSAGE-INTEGRITY and covers it.
#[test]
fn fingerprint_is_the_last_attribute_and_covers_the_integrity() {
    let mut world = world();
    let nonce = world.nonce(client());
    let login = Login::alice();
    let mut request = Vec::new();
    let transaction = TransactionId(*b"0123456789ab");
    let (kind, value) = requested_transport(17);
    MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, transaction)
        .attribute(kind, &value)
        .attribute(AttributeType::USERNAME, login.username.as_bytes())
        .attribute(AttributeType::REALM, login.realm.as_bytes())
        .attribute(AttributeType::NONCE, &nonce)
        .integrity(Algorithm::Sha1, login.key().as_bytes())
        .fingerprint();
    let answer = world.send(client(), &request).response();
    assert_eq!(answer.code(), None);
    assert!(answer.is_signed_by(&login) && answer.message().has_fingerprint());
    let [.., a, b, c, d] = answer.0[..] else {
        panic!("an empty response");
    };
    let head = &answer.0[..answer.0.len() - 8];
    assert_eq!(
        u32::from_be_bytes([a, b, c, d]),
        crc32fast::hash(head) ^ 0x5354_554E
    );
}

/// RFC 8656 §5: in any STUN-formatted message, so in indications too.
#[test]
fn indications_may_carry_a_fingerprint() {
    let (mut world, _) = allocated();
    world.permit(client(), peer());
    let send = with_fingerprint(&send_indication(peer(), b"data"));
    assert!(matches!(world.send(client(), &send), Out::ToPeer { .. }));
    assert_dropped(
        &mut world,
        &with_fingerprint(&raw(0x0011, &[])),
        Reason::KeepAlive,
    );
}
