//! TLS over TCP: bytes of the connection in, plaintext out, and back. No socket is touched here.

mod failure;
mod hello;
mod server;
mod session;

pub use failure::TlsFailure;
pub use hello::{Hello, HelloReader, NoHello};
pub use server::{NoRandom, TlsServer, WebProtocols};
pub use session::{Received, Sealed, TlsScratch, TlsSession};

#[cfg(test)]
mod tests;
