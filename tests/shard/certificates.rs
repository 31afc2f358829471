//! Certificates for `turn.example.org`, and clients that trust them.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part")]

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use turnstone::transport::{Certificate, TlsServer};

pub const NAME: &str = "turn.example.org";

/// A certificate, and what a client must trust to accept it.
pub struct Trusted {
    pub certificate: Certificate,
    pub der: Vec<u8>,
}

pub fn certificate() -> Trusted {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let signed = params.self_signed(&key).expect("a certificate");
    let key = key.serialize_pem();
    Trusted {
        certificate: Certificate::from_pem(signed.pem().as_bytes(), key.as_bytes())
            .expect("it is valid"),
        der: signed.der().to_vec(),
    }
}

/// A server with one certificate, and a client for it.
pub fn pair() -> (TlsServer, Arc<ClientConfig>) {
    let trusted = certificate();
    let server = TlsServer::new(std::slice::from_ref(&trusted.certificate)).expect("random bytes");
    (server, client(&[&trusted], rustls::ALL_VERSIONS))
}

/// A client that trusts `trusted` and speaks `versions`.
pub fn client(
    trusted: &[&Trusted],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for trusted in trusted {
        roots
            .add(trusted.der.clone().into())
            .expect("a certificate");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_protocol_versions(versions).expect("versions");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}
