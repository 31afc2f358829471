//! Sessions between a connection and the messages in it; no socket is touched here.

mod certificate;
mod proxy_protocol;
mod stream;
mod tls;

pub use certificate::{Certificate, CertificateError, CertificateWarning};
pub use proxy_protocol::{MalformedProxyHeader, ProxyHeader};
pub use stream::{Frame, Framer, Garbled, LARGEST_FRAME};
pub use tls::{Hello, HelloReader, NoHello, WebProtocols, NoRandom, Received, Sealed, TlsFailure, TlsScratch, TlsServer, TlsSession};
