//! The certificate and key of DTLS sessions, and everything else that they start from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::crypto::aws_lc_rs;
use dimpl::{Config, DtlsCertificate};

use super::chain::{Layout, join};
use super::provider::provider;
use crate::transport::Certificate;

/// The longest datagram of a handshake, in bytes.
const MTU: usize = 1200;
/// The most datagrams of one flight.
const DATAGRAMS: usize = 64;
/// A handshake that takes longer has failed.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What DTLS sessions start from: a certificate, its key, the parameters. Sessions that have begun keep
/// what they began with.
pub struct DtlsIdentity {
    dtls12: DtlsCertificate,
    dtls13: DtlsCertificate,
    pub(super) config: Arc<Config>,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsKeyError {
    /// There is no certificate.
    NoCertificate,
    /// The key is not an ECDSA key on P-256 or P-384.
    UnsupportedKey,
    /// The cryptographic library refused to work.
    Library,
}

impl fmt::Display for DtlsKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "there is no certificate",
            Self::UnsupportedKey => {
                "DTLS needs an ECDSA key on P-256 or P-384 in PKCS#8 or SEC1 form"
            }
            Self::Library => "the cryptographic library does not pass its own checks",
        })
    }
}

impl std::error::Error for DtlsKeyError {}

impl fmt::Debug for DtlsIdentity {
    /// Not the key (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DtlsIdentity")
    }
}

impl DtlsIdentity {
    /// An identity of a chain of certificates, the server's own first, and the key that belongs to that
    /// one, all in DER form; the key is PKCS#8 or SEC1. That they belong together is not looked at.
    ///
    /// # Errors
    /// What is wrong with the key.
    pub fn new<'c>(
        chain: impl IntoIterator<Item = &'c [u8]> + Clone,
        key: &[u8],
    ) -> Result<Self, DtlsKeyError> {
        Self::check_key(key)?;
        let joined = |layout| DtlsCertificate {
            certificate: join(layout, chain.clone().into_iter()),
            private_key: key.to_vec(),
        };
        let (dtls12, dtls13) = (joined(Layout::Dtls12), joined(Layout::Dtls13));
        if dtls12.certificate.is_empty() {
            return Err(DtlsKeyError::NoCertificate);
        }
        let config = Config::builder()
            .with_crypto_provider(provider())
            .require_client_certificate(false)
            .mtu(MTU)
            .max_queue_tx(DATAGRAMS)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build();
        Ok(Self {
            dtls12,
            dtls13,
            config: Arc::new(config.map_err(|_| DtlsKeyError::Library)?),
        })
    }

    /// An identity of the first of `certificates` that can serve; none when none can.
    pub fn of_first<'c>(certificates: impl IntoIterator<Item = &'c Certificate>) -> Option<Self> {
        certificates.into_iter().find_map(|certificate| {
            let chain: Vec<&[u8]> = certificate.chain().collect();
            Self::new(chain, certificate.key().secret_der()).ok()
        })
    }

    pub(super) fn certificate(&self, layout: Layout) -> DtlsCertificate {
        match layout {
            Layout::Dtls12 => self.dtls12.clone(),
            Layout::Dtls13 => self.dtls13.clone(),
        }
    }

    /// Whether `key`, in DER form, can serve.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_key(key: &[u8]) -> Result<(), DtlsKeyError> {
        let loaded = aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(key);
        loaded.map(|_| ()).map_err(|_| DtlsKeyError::UnsupportedKey)
    }
}
