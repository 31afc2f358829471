//! A client's end of a session, as the load tester needs it. The server's certificate is not checked.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey, aws_lc_rs,
};
use dimpl::{
    CertificateError, Config, CryptoError, Dtls, DtlsCertificate, Error, Output, SecurityError,
};

use super::hello::RECORD_HEADER;
use super::session::guarded;

/// What the library writes at a time, in bytes, until it asks for more.
const SCRATCH: usize = 2048;
/// The content type of alerts (RFC 8446 §5.1).
const ALERT: u8 = 21;
/// Alerts (RFC 8446 §6.2).
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

/// A session with a server: DTLS 1.3, or 1.2 where the server knows no other. After each `handle_*`,
/// [`send`](Self::send) and [`close`](Self::close), [`drain`](Self::drain) it.
pub struct DtlsClient {
    dtls: Dtls,
    scratch: Vec<u8>,
    established: bool,
    closed: bool,
    timer: Instant,
}

/// What a session has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsClientOutput<'c> {
    /// Send this to the server in one datagram.
    Send(&'c [u8]),
    /// The server said this: one message.
    Message(&'c [u8]),
}

/// Why there is no session, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRefusal {
    /// The server ended it by this alert (RFC 8446 §6.2).
    Alert(u8),
    /// The server's certificate has a key of another kind than ECDSA on P-256 or P-384.
    Certificate,
    /// The server wants a certificate of its clients.
    CertificateWanted,
    /// What answers speaks no DTLS, or none that makes sense here.
    Protocol,
    /// The cryptographic library refused to work.
    Library,
}

impl fmt::Display for DtlsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(HANDSHAKE_FAILURE) => f.write_str(
                "the server has no cipher suite in common with this client, which needs a server with \
                 an ECDSA certificate (alert 40)",
            ),
            Self::Alert(PROTOCOL_VERSION) => {
                f.write_str("the server speaks neither DTLS 1.2 nor 1.3 (alert 70)")
            }
            Self::Alert(number) => write!(f, "the server refuses the handshake (alert {number})"),
            Self::Certificate => f.write_str(
                "the server's certificate is not one with an ECDSA key on P-256 or P-384, which this \
                 client needs",
            ),
            Self::CertificateWanted => f.write_str("the server wants a certificate of its clients"),
            Self::Protocol => f.write_str("what answers speaks no DTLS"),
            Self::Library => f.write_str("the cryptographic library does not pass its own checks"),
        }
    }
}

impl std::error::Error for DtlsRefusal {}

impl fmt::Debug for DtlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DtlsClient")
    }
}

impl DtlsClient {
    /// A session whose ClientHello waits to be drained.
    ///
    /// # Errors
    /// [`DtlsRefusal::Library`].
    pub fn new(now: Instant) -> Result<Self, DtlsRefusal> {
        let config = config()?;
        let nobody = DtlsCertificate {
            certificate: vec![0],
            private_key: Vec::new(),
        };
        let mut dtls = guarded(|| {
            let mut dtls = Dtls::new_auto(config, nobody, now);
            dtls.set_active(true);
            dtls
        })
        .map_err(|_| DtlsRefusal::Library)?;
        dtls.handle_timeout(now).map_err(|_| DtlsRefusal::Library)?;
        Ok(Self {
            dtls,
            scratch: vec![0; SCRATCH],
            established: false,
            closed: false,
            timer: now,
        })
    }

    /// Takes a datagram of the server.
    ///
    /// # Errors
    /// Why the session is over.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsRefusal> {
        let heard = guarded(|| {
            self.dtls.handle_timeout(now)?;
            self.dtls.handle_packet(datagram)
        });
        let heard = heard.map_err(|_| DtlsRefusal::Protocol)?;
        // Before the version is agreed upon, the library takes an alert for nonsense.
        heard.map_err(|error| alert(datagram).unwrap_or_else(|| refusal(&error)))
    }

    /// Sends again what was not answered, if it is time.
    ///
    /// # Errors
    /// Why the session is over.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsRefusal> {
        let woken = guarded(|| self.dtls.handle_timeout(now));
        let woken = woken.map_err(|_| DtlsRefusal::Protocol)?;
        woken.map_err(|error| refusal(&error))
    }

    /// Encrypts `message`, which goes in one datagram.
    ///
    /// # Errors
    /// Why the session is over.
    pub fn send(&mut self, message: &[u8]) -> Result<(), DtlsRefusal> {
        let sent = guarded(|| self.dtls.send_application_data(message));
        let sent = sent.map_err(|_| DtlsRefusal::Protocol)?;
        sent.map(drop).map_err(|error| refusal(&error))
    }

    /// Says goodbye (close_notify).
    pub fn close(&mut self) {
        // What goes wrong here is of no consequence: the session is forgotten.
        let _ = guarded(|| self.dtls.close());
    }

    /// Hands everything that there is to `each`.
    pub fn drain(&mut self, each: impl FnMut(DtlsClientOutput<'_>)) {
        let drained = guarded(|| self.take_all(each));
        self.closed |= drained.is_err();
    }

    fn take_all(&mut self, mut each: impl FnMut(DtlsClientOutput<'_>)) {
        loop {
            let needed = match self.dtls.poll_output(&mut self.scratch) {
                Output::Timeout(at) => {
                    self.timer = at;
                    return;
                }
                Output::BufferTooSmall { needed } => needed,
                Output::Packet(bytes) => {
                    each(DtlsClientOutput::Send(bytes));
                    0
                }
                Output::ApplicationData(bytes) => {
                    each(DtlsClientOutput::Message(bytes));
                    0
                }
                Output::Connected => {
                    self.established = true;
                    0
                }
                Output::CloseNotify => {
                    self.closed = true;
                    0
                }
                _ => 0,
            };
            if needed > self.scratch.len() {
                self.scratch.resize(needed, 0);
            }
        }
    }

    /// Whether the handshake is complete.
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the server has closed the session.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub const fn timer(&self) -> Instant {
        self.timer
    }
}

/// The same for all sessions; none of them is resumed.
fn config() -> Result<Arc<Config>, DtlsRefusal> {
    static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = CryptoProvider {
        key_provider: &NoKey,
        ..aws_lc_rs::default_provider()
    };
    let config = Config::builder().with_crypto_provider(provider).build();
    let config = config.map_err(|_| DtlsRefusal::Library)?;
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// The alert that `datagram` is, if it is one in the clear.
fn alert(datagram: &[u8]) -> Option<DtlsRefusal> {
    let is_alert = datagram.first() == Some(&ALERT) && datagram.get(3..5) == Some(&[0, 0]);
    let description = datagram.get(RECORD_HEADER + 1)?;
    is_alert.then_some(DtlsRefusal::Alert(*description))
}

/// What an error of the library means.
fn refusal(error: &Error) -> DtlsRefusal {
    match error {
        Error::SecurityError(SecurityError::FatalAlert { description }) => {
            DtlsRefusal::Alert(*description)
        }
        Error::CryptoError(CryptoError::UnsupportedSignatureAlgorithm(_))
        | Error::CertificateError(CertificateError::UnsupportedHashAlgorithm(_)) => {
            DtlsRefusal::CertificateWanted
        }
        Error::CertificateError(_) => DtlsRefusal::Certificate,
        _ => DtlsRefusal::Protocol,
    }
}

/// Stands where the library wants a client's key, which no TURN server asks for.
#[derive(Debug)]
struct NoKey;

impl KeyProvider for NoKey {
    fn load_private_key(&self, _: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Ok(Box::new(Self))
    }
}

impl SigningKey for NoKey {
    fn sign(&mut self, _: &[u8], _: HashAlgorithm, _: &mut Buf) -> Result<(), CryptoError> {
        let algorithm = SigningKey::algorithm(self);
        Err(CryptoError::UnsupportedSignatureAlgorithm(algorithm))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}
