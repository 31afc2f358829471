//! What TLS sessions start from: certificates, versions, suites, ALPN.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use crate::transport::Certificate;

/// The protocols of RFC 7443, in our order.
pub(super) const ALPN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// What the web server behind a name speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebProtocols {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, and HTTP/1.1 with those who speak no other.
    Http2,
}

/// What TLS sessions start from. A copy is cheap; a session keeps what it started from.
///
/// TLS 1.2 and 1.3 with the suites that the TLS library holds safe. A client that names protocols
/// (ALPN) must name one of RFC 7443's; one that names none is served. Sessions are resumed by tickets,
/// so that nothing is kept of a session that has ended.
#[derive(Clone)]
pub struct TlsServer(Arc<ServerConfig>);

/// The system gives no random bytes for the keys of session tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandom;

impl TlsServer {
    /// Sessions show one of `certificates`: the first whose names the client asks for (SNI), of which it
    /// can check the signature; else the first.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn new(certificates: &[Certificate]) -> Result<Self, NoRandom> {
        let provider = Arc::new(default_provider());
        let resolver = Resolver::new(certificates, &provider);
        let mut settings = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|_: Error| NoRandom)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        settings.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        settings.ticketer = Ticketer::new().map_err(|_| NoRandom)?;
        Ok(Self(Arc::new(settings)))
    }

    /// The same with other certificates; session tickets stay good.
    pub fn with_certificates(&self, certificates: &[Certificate]) -> Self {
        let mut settings = ServerConfig::clone(&self.0);
        let resolver = Resolver::new(certificates, settings.crypto_provider());
        settings.cert_resolver = Arc::new(resolver);
        Self(Arc::new(settings))
    }

    /// The same for a name that a web server shares: its protocols are offered too, last.
    pub fn with_web(&self, web: WebProtocols) -> Self {
        let mut settings = ServerConfig::clone(&self.0);
        settings.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        if web == WebProtocols::Http2 {
            settings.alpn_protocols.push(HTTP2.to_vec());
        }
        settings.alpn_protocols.push(HTTP1.to_vec());
        Self(Arc::new(settings))
    }

    pub(super) fn settings(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for TlsServer {
    /// Not the keys (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer")
    }
}

/// Chooses a certificate for a client.
#[derive(Debug)]
struct Resolver {
    certificates: Vec<Certificate>,
    provider: Arc<CryptoProvider>,
}

impl Resolver {
    fn new(certificates: &[Certificate], provider: &Arc<CryptoProvider>) -> Self {
        Self {
            certificates: certificates.to_vec(),
            provider: Arc::clone(provider),
        }
    }

    /// Whether the client can check what the certificate's key signs.
    fn suits(&self, certificate: &Certificate, hello: &ClientHello<'_>) -> bool {
        let key = &certificate.certified().key;
        let offered = hello.cipher_suites();
        let suites = self.provider.cipher_suites.iter();
        key.choose_scheme(hello.signature_schemes()).is_some()
            && suites
                .filter(|suite| offered.contains(&suite.suite()))
                .any(|suite| suite.usable_for_signature_algorithm(key.algorithm()))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_asked_for = |certificate: &&Certificate| {
            let name = hello.server_name();
            name.is_some_and(|name| certificate.covers(name))
        };
        let named = || self.certificates.iter().filter(is_asked_for);
        let suits = |certificate: &&Certificate| self.suits(certificate, &hello);
        let chosen = named()
            .find(suits)
            .or_else(|| named().next())
            .or_else(|| self.certificates.iter().find(suits))
            .or_else(|| self.certificates.first());
        chosen.map(|certificate| Arc::clone(certificate.certified()))
    }
}
