//! Where TLS is served, and with which certificates.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::address::every_address;
use super::address::overlap;
use super::distinct::distinct;
use super::draft::{DraftCertificate, List, Located};
use super::file::read_bytes;
use super::report::{Report, Spot};
use crate::time::UnixTime;
use crate::transport::{Certificate, CertificatePart};

/// The port of STUN and TURN over TLS (RFC 8656 §5).
const DEFAULT_PORT: u16 = 5349;

/// Where TLS is served, and with which certificates.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Addresses for TLS over TCP, without duplicates; empty when it is off, never without a certificate.
    pub listen: Vec<SocketAddr>,
    /// Whether DTLS is served too: over UDP at `listen`, and wherever plain UDP is. Only when one of the
    /// certificates can serve.
    pub dtls: bool,
    /// The certificates, the default first.
    pub certificates: Vec<TlsCertificate>,
}

/// A certificate and where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsCertificate {
    /// What the files said.
    pub certificate: Certificate,
    /// Where it was read, and can be read again.
    pub files: CertificateFiles,
}

/// The two files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, then its issuers', PEM.
    pub chain: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used; the texts name file and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    part: CertificatePart,
    text: String,
}

impl std::fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Tls {
    /// The host that clients name best: one of the first certificate's.
    pub fn host(&self) -> Option<String> {
        let certificate = &self.certificates.first()?.certificate;
        let is_whole = |name: &&String| !name.starts_with('*');
        let name = certificate.names().iter().find(is_whole).cloned();
        let address = || certificate.addresses().first().map(ToString::to_string);
        name.or_else(address)
    }

    /// Whether a certificate is good for the host `name`.
    pub fn covers(&self, name: &str) -> bool {
        let mut all = self.certificates.iter();
        all.any(|entry| entry.certificate.covers(name))
    }
}

impl CertificateFiles {
    /// Reads both files as they are now.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(&self) -> Result<Certificate, Vec<CertificateProblem>> {
        let problem = |part, why: String| CertificateProblem {
            part,
            text: format!("{}: {why}", self.path(part).display()),
        };
        let read = |part| read_bytes(self.path(part)).map_err(|why| problem(part, why));
        match (read(CertificatePart::Chain), read(CertificatePart::Key)) {
            (Ok(chain), Ok(key)) => Certificate::from_pem(&chain, &key)
                .map_err(|error| vec![problem(error.part(), error.to_string())]),
            (chain, key) => Err([chain.err(), key.err()].into_iter().flatten().collect()),
        }
    }

    fn path(&self, part: CertificatePart) -> &Path {
        match part {
            CertificatePart::Chain => &self.chain,
            CertificatePart::Key => &self.key,
        }
    }
}

impl DraftCertificate {
    /// Where its key is named.
    pub(super) fn key(&self) -> Option<Spot> {
        self.key.as_ref().map(|key| key.spot.clone())
    }
}

/// What `listen` and `certificates` mean; `others` are addresses of plain TCP, which may be shared.
pub(super) fn check_tls(
    listen: Option<List<SocketAddr>>,
    certificates: Vec<DraftCertificate>,
    others: &[SocketAddr],
    report: &mut Report,
) -> Tls {
    let is_on = !certificates.is_empty();
    let certificates = check_certificates(certificates, report);
    let listen = match listen {
        Some(listen) if !is_on => {
            let what =
                "TLS needs a certificate; add a section [[tls.certificates]] with chain and key";
            report.error(&listen.spot, what);
            Vec::new()
        }
        Some(listen) => check_listen(listen, others, report),
        None if is_on => every_address(DEFAULT_PORT),
        None => Vec::new(),
    };
    Tls {
        listen,
        dtls: false,
        certificates,
    }
}

fn check_listen(
    listen: List<SocketAddr>,
    others: &[SocketAddr],
    report: &mut Report,
) -> Vec<SocketAddr> {
    if listen.value.is_empty() && !report.speaks_of(&listen.spot) {
        let what = "no address to listen on; leave the key out for port 5349 of all addresses";
        report.error(&listen.spot, what);
    }
    for Located { value, spot } in &listen.value {
        let is_shared = others.contains(value);
        if !is_shared && others.iter().any(|other| overlap(*other, *value)) {
            let what = format!(
                "{value} is where clients are served over TCP without TLS; take another port, or \
                 the same address as in server.listen to share it"
            );
            report.error(spot, what);
        }
    }
    distinct("tls.listen", Some(listen), report)
}

fn check_certificates(drafts: Vec<DraftCertificate>, report: &mut Report) -> Vec<TlsCertificate> {
    let mut chains = HashSet::new();
    let mut certificates = Vec::new();
    for draft in drafts {
        let Some((chain, key)) = named(&draft, report) else {
            continue;
        };
        let files = CertificateFiles {
            chain: draft.directory.join(&chain.value),
            key: draft.directory.join(&key.value),
        };
        if !chains.insert(files.chain.clone()) {
            report.error(
                &chain.spot,
                format_args!("{} stands twice; leave one", chain.value),
            );
            continue;
        }
        match files.read() {
            Ok(certificate) => {
                warn(&certificate, &files, &chain.spot, report);
                certificates.push(TlsCertificate { certificate, files });
            }
            Err(problems) => {
                for problem in problems {
                    let spot = match problem.part {
                        CertificatePart::Chain => &chain.spot,
                        CertificatePart::Key => &key.spot,
                    };
                    report.error(spot, problem);
                }
            }
        }
    }
    certificates
}

/// The two files that `draft` names.
fn named<'d>(
    draft: &'d DraftCertificate,
    report: &mut Report,
) -> Option<(&'d Located<String>, &'d Located<String>)> {
    for (key, what) in [(&draft.chain, "chain"), (&draft.key, "key")] {
        if key.is_none() && !report.speaks_of_key(&format!("{}.{what}", draft.spot.key)) {
            let what = format!("the certificate has no {what}; add: {what} = \"FILE\"");
            report.error(&draft.spot, what);
        }
    }
    draft.chain.as_ref().zip(draft.key.as_ref())
}

fn warn(certificate: &Certificate, files: &CertificateFiles, spot: &Spot, report: &mut Report) {
    for warning in certificate.warnings(now()) {
        report.warning(spot, format_args!("{}: {warning}", files.chain.display()));
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
