//! An issuer of certificates, the files that the server reads, and what clients must trust.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, RsaKeySize,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};

/// An issuer whose certificates the clients of a test trust.
pub(crate) struct Issuer {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A chain and its key in PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Ec,
    Rsa,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = "the issuer of a test";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// A certificate for the hosts or addresses `names`.
    pub(crate) fn issue(&self, kind: Kind, names: &[&str]) -> Issued {
        let key = match kind {
            Kind::Ec => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, &names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: format!("{}{}", leaf.pem(), self.issuer.pem()),
            key: key.serialize_pem(),
        }
    }

    /// Its own certificate as a file in `directory`.
    pub(crate) fn file(&self, directory: &Path) -> PathBuf {
        let file = directory.join("issuer.pem");
        std::fs::write(&file, self.issuer.pem()).unwrap();
        file
    }

    /// What a client in this process connects with.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Issued {
    /// Puts `NAME-chain.pem` and `NAME-key.pem` where they may be replaced together: both are links through
    /// another one to a directory, and only that one changes. Between two renames the server might find the
    /// chain without its key.
    pub(crate) fn swap(&self, directory: &Path, name: &str) {
        let generation = tempfile::Builder::new().prefix("..").tempdir_in(directory);
        // It goes with the directory that it is in.
        let generation = generation.unwrap().keep();
        self.write(&generation, name);
        let link = |target: &Path, name: &str| {
            symlink(target, directory.join("link")).unwrap();
            fs::rename(directory.join("link"), directory.join(name)).unwrap();
        };
        let current = format!("..{name}");
        let first = !directory.join(&current).exists();
        link(&generation, &current);
        for part in ["chain", "key"].iter().filter(|_| first) {
            let file = format!("{name}-{part}.pem");
            link(&Path::new(&current).join(&file), &file);
        }
    }

    /// Writes `NAME-chain.pem` and `NAME-key.pem`, each in one step.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        for (part, text) in [("chain", &self.chain), ("key", &self.key)] {
            let new = directory.join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, directory.join(format!("{name}-{part}.pem"))).unwrap();
        }
    }
}
