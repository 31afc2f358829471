//! Whether DTLS is served.

use super::draft::{Key, Located};
use super::report::{Report, Spot};
use super::tls::{Tls, TlsCertificate};
use crate::transport::DtlsIdentity;

/// What to do where no certificate can serve.
const REMEDY: &str = "add a [[tls.certificates]] with an ECDSA key (certbot: --key-type ecdsa)";

/// Fills in whether DTLS is served; by default it is as soon as a certificate can serve. The key of the
/// first one is named at `first_key`.
pub(super) fn check_dtls(
    wanted: Key<bool>,
    first_key: Option<Spot>,
    tls: Tls,
    report: &mut Report,
) -> Tls {
    let can = tls.certificates.iter().any(can_serve);
    match &wanted {
        Some(Located { value: true, spot }) if !can && !report.has_errors() => {
            let why = match tls.certificates.is_empty() {
                true => "there is no certificate",
                false => "no certificate has one",
            };
            let what = format!("DTLS needs a key on P-256 or P-384, and {why}; {REMEDY}");
            report.error(spot, what);
        }
        None if !can => warn(&tls, first_key, report),
        _ => {}
    }
    let dtls = wanted_or_default(wanted.as_ref(), can);
    Tls { dtls, ..tls }
}

fn wanted_or_default(wanted: Option<&Located<bool>>, can: bool) -> bool {
    can && wanted.is_none_or(|wanted| wanted.value)
}

fn can_serve(entry: &TlsCertificate) -> bool {
    DtlsIdentity::check_key(entry.certificate.key().secret_der()).is_ok()
}

fn warn(tls: &Tls, first_key: Option<Spot>, report: &mut Report) {
    if let Some((first, spot)) = tls.certificates.first().zip(first_key) {
        let what = format!(
            "{}: not a key on P-256 or P-384, so that DTLS is not served; {REMEDY}, or write \
             dtls = false in [tls]",
            first.files.key.display()
        );
        report.warning(&spot, what);
    }
}
