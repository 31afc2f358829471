//! A checked view of a message (RFC 8489 §5, §6.3).

use std::net::SocketAddr;

use super::address;
use super::attribute::{Attribute, AttributeType, Attributes, read_attribute};
use super::error::{DecodeError, DecodeErrorKind};
use super::header::{Class, HEADER_LENGTH, Method, TransactionId, check_header};
use super::integrity::{Algorithm, IntegrityError, equal, fingerprint};

/// A message whose structure and FINGERPRINT were found right.
///
/// Its attributes are those that count: what follows the message integrity is not among them
/// (RFC 8489 §14.5), and neither are the integrity attributes and FINGERPRINT themselves.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Method,
    /// Where the attributes that count end.
    end: usize,
    sha1: Option<Attribute<'a>>,
    sha256: Option<Attribute<'a>>,
    fingerprint: bool,
}

impl<'a> Message<'a> {
    /// Reads the message that is all of `bytes`.
    ///
    /// # Errors
    /// Says what is wrong and at which byte; see [`DecodeErrorKind`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (class, method) = check_header(bytes)?;
        let mut message = Self {
            bytes,
            class,
            method,
            end: bytes.len(),
            sha1: None,
            sha256: None,
            fingerprint: false,
        };
        message.check_attributes()?;
        Ok(message)
    }

    /// Walks all attributes once and finds where those that count end.
    fn check_attributes(&mut self) -> Result<(), DecodeError> {
        let mut offset = HEADER_LENGTH;
        while offset < self.bytes.len() {
            let (attribute, next) = read_attribute(self.bytes, offset)?;
            match attribute.kind {
                AttributeType::MESSAGE_INTEGRITY if self.no_integrity() => {
                    check_length(&attribute, Algorithm::Sha1)?;
                    self.sha1 = Some(attribute);
                    self.end = offset;
                }
                AttributeType::MESSAGE_INTEGRITY_SHA256 if self.sha256.is_none() => {
                    check_length(&attribute, Algorithm::Sha256)?;
                    self.sha256 = Some(attribute);
                    self.end = self.end.min(offset);
                }
                AttributeType::FINGERPRINT => {
                    self.check_fingerprint(&attribute, next)?;
                    self.end = self.end.min(offset);
                }
                _ => {}
            }
            offset = next;
        }
        Ok(())
    }

    fn no_integrity(&self) -> bool {
        self.sha1.is_none() && self.sha256.is_none()
    }

    fn check_fingerprint(
        &mut self,
        attribute: &Attribute<'a>,
        next: usize,
    ) -> Result<(), DecodeError> {
        let fail = |kind| Err(DecodeError::new(kind, attribute.offset));
        let (Ok(value), true) = (attribute.u32(), next == self.bytes.len()) else {
            return fail(DecodeErrorKind::MisplacedFingerprint);
        };
        if value != fingerprint(&self.bytes[..attribute.offset]) {
            return fail(DecodeErrorKind::WrongFingerprint);
        }
        self.fingerprint = true;
        Ok(())
    }

    /// Request, indication, success or error.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The transaction that the message belongs to.
    pub fn transaction(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_LENGTH]);
        TransactionId(id)
    }

    /// The whole message.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the message says nothing: no attribute but perhaps FINGERPRINT.
    pub fn is_bare(&self) -> bool {
        self.end == HEADER_LENGTH && self.sha1.is_none() && self.sha256.is_none()
    }

    /// Whether the message ends in a (right) FINGERPRINT.
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint
    }

    /// The attributes that count, in order.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(&self.bytes[..self.end], HEADER_LENGTH)
    }

    /// The first attribute of type `kind`; further ones are ignored (RFC 8489 §14).
    pub fn attribute(&self, kind: AttributeType) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }

    /// Whether there is an attribute of type `kind`.
    pub fn has(&self, kind: AttributeType) -> bool {
        self.attribute(kind).is_some()
    }

    /// The address in a plain address attribute.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidValue`] for an unknown family or a wrong length.
    pub fn address(&self, attribute: &Attribute<'a>) -> Result<SocketAddr, DecodeError> {
        address::decode(attribute)
    }

    /// The address in an XORed address attribute of this message.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidValue`] for an unknown family or a wrong length.
    pub fn xor_address(&self, attribute: &Attribute<'a>) -> Result<SocketAddr, DecodeError> {
        address::decode_xor(attribute, self.transaction())
    }

    /// Whether the message carries a message integrity made by `algorithm`.
    pub fn has_integrity_by(&self, algorithm: Algorithm) -> bool {
        self.integrity(algorithm).is_some()
    }

    fn integrity(&self, algorithm: Algorithm) -> Option<Attribute<'a>> {
        match algorithm {
            Algorithm::Sha1 => self.sha1,
            Algorithm::Sha256 => self.sha256,
        }
    }

    /// Checks the message integrity made by `algorithm` against `key` (RFC 8489 §14.5, §14.6).
    ///
    /// # Errors
    /// [`IntegrityError::Missing`] without the attribute, [`IntegrityError::Mismatch`] when the key
    /// or the message is another.
    pub fn check_integrity(&self, algorithm: Algorithm, key: &[u8]) -> Result<(), IntegrityError> {
        let attribute = self.integrity(algorithm).ok_or(IntegrityError::Missing)?;
        let length = length_field(attribute.offset + 4 + attribute.value.len());
        let parts = [&self.bytes[..2], &length, &self.bytes[4..attribute.offset]];
        let digest = algorithm.digest(key, &parts);
        if equal(&digest[..attribute.value.len()], attribute.value) {
            Ok(())
        } else {
            Err(IntegrityError::Mismatch)
        }
    }

    /// Comprehension-required attributes that are not in `known` (RFC 8489 §6.3.1), in order.
    pub fn unknown_required(
        &self,
        known: &'a [AttributeType],
    ) -> impl Iterator<Item = AttributeType> + 'a {
        self.attributes()
            .map(|attribute| attribute.kind)
            .filter(move |kind| kind.is_comprehension_required() && !known.contains(kind))
    }
}

fn check_length(attribute: &Attribute<'_>, algorithm: Algorithm) -> Result<(), DecodeError> {
    if algorithm.accepts(attribute.value.len()) {
        Ok(())
    } else {
        Err(DecodeError::new(
            DecodeErrorKind::IntegrityLength,
            attribute.offset,
        ))
    }
}

/// The length field of a message that ends `end` bytes after its start.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a parsed message is shorter than 65 556 bytes"
)]
fn length_field(end: usize) -> [u8; 2] {
    ((end - HEADER_LENGTH) as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::MessageBuilder;

    const KEY: &[u8] = b"key";
    const ID: TransactionId = TransactionId(*b"abcdefghijkl");
    const LIFETIME: AttributeType = AttributeType::LIFETIME;

    /// A Refresh request that `write` has appended to.
    fn request(write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut MessageBuilder::new(
            &mut bytes,
            Class::Request,
            Method::REFRESH,
            ID,
        ));
        bytes
    }

    fn kind(bytes: &[u8]) -> DecodeErrorKind {
        Message::parse(bytes).unwrap_err().kind
    }

    fn kinds(bytes: &[u8]) -> Vec<AttributeType> {
        let message = Message::parse(bytes).unwrap();
        message.attributes().map(|a| a.kind).collect()
    }

    #[test]
    fn the_header_is_read_as_it_was_written() {
        let bytes = request(|_| ());
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.class(), message.method()),
            (Class::Request, Method::REFRESH)
        );
        assert_eq!(message.transaction(), ID);
        assert!(message.is_bare() && !message.has_fingerprint());
    }

    #[test]
    fn attributes_are_walked_in_order_with_value_and_offset() {
        let bytes = request(|b| {
            b.attribute(AttributeType::SOFTWARE, b"abcde")
                .attribute(AttributeType::DATA, b"")
                .u32(LIFETIME, 7);
        });
        let message = Message::parse(&bytes).unwrap();
        let seen: Vec<_> = message
            .attributes()
            .map(|a| (a.kind, a.value, a.offset))
            .collect();
        let expected = [
            (AttributeType::SOFTWARE, &b"abcde"[..], 20),
            (AttributeType::DATA, b"", 32),
            (LIFETIME, &[0, 0, 0, 7], 36),
        ];
        assert_eq!(seen, expected);
        assert!(!message.is_bare() && message.has(LIFETIME));
    }

    #[test]
    fn the_first_of_duplicates_is_found() {
        let bytes = request(|b| {
            b.u32(LIFETIME, 1).u32(LIFETIME, 2);
        });
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.attribute(LIFETIME).unwrap().u32(), Ok(1));
        assert_eq!(message.attributes().count(), 2);
    }

    #[test]
    fn what_follows_the_integrity_does_not_count() {
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
            let bytes = request(|b| {
                b.attribute(AttributeType::DATA, b"signed")
                    .integrity(algorithm, KEY)
                    .u32(LIFETIME, 0)
                    .integrity(Algorithm::Sha1, b"other")
                    .fingerprint();
            });
            assert_eq!(kinds(&bytes), [AttributeType::DATA]);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.check_integrity(algorithm, KEY), Ok(()));
            assert!(message.has_fingerprint());
        }
    }

    /// RFC 8489 §14.5: MESSAGE-INTEGRITY-SHA256 may follow MESSAGE-INTEGRITY, not the other way round.
    #[test]
    fn both_integrities_are_checked_when_sha256_is_the_second() {
        let both = |first: Algorithm, second: Algorithm| {
            request(|b| {
                b.u32(LIFETIME, 1)
                    .integrity(first, KEY)
                    .integrity(second, KEY);
            })
        };
        let bytes = both(Algorithm::Sha1, Algorithm::Sha256);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.check_integrity(Algorithm::Sha1, KEY), Ok(()));
        assert_eq!(message.check_integrity(Algorithm::Sha256, KEY), Ok(()));
        let bytes = both(Algorithm::Sha256, Algorithm::Sha1);
        let message = Message::parse(&bytes).unwrap();
        assert!(message.has_integrity_by(Algorithm::Sha256));
        assert!(!message.has_integrity_by(Algorithm::Sha1));
        assert_eq!(kinds(&bytes), [LIFETIME]);
    }

    #[test]
    fn integrity_is_missing_or_wrong_or_right() {
        let bytes = request(|b| {
            b.integrity(Algorithm::Sha1, KEY);
        });
        let message = Message::parse(&bytes).unwrap();
        let check = |algorithm, key| message.check_integrity(algorithm, key);
        assert_eq!(check(Algorithm::Sha1, KEY), Ok(()));
        assert_eq!(check(Algorithm::Sha1, b"no"), Err(IntegrityError::Mismatch));
        assert_eq!(check(Algorithm::Sha256, KEY), Err(IntegrityError::Missing));
        assert!(!message.is_bare(), "a signature says something");
    }

    /// RFC 8489 §14.6: the first bytes of the HMAC are enough, 16 at least.
    #[test]
    fn a_truncated_sha256_is_right_and_a_short_one_is_refused() {
        for length in 0..=36_usize {
            let bytes = request(|b| {
                let mut whole = Vec::new();
                MessageBuilder::new(&mut whole, Class::Request, Method::REFRESH, ID);
                whole[3] = u8::try_from(4 + length).unwrap();
                let digest = Algorithm::Sha256.digest(KEY, &[&whole]);
                let mut value = digest.to_vec();
                value.resize(length, 0);
                b.attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, &value);
            });
            if (16..=32).contains(&length) && length % 4 == 0 {
                let message = Message::parse(&bytes).unwrap();
                assert_eq!(message.check_integrity(Algorithm::Sha256, KEY), Ok(()));
            } else {
                assert_eq!(kind(&bytes), DecodeErrorKind::IntegrityLength, "{length}");
            }
        }
    }

    #[test]
    fn a_sha1_integrity_is_twenty_bytes_long() {
        for length in [0, 16, 19, 21, 24] {
            let bytes = request(|b| {
                b.attribute(AttributeType::MESSAGE_INTEGRITY, &vec![0; length]);
            });
            assert_eq!(kind(&bytes), DecodeErrorKind::IntegrityLength);
        }
    }

    #[test]
    fn fingerprint_is_right_last_and_four_bytes_long() {
        let good = request(|b| {
            b.u32(LIFETIME, 1).fingerprint();
        });
        assert_eq!(kinds(&good), [LIFETIME]);
        let mut wrong = good.clone();
        wrong[27] ^= 1;
        assert_eq!(kind(&wrong), DecodeErrorKind::WrongFingerprint);
        let not_last = request(|b| {
            b.fingerprint().u32(LIFETIME, 1);
        });
        let twice = request(|b| {
            b.fingerprint().fingerprint();
        });
        let long = request(|b| {
            b.attribute(AttributeType::FINGERPRINT, &[0; 8]);
        });
        for bytes in [not_last, twice, long] {
            let error = Message::parse(&bytes).unwrap_err();
            assert_eq!(error.kind, DecodeErrorKind::MisplacedFingerprint);
            assert_eq!(error.offset, 20);
        }
    }

    /// Cut short with a length field that says so: attributes reach past the end, or end at it.
    #[test]
    fn every_truncation_with_its_length_is_refused_or_whole() {
        let whole = request(|b| {
            b.attribute(AttributeType::USERNAME, b"alice")
                .attribute(AttributeType::DATA, b"data");
        });
        for length in (20..whole.len()).step_by(4) {
            let mut cut = whole[..length].to_vec();
            cut[3] = u8::try_from(length - 20).unwrap();
            match length {
                20 => assert!(kinds(&cut).is_empty()),
                32 => assert_eq!(kinds(&cut), [AttributeType::USERNAME]),
                _ => assert_eq!(kind(&cut), DecodeErrorKind::AttributeOverrun),
            }
        }
    }

    #[test]
    fn unknown_required_attributes_are_listed_in_order() {
        let bytes = request(|b| {
            b.attribute(AttributeType(0x7001), b"")
                .u32(LIFETIME, 1)
                .attribute(AttributeType(0x8001), b"")
                .attribute(AttributeType(0x7000), b"");
        });
        let message = Message::parse(&bytes).unwrap();
        let unknown: Vec<_> = message.unknown_required(&[LIFETIME]).collect();
        assert_eq!(unknown, [AttributeType(0x7001), AttributeType(0x7000)]);
    }
}
