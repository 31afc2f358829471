//! TLS of a client's connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use super::error::LoadError;
use super::plan::Transport;

/// A session on a connection.
pub(super) struct Session(Box<ClientConnection>);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Makes a session with `server` over the blocking `stream`.
    pub(super) fn begin(server: SocketAddr, stream: &mut TcpStream) -> Result<Self, LoadError> {
        let failed = |why: String| LoadError::Handshake(server, Transport::Tls, why);
        let mut session = client(server).map_err(|error| failed(error.to_string()))?;
        while session.is_handshaking() {
            let done = session.complete_io(stream);
            done.map_err(|error| failed(error.to_string()))?;
        }
        Ok(Self(Box::new(session)))
    }

    /// Appends the records that carry `bytes` to `records`.
    pub(super) fn encrypt(&mut self, bytes: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        self.0.writer().write_all(bytes)?;
        while self.0.wants_write() {
            self.0.write_tls(records)?;
        }
        Ok(())
    }

    /// Appends what the records that begin or end in `bytes` carry to `plain`.
    pub(super) fn decrypt(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes)?;
            let state = self.0.process_new_packets().map_err(io::Error::other)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[start..])?;
        }
        Ok(())
    }
}

/// Begins a session for nothing: the first one of a thread seeds its random numbers, which takes a
/// tenth of a second.
pub(super) fn prepare(server: SocketAddr) -> Result<(), LoadError> {
    let begun = client(server).map(drop);
    begun.map_err(|error| LoadError::Handshake(server, Transport::Tls, error.to_string()))
}

/// A session that has said nothing yet.
fn client(server: SocketAddr) -> Result<ClientConnection, Error> {
    ClientConnection::new(config()?, ServerName::from(server.ip()))
}

/// The same for all sessions; the first of them is resumed by none.
fn config() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let mut config = builder
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    // Every client is somebody else and pays for a whole handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Takes every certificate. Nothing that a load test sends is worth reading: packets are made up, and
/// long-term credentials never show the password. Servers under test rarely have a public certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
