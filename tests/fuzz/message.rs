//! Any bytes as a STUN message: read without panic, and what is read can be written again.

use turnstone::stun::{Algorithm, Attribute, ClassicRequest, Message, MessageBuilder};

/// One input; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    read_classic(data);
    match Message::parse(data) {
        Ok(message) => {
            read_all(&message, data);
            write_again(&message);
        }
        Err(error) => assert!(error.offset <= data.len(), "{error}"),
    }
}

/// A request of RFC 3489 ends where its last attribute does.
fn read_classic(data: &[u8]) {
    let Some(request) = ClassicRequest::parse(data) else {
        return;
    };
    assert_eq!(request.transaction().0, data[4..20]);
    let end =
        |attribute: Attribute<'_>| attribute.offset + 4 + attribute.value.len().next_multiple_of(4);
    assert_eq!(request.attributes().last().map_or(20, end), data.len());
    let unsupported = request.unsupported();
    assert!(unsupported.is_none_or(|kind| kind.is_comprehension_required()));
}

/// Every accessor; no value reaches past the message.
fn read_all(message: &Message<'_>, data: &[u8]) {
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
        let checked = message.check_integrity(algorithm, b"key");
        assert!(checked.is_err() || message.has_integrity_by(algorithm));
    }
    let mut end = 20;
    for attribute in message.attributes() {
        assert_eq!(attribute.offset, end);
        end = attribute.offset + 4 + attribute.value.len().next_multiple_of(4);
        assert!(end <= data.len());
        read(message, &attribute);
    }
    assert!(message.unknown_required(&[]).count() <= message.attributes().count());
    assert!(!message.is_bare() || end == 20);
}

fn read(message: &Message<'_>, attribute: &Attribute<'_>) {
    let is_address = matches!(attribute.value.len(), 8 | 20);
    assert!(is_address || message.address(attribute).is_err());
    let xored = message.xor_address(attribute);
    assert_eq!(xored.is_ok(), message.address(attribute).is_ok());
    assert_eq!(attribute.u32().is_ok(), attribute.value.len() == 4);
    assert!(attribute.text(508).map_or(0, str::len) <= 508);
    assert!(message.has(attribute.kind));
}

/// A message of the same attributes reads the same.
fn write_again(message: &Message<'_>) {
    let mut bytes = Vec::new();
    let mut builder = MessageBuilder::new(
        &mut bytes,
        message.class(),
        message.method(),
        message.transaction(),
    );
    for attribute in message.attributes() {
        builder.attribute(attribute.kind, attribute.value);
    }
    let again = Message::parse(&bytes).expect("what was written can be read");
    assert_eq!(again.class(), message.class());
    assert_eq!(again.method(), message.method());
    assert_eq!(again.transaction(), message.transaction());
    assert!(again.attributes().eq(message.attributes()));
}
