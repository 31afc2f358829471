//! Sessions between a connection and the messages in it; no socket is touched here.

mod certificate;
mod stream;
mod tls;

pub use certificate::{Certificate, CertificateError, CertificatePart, CertificateWarning};
pub use stream::{Frame, Framer, Garbled, LARGEST_FRAME};
pub use tls::{NoRandom, Received, Sealed, TlsFailure, TlsScratch, TlsServer, TlsSession};
