//! Why a TLS session ended, in the words of the counters.

use rustls::{AlertDescription, Error, PeerIncompatible};

use crate::turn::HandshakeFailure;

/// How a TLS session failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// Before the handshake was complete.
    Handshake(HandshakeFailure),
    /// Later: a record that does not decrypt, or an alert.
    Session,
}

/// What `error` means for a handshake; `greeted`: something that looked like TLS came before.
pub(super) fn handshake_failure(error: &Error, greeted: bool) -> HandshakeFailure {
    match error {
        Error::InvalidMessage(_) if !greeted => HandshakeFailure::NotTls,
        Error::PeerIncompatible(reason) => incompatible(reason),
        Error::NoApplicationProtocol => HandshakeFailure::Alpn,
        Error::AlertReceived(alert) => refused(*alert),
        _ => HandshakeFailure::Protocol,
    }
}

fn incompatible(reason: &PeerIncompatible) -> HandshakeFailure {
    match reason {
        // A client of TLS 1.1 has no such extension, and the TLS library looks for it first.
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => HandshakeFailure::Version,
        _ => HandshakeFailure::Cipher,
    }
}

/// What the client did not like.
fn refused(alert: AlertDescription) -> HandshakeFailure {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA => HandshakeFailure::Certificate,
        AlertDescription::ProtocolVersion => HandshakeFailure::Version,
        _ => HandshakeFailure::Alert,
    }
}
