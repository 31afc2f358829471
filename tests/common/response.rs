//! What a client reads.

use std::net::SocketAddr;

use turnstone::stun::{Algorithm, AttributeType, Class, Message};

use super::Login;

/// A response as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response(pub Vec<u8>);

impl Response {
    pub fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("a well-formed response")
    }

    /// The error code; none for a success response.
    pub fn code(&self) -> Option<u16> {
        let value = self.value(AttributeType::ERROR_CODE);
        assert_eq!(value.is_some(), self.message().class() == Class::Error);
        value.map(|value| u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub fn value(&self, kind: AttributeType) -> Option<Vec<u8>> {
        self.message()
            .attribute(kind)
            .map(|attribute| attribute.value.to_vec())
    }

    pub fn xor_address(&self, kind: AttributeType) -> Option<SocketAddr> {
        let message = self.message();
        let attribute = message.attribute(kind)?;
        Some(
            message
                .xor_address(&attribute)
                .expect("a well-formed address"),
        )
    }

    pub fn lifetime(&self) -> Option<u32> {
        let message = self.message();
        message
            .attribute(AttributeType::LIFETIME)
            .map(|attribute| attribute.u32().expect("four bytes"))
    }

    pub fn is_signed_by(&self, login: &Login) -> bool {
        self.message()
            .check_integrity(Algorithm::Sha1, login.key().as_bytes())
            .is_ok()
    }
}
