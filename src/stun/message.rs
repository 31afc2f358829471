//! A checked view of a message (RFC 8489 §5, §6.3).

use std::net::SocketAddr;

use super::address;
use super::attribute::{Attribute, AttributeType};
use super::error::{DecodeError, DecodeErrorKind};
use super::header::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId, decode_type};
use super::integrity::{Algorithm, IntegrityError, equal, fingerprint};
use super::padded;

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
        Attributes {
            bytes: &self.bytes[..self.end],
            offset: HEADER_LENGTH,
        }
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

fn check_header(bytes: &[u8]) -> Result<(Class, Method), DecodeError> {
    let fail = |kind, offset| Err(DecodeError::new(kind, offset));
    let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
        return fail(DecodeErrorKind::Truncated, bytes.len());
    };
    let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
    let length = HEADER_LENGTH + usize::from(u16::from_be_bytes([l0, l1]));
    if t0 & 0xC0 != 0 {
        return fail(DecodeErrorKind::NotStun, 0);
    }
    if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
        return fail(DecodeErrorKind::NoMagicCookie, 4);
    }
    if !length.is_multiple_of(4) {
        return fail(DecodeErrorKind::UnalignedLength, 2);
    }
    if bytes.len() < length {
        return fail(DecodeErrorKind::Truncated, bytes.len());
    }
    if bytes.len() > length {
        return fail(DecodeErrorKind::TrailingBytes, length);
    }
    Ok(decode_type(u16::from_be_bytes([t0, t1])))
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

/// The attribute at `offset` and where the next one starts.
fn read_attribute(bytes: &[u8], offset: usize) -> Result<(Attribute<'_>, usize), DecodeError> {
    let overrun = DecodeError::new(DecodeErrorKind::AttributeOverrun, offset);
    let ([k0, k1, l0, l1], rest) = bytes
        .get(offset..)
        .and_then(<[u8]>::split_first_chunk)
        .ok_or(overrun)?;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    if padded(length) > rest.len() {
        return Err(overrun);
    }
    let kind = AttributeType(u16::from_be_bytes([*k0, *k1]));
    let attribute = Attribute {
        kind,
        value: &rest[..length],
        offset,
    };
    Ok((attribute, offset + 4 + padded(length)))
}

/// The length field of a message that ends `end` bytes after its start.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a parsed message is shorter than 65 556 bytes"
)]
fn length_field(end: usize) -> [u8; 2] {
    ((end - HEADER_LENGTH) as u16).to_be_bytes()
}

/// Iterates over attributes that [`Message::parse`] has checked.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let (attribute, next) = read_attribute(self.bytes, self.offset).ok()?;
        self.offset = next;
        Some(attribute)
    }
}
