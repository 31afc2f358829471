//! The certificates in use, and their files as they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::error::StartError;
use crate::config::{CertificateFiles, Tls, TlsCertificate};
use crate::metrics::Metrics;
use crate::time::UnixTime;
use crate::transport::{Certificate, DtlsIdentity, TlsServer};

/// How often the files are looked at. A change is read when the next look finds the files as they were:
/// chain and key are seldom replaced in one step.
const EVERY: Duration = Duration::from_secs(1);

/// The certificates in use.
pub(super) struct Certificates {
    server: TlsServer,
    /// None when DTLS is off.
    dtls: Option<Arc<DtlsIdentity>>,
    watched: Vec<Watched>,
    metrics: Arc<Metrics>,
    ticks: Interval,
}

/// What sessions start from.
#[derive(Clone)]
pub(super) struct Secured {
    /// Those of TLS.
    pub(super) tls: TlsServer,
    /// Those of DTLS; none when DTLS is off.
    pub(super) dtls: Option<Arc<DtlsIdentity>>,
}

/// One certificate and its files.
struct Watched {
    certificate: Certificate,
    files: CertificateFiles,
    /// The files when they were read.
    read: Seen,
    /// The files at the last look.
    last: Seen,
}

/// What the file system says of two files: the same as long as nobody changes or replaces them.
type Seen = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Certificates {
    /// Those of `tls`; none when it is off. Needs the control thread's runtime.
    pub(super) fn new(tls: &Tls, metrics: Arc<Metrics>) -> Result<Option<Self>, StartError> {
        if tls.listen.is_empty() {
            return Ok(None);
        }
        let watched = watch(tls);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let certificates = Self {
            server: TlsServer::new(&current(&watched)).map_err(|_| StartError::Tickets)?,
            dtls: tls.dtls.then(|| dtls_identity(&watched)).flatten(),
            watched,
            metrics,
            ticks,
        };
        certificates.show();
        Ok(Some(certificates))
    }

    /// What sessions start from now.
    pub(super) fn server(&self) -> Secured {
        Secured {
            tls: self.server.clone(),
            dtls: self.dtls.clone(),
        }
    }

    /// Waits for the next look at the files and returns what sessions start from, when that has
    /// changed.
    pub(super) async fn changed(&mut self) -> Option<Secured> {
        self.ticks.tick().await;
        self.show();
        self.look()
    }

    /// Goes on with the certificates of `tls`; returns what sessions start from, when that has changed.
    pub(super) fn adopt(&mut self, tls: &Tls) -> Option<Secured> {
        if tls.certificates == self.in_use() {
            return None;
        }
        self.watched = watch(tls);
        self.metrics.forget_certificates();
        self.metrics.count_certificate_reload(true);
        self.show();
        Some(self.replace_server())
    }

    /// The certificates as they are in use.
    pub(super) fn in_use(&self) -> Vec<TlsCertificate> {
        let entry = |watched: &Watched| TlsCertificate {
            certificate: watched.certificate.clone(),
            files: watched.files.clone(),
        };
        self.watched.iter().map(entry).collect()
    }

    /// Looks at the files; returns what sessions start from, when that has changed.
    fn look(&mut self) -> Option<Secured> {
        let looks: Vec<Look> = self.watched.iter_mut().map(Watched::look).collect();
        for look in looks.iter().filter(|look| **look != Look::Same) {
            self.metrics
                .count_certificate_reload(*look == Look::Renewed);
        }
        looks
            .contains(&Look::Renewed)
            .then(|| self.replace_server())
    }

    fn replace_server(&mut self) -> Secured {
        self.server = self.server.with_certificates(&current(&self.watched));
        self.renew_dtls();
        self.server()
    }

    fn renew_dtls(&mut self) {
        if self.dtls.is_none() {
            return;
        }
        match dtls_identity(&self.watched) {
            None => warn!(
                "no certificate has a key on P-256 or P-384 any more; the old one stays in use for DTLS"
            ),
            renewed => self.dtls = renewed,
        }
    }

    /// Shows how long the certificates are good.
    fn show(&self) {
        let now = now();
        for (index, watched) in self.watched.iter().enumerate() {
            let until = watched.certificate.not_after();
            let left = i64::try_from(until.0).unwrap_or(i64::MAX);
            let left = left.saturating_sub_unsigned(now.0);
            self.metrics.set_certificate_expiry(index, left);
        }
    }
}

/// What came of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Same,
    Renewed,
    Refused,
}

impl Watched {
    fn new(certificate: Certificate, files: CertificateFiles) -> Self {
        let seen = see(&files);
        Self {
            certificate,
            files,
            read: seen,
            last: seen,
        }
    }

    /// Reads the files if they have changed and rest.
    fn look(&mut self) -> Look {
        let seen = see(&self.files);
        let rests = std::mem::replace(&mut self.last, seen) == seen;
        if seen == self.read || !rests {
            return Look::Same;
        }
        self.reload()
    }

    /// Reads the files; what is wrong with them is told, and changes nothing.
    fn reload(&mut self) -> Look {
        self.read = see(&self.files);
        let chain = self.files.chain.display();
        match self.files.read() {
            Ok(certificate) if certificate == self.certificate => Look::Same,
            Ok(certificate) => {
                let days = certificate.not_after().0.saturating_sub(now().0) / (24 * 3600);
                info!("{chain}: new connections get the new certificate, good for {days} days");
                for warning in certificate.warnings(now()) {
                    warn!("{chain}: {warning}");
                }
                self.certificate = certificate;
                Look::Renewed
            }
            Err(problems) => {
                for problem in problems {
                    warn!("{problem}; the old certificate stays in use");
                }
                Look::Refused
            }
        }
    }
}

fn dtls_identity(watched: &[Watched]) -> Option<Arc<DtlsIdentity>> {
    let certificates = watched.iter().map(|watched| &watched.certificate);
    DtlsIdentity::of_first(certificates).map(Arc::new)
}

fn watch(tls: &Tls) -> Vec<Watched> {
    let watched =
        |entry: &TlsCertificate| Watched::new(entry.certificate.clone(), entry.files.clone());
    tls.certificates.iter().map(watched).collect()
}

fn current(watched: &[Watched]) -> Vec<Certificate> {
    let certificates = watched.iter().map(|watched| watched.certificate.clone());
    certificates.collect()
}

fn see(files: &CertificateFiles) -> Seen {
    [see_file(&files.chain), see_file(&files.key)]
}

/// Symbolic links are followed, so that another target is a change.
fn see_file(path: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let file = fs::metadata(path).ok()?;
    let modified = (file.mtime(), file.mtime_nsec());
    Some((file.dev(), file.ino(), file.size(), modified.0, modified.1))
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
