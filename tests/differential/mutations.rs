//! Mutated bytes: where two parsers accept them, they read the same; where one refuses them alone,
//! the reason is one of those named here.

use stun::message::Message as StunCrateMessage;
use stun_types::attribute::{Attribute as _, XorSocketAddr};
use stun_types::message::Message as StunTypesMessage;
use turnstone::stun::{Algorithm, AttributeType, DecodeError, DecodeErrorKind as Kind, Message};

use crate::common::random::Random;
use crate::inputs::{mutate, seeds};
use crate::plan::{KEY, Plan};
use crate::writers;

const INPUTS: usize = 200_000;

/// The committed corpus and messages of every attribute.
fn messages() -> Vec<Vec<u8>> {
    let plans = (0..50).map(|seed| writers::ours(&Plan::random(&mut Random(seed))));
    let mut all = seeds();
    all.extend(plans);
    all
}

fn for_each_input(seed: u64, mut check: impl FnMut(&[u8])) {
    let messages = messages();
    let mut random = Random(seed);
    for _ in 0..INPUTS {
        check(&mutate(&messages, &mut random));
    }
}

/// Why ours refuses what stun-types accepts.
fn ours_is_stricter_than_stun_types(error: DecodeError, bytes: &[u8]) -> bool {
    match error.kind {
        // A datagram is one message; theirs leaves the rest to its caller.
        Kind::TrailingBytes => true,
        // RFC 8489 §5: theirs takes a length that its attributes cannot have, and reads on behind it.
        Kind::UnalignedLength => true,
        // RFC 8489 §14.7: FINGERPRINT is the last attribute; theirs ignores what follows it.
        Kind::MisplacedFingerprint => true,
        // Theirs looks at the length of an integrity when it is asked to check it.
        Kind::IntegrityLength => true,
        // Theirs stops reading at the first attribute that may not follow the integrity.
        Kind::WrongFingerprint | Kind::AttributeOverrun => {
            has_integrity_before(bytes, error.offset)
        }
        _ => false,
    }
}

/// Whether an integrity attribute starts before `end`.
fn has_integrity_before(bytes: &[u8], end: usize) -> bool {
    let kinds = bytes[20..end]
        .chunks_exact(4)
        .map(|word| [word[0], word[1]]);
    kinds
        .into_iter()
        .any(|kind| matches!(kind, [0x00, 0x08 | 0x1C] | [0x80, 0x28]))
}

#[test]
fn ours_and_stun_types_read_the_same() {
    let mut both = 0;
    for_each_input(11, |bytes| {
        match (Message::parse(bytes), StunTypesMessage::from_bytes(bytes)) {
            (Ok(ours), Ok(theirs)) => {
                both += 1;
                assert_same(&ours, &theirs);
            }
            (Err(error), Ok(_)) => {
                let explained = ours_is_stricter_than_stun_types(error, bytes);
                assert!(explained, "ours alone refuses: {error}: {bytes:02x?}");
            }
            (Ok(_), Err(error)) => panic!("theirs alone refuses: {error}: {bytes:02x?}"),
            (Err(_), Err(_)) => {}
        }
    });
    assert!(both > INPUTS / 10, "{both} inputs were read by both");
}

fn assert_same(ours: &Message<'_>, theirs: &StunTypesMessage<'_>) {
    let id = theirs.transaction_id();
    assert_eq!(theirs.method().value(), method_of(theirs.as_bytes()));
    assert_eq!(u128::from(id).to_be_bytes()[4..], ours.transaction().0);
    let is_ending = |kind: u16| matches!(kind, 0x0008 | 0x001C | 0x8028);
    let mut attributes = ours.attributes();
    for (offset, theirs) in theirs.iter_attributes() {
        if is_ending(theirs.get_type().value()) {
            break;
        }
        let our = attributes.next().unwrap();
        assert_eq!(
            (our.kind.0, our.offset),
            (theirs.get_type().value(), offset)
        );
        assert_eq!(our.value, &*theirs.value);
        let xored = XorSocketAddr::from_raw(&theirs).ok();
        assert_eq!(
            ours.xor_address(&our).ok(),
            xored.map(|address| address.addr(id))
        );
    }
    assert_eq!(attributes.next(), None);
    assert_same_integrity(ours, theirs);
}

/// Theirs checks the better of two integrities, and takes a MESSAGE-INTEGRITY-SHA256 only directly
/// behind MESSAGE-INTEGRITY; ours also behind attributes that do not count.
fn assert_same_integrity(ours: &Message<'_>, theirs: &StunTypesMessage<'_>) {
    let mut kinds = theirs
        .iter_attributes()
        .map(|(_, attribute)| attribute.get_type().value());
    let algorithm = match kinds.any(|kind| kind == 0x001C) {
        true => Algorithm::Sha256,
        false => Algorithm::Sha1,
    };
    let checked = ours.check_integrity(algorithm, KEY.as_bytes());
    let validated = theirs.validate_integrity(&writers::credentials());
    assert_eq!(
        checked.is_ok(),
        validated.is_ok(),
        "{:02x?}",
        theirs.as_bytes()
    );
}

/// The method, by the drawing of RFC 8489 §5, figure 3.
fn method_of(bytes: &[u8]) -> u16 {
    let bits = u16::from_be_bytes([bytes[0], bytes[1]]);
    (bits & 0xF) | (bits >> 1 & 0x70) | (bits >> 2 & 0xF80)
}

/// Why ours refuses what the stun crate accepts.
fn ours_is_stricter_than_stun(error: DecodeError) -> bool {
    match error.kind {
        // The stun crate leaves the first two bits to whoever tells protocols apart.
        Kind::NotStun => true,
        // A datagram is one message.
        Kind::TrailingBytes => true,
        // It checks FINGERPRINT and integrity when it is asked to.
        Kind::MisplacedFingerprint | Kind::WrongFingerprint | Kind::IntegrityLength => true,
        _ => false,
    }
}

#[test]
fn ours_and_the_stun_crate_read_the_same() {
    let mut both = 0;
    for_each_input(12, |bytes| {
        let mut theirs = StunCrateMessage::new();
        match (Message::parse(bytes), theirs.unmarshal_binary(bytes)) {
            (Ok(ours), Ok(())) => {
                both += 1;
                assert_same_as_stun(&ours, &theirs);
            }
            (Err(error), Ok(())) => {
                let explained = ours_is_stricter_than_stun(error);
                assert!(explained, "ours alone refuses: {error}: {bytes:02x?}");
            }
            (Ok(_), Err(error)) => panic!("theirs alone refuses: {error}: {bytes:02x?}"),
            (Err(_), Err(_)) => {}
        }
    });
    assert!(both > INPUTS / 10, "{both} inputs were read by both");
}

fn assert_same_as_stun(ours: &Message<'_>, theirs: &StunCrateMessage) {
    assert_eq!(theirs.transaction_id.0, ours.transaction().0);
    for (our, their) in ours.attributes().zip(&theirs.attributes.0) {
        // Deployed before the type was settled, and read as XOR-MAPPED-ADDRESS by the stun crate.
        let is_old = our.kind == AttributeType(0x8020) && their.typ.0 == 0x0020;
        assert!(our.kind.0 == their.typ.0 || is_old);
        assert_eq!(our.value, their.value);
    }
    assert!(ours.attributes().count() <= theirs.attributes.0.len());
}
