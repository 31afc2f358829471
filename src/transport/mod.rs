//! Sessions between a connection and the messages in it; no socket is touched here.

mod certificate;
mod dtls;
mod proxy_protocol;
mod sources;
mod stream;
mod tls;

pub use certificate::{Certificate, CertificateError, CertificatePart, CertificateWarning};
pub use dtls::{
    DtlsClient, DtlsClientOutput, DtlsIdentity, DtlsKeyError, DtlsLimits, DtlsOutput, DtlsRefusal,
    DtlsSessions, Heard, Unsent, is_dtls, is_hello,
};
pub use proxy_protocol::{MalformedProxyHeader, ProxyHeader};
pub use sources::Sources;
pub use stream::{Frame, Framer, Garbled, LARGEST_FRAME};
pub use tls::{
    Hello, HelloReader, NoHello, NoRandom, Received, Sealed, TlsFailure, TlsScratch, TlsServer,
    TlsSession, WebProtocols,
};
