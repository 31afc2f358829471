//! A certificate chain and its private key, as TLS and DTLS show them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::TbsCertificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::time::UnixTime;

const DAY: u64 = 24 * 3600;
/// A certificate that expires within so many days is worth a warning.
const SOON: u64 = 14;

/// A chain whose first certificate goes with the key.
#[derive(Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    key: Arc<PrivateKeyDer<'static>>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before: UnixTime,
    not_after: UnixTime,
    /// The first certificate names an issuer, which is not there.
    lacks_issuer: bool,
}

/// Why chain and key are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// The chain is not PEM.
    ChainSyntax,
    /// There is no certificate in the chain.
    NoCertificate,
    /// A certificate of the chain, counted from one, cannot be read.
    Unreadable(usize),
    /// The key is not PEM.
    KeySyntax,
    /// There is no private key.
    NoKey,
    /// The private key is encrypted.
    EncryptedKey,
    /// The private key is of a kind that is not used in TLS.
    UnknownKey,
    /// The key is that of another certificate of the chain, counted from one.
    Order(usize),
    /// The key is that of no certificate of the chain.
    Mismatch,
}

/// What is odd about a certificate, but allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateWarning {
    /// It expired so many days ago.
    Expired(u64),
    /// It expires in so many days.
    ExpiresSoon(u64),
    /// It is good in so many days only.
    NotYetValid(u64),
    /// Its issuer's certificate is not in the chain, so that most clients cannot check it.
    NoIssuer,
    /// It names no host, so that no client accepts it.
    NoNames,
}

/// One of the two files of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    /// The certificates.
    Chain,
    /// The private key.
    Key,
}

impl CertificateError {
    /// Which of the two files is to be looked at.
    pub const fn part(self) -> CertificatePart {
        match self {
            Self::ChainSyntax | Self::NoCertificate | Self::Unreadable(_) | Self::Order(_) => {
                CertificatePart::Chain
            }
            Self::KeySyntax
            | Self::NoKey
            | Self::EncryptedKey
            | Self::UnknownKey
            | Self::Mismatch => CertificatePart::Key,
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChainSyntax => f.write_str("not sound PEM; get the certificates again"),
            Self::NoCertificate => f.write_str(
                "holds no certificate in PEM; write the server's own, then those of its issuers",
            ),
            Self::Unreadable(number) => {
                write!(f, "certificate {number} cannot be read; get it again")
            }
            Self::KeySyntax => f.write_str("not sound PEM; get the key again"),
            Self::NoKey => f.write_str("holds no private key in PEM; name the file that does"),
            Self::EncryptedKey => f.write_str(
                "the private key is encrypted; decrypt it with: openssl pkey -in FILE -out NEW",
            ),
            Self::UnknownKey => f.write_str(
                "not a private key that TLS can use; take an EC (P-256, P-384) or RSA (2048 to 8192 bits) key",
            ),
            Self::Order(number) => write!(
                f,
                "the private key is that of certificate {number}; put that one first, its issuers behind it"
            ),
            Self::Mismatch => f.write_str(
                "the private key of another certificate; name the one that this certificate was made for",
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(ago) => write!(
                f,
                "the certificate expired {ago} days ago, and clients refuse it; renew it"
            ),
            Self::ExpiresSoon(left) => {
                write!(f, "the certificate expires in {left} days; renew it")
            }
            Self::NotYetValid(wait) => write!(
                f,
                "the certificate is good in {wait} days only; check the clock, or wait"
            ),
            Self::NoIssuer => f.write_str(
                "lacks the certificate of its issuer, so that clients refuse it; add it behind the \
                 server's own (certbot calls that file fullchain.pem)",
            ),
            Self::NoNames => f.write_str(
                "the certificate names no host (subjectAltName), so that clients refuse it; get one that does",
            ),
        }
    }
}

impl Certificate {
    /// Reads `chain` (the server's certificate first, then its issuers) and `key`, both PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = read_chain(chain)?;
        let key = read_key(key)?;
        let signer = any_supported_type(&key).map_err(|_| CertificateError::UnknownKey)?;
        check_key(&chain, signer.as_ref())?;
        let leaf = parse(&chain, 0)?;
        (1..chain.len()).try_for_each(|i| parse(&chain, i).map(drop))?;
        let validity = leaf.validity();
        let (names, addresses) = names(&leaf);
        Ok(Self {
            names,
            addresses,
            not_before: UnixTime(validity.not_before.to_unix_duration().as_secs()),
            not_after: UnixTime(validity.not_after.to_unix_duration().as_secs()),
            lacks_issuer: chain.len() == 1 && leaf.issuer() != leaf.subject(),
            certified: Arc::new(CertifiedKey::new(chain, signer)),
            key: Arc::new(key),
        })
    }

    /// The host names that it is good for, in lower case; `*.` stands for one label.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The addresses that it is good for.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Whether it is good for the host `name`.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|known| matches(known, name))
    }

    /// When it begins to be good.
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Until when it is good.
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The certificates, the server's first, in DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.certified.cert.iter().map(AsRef::as_ref)
    }

    /// The private key in DER.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// What is odd about it at the time `now`.
    pub fn warnings(&self, now: UnixTime) -> Vec<CertificateWarning> {
        let left = self.not_after.0.saturating_sub(now.0) / DAY;
        let time = if now >= self.not_after {
            Some(CertificateWarning::Expired(
                (now.0 - self.not_after.0) / DAY,
            ))
        } else if now < self.not_before {
            let wait = (self.not_before.0 - now.0).div_ceil(DAY);
            Some(CertificateWarning::NotYetValid(wait))
        } else {
            (left < SOON).then_some(CertificateWarning::ExpiresSoon(left))
        };
        let chain = self.lacks_issuer.then_some(CertificateWarning::NoIssuer);
        let nameless = self.names.is_empty() && self.addresses.is_empty();
        let names = nameless.then_some(CertificateWarning::NoNames);
        [time, chain, names].into_iter().flatten().collect()
    }

    pub(super) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl PartialEq for Certificate {
    /// Whether chain and key are the same.
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.key == other.key
    }
}

impl fmt::Debug for Certificate {
    /// Not the key (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("addresses", &self.addresses)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateError::NoCertificate),
        Ok(chain) => Ok(chain),
        Err(_) => Err(CertificateError::ChainSyntax),
    }
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    const ENCRYPTED: [&[u8]; 2] = [b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    let has = |mark: &[u8]| text.windows(mark.len()).any(|window| window == mark);
    if ENCRYPTED.into_iter().any(has) {
        return Err(CertificateError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey,
        _ => CertificateError::KeySyntax,
    })
}

/// The key must be that of the first certificate.
fn check_key(
    chain: &[CertificateDer<'static>],
    signer: &dyn SigningKey,
) -> Result<(), CertificateError> {
    let key = signer.public_key().ok_or(CertificateError::UnknownKey)?;
    for (i, certificate) in chain.iter().enumerate() {
        let parsed = rustls::server::ParsedCertificate::try_from(certificate);
        let parsed = parsed.map_err(|_| CertificateError::Unreadable(i + 1))?;
        match i {
            _ if parsed.subject_public_key_info() != key => {}
            0 => return Ok(()),
            _ => return Err(CertificateError::Order(i + 1)),
        }
    }
    Err(CertificateError::Mismatch)
}

fn parse(
    chain: &[CertificateDer<'static>],
    index: usize,
) -> Result<TbsCertificate, CertificateError> {
    x509_cert::Certificate::from_der(&chain[index])
        .map(|certificate| certificate.tbs_certificate().clone())
        .map_err(|_| CertificateError::Unreadable(index + 1))
}

/// Host names and addresses of the subjectAltName extension; the subject's common name does not count
/// (RFC 9525 §2).
fn names(leaf: &TbsCertificate) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let Ok(Some((_, SubjectAltName(all)))) = leaf.get_extension::<SubjectAltName>() else {
        return (names, addresses);
    };
    for name in &all {
        match name {
            GeneralName::DnsName(name) => names.push(name.as_str().to_ascii_lowercase()),
            GeneralName::IpAddress(bytes) => addresses.extend(address(bytes.as_bytes())),
            _ => {}
        }
    }
    (names, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Whether the name `known` of a certificate, in lower case, stands for the host `name` (RFC 9525 §6.3).
fn matches(known: &str, name: &str) -> bool {
    let name = name.trim_end_matches('.');
    match known.strip_prefix("*.") {
        Some(parent) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => known.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for name in ["a.example.org", "A.Example.ORG", "a.example.org."] {
            assert!(matches("*.example.org", name), "{name}");
        }
        for name in [
            "example.org",
            "a.b.example.org",
            ".example.org",
            "aexample.org",
            "",
        ] {
            assert!(!matches("*.example.org", name), "{name}");
        }
        assert!(matches("turn.example.org", "TURN.example.org."));
        assert!(!matches("turn.example.org", "a.turn.example.org"));
    }

    #[test]
    fn days_are_told_around_the_validity() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 4, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        let warnings = |days: i64| {
            let begin = certificate.not_before().0;
            certificate.warnings(UnixTime(begin.saturating_add_signed(days * 86_400)))
        };
        assert_eq!(warnings(-3), [CertificateWarning::NotYetValid(3)]);
        assert_eq!(warnings(0), []);
        assert_eq!(warnings(76), []);
        assert_eq!(warnings(77), [CertificateWarning::ExpiresSoon(13)]);
        assert_eq!(warnings(89), [CertificateWarning::ExpiresSoon(1)]);
        assert_eq!(warnings(90), [CertificateWarning::Expired(0)]);
        assert_eq!(warnings(95), [CertificateWarning::Expired(5)]);
    }

    #[test]
    fn names_of_either_kind_are_found() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["A.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let params = rcgen::CertificateParams::new(names).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(certificate.names(), ["a.example"]);
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(certificate.addresses(), addresses);
        assert_eq!(certificate.chain().count(), 1);
    }
}
