//! DTLS 1.2 and 1.3 over the datagrams of clients (RFC 7350, RFC 6347, RFC 9147). No socket is touched here.
//!
//! The first flight is stateless: a ClientHello without a valid cookie is answered by a
//! HelloVerifyRequest or a HelloRetryRequest that is no longer than it, and only a client that returns
//! the cookie gets a session. Of a DTLS 1.3 client the ClientHello itself is kept meanwhile, in a table of
//! fixed size: what follows has to be hashed with it.

mod chain;
mod client;
mod cookie;
mod first_hellos;
mod hello;
mod identity;
mod output;
mod provider;
mod reply;
mod session;
mod sessions;
mod table;
#[cfg(test)]
mod tests;

pub use client::{DtlsClient, DtlsClientOutput, DtlsRefusal};
pub use hello::is_hello;
pub use identity::{DtlsIdentity, DtlsKeyError};
pub use output::DtlsOutput;
pub use sessions::{DtlsLimits, DtlsSessions, Heard, Unsent};

/// Whether a datagram that begins with the byte `first` is DTLS (RFC 7983 §7).
pub const fn is_dtls(first: u8) -> bool {
    matches!(first, 20..=63)
}

/// The most application data of one record in bytes (RFC 6347 §4.1, RFC 8446 §5.1).
const LARGEST_RECORD: usize = 1 << 14;
