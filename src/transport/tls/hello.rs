//! What a TLS client says before anything is decided: the name it wants and its protocols.

use std::fmt;

use rustls::server::Acceptor;

use super::server::ALPN;

/// What a ClientHello says, as far as it decides where the connection goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name of the server that the client wants (SNI), in lower case.
    pub server_name: Option<String>,
    /// Whether the client names a protocol of RFC 7443 (ALPN).
    pub wants_turn: bool,
}

/// The bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHello;

/// Reads a ClientHello from a copy of a connection's first bytes.
#[derive(Default)]
pub struct HelloReader(Acceptor);

impl fmt::Debug for HelloReader {
    /// Not what the client sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelloReader")
    }
}

impl HelloReader {
    /// Reads `more`, which follows what was read before; none while the end has not arrived.
    ///
    /// # Errors
    /// [`NoHello`]; a TLS session that is given the same bytes knows the alert.
    pub fn read(&mut self, mut more: &[u8]) -> Result<Option<Hello>, NoHello> {
        while !more.is_empty() {
            if self.0.read_tls(&mut more).map_err(|_| NoHello)? == 0 {
                return Err(NoHello);
            }
            if let Some(accepted) = self.0.accept().map_err(|_| NoHello)? {
                let hello = accepted.client_hello();
                let mut protocols = hello.alpn().into_iter().flatten();
                return Ok(Some(Hello {
                    server_name: hello.server_name().map(str::to_ascii_lowercase),
                    wants_turn: protocols.any(|protocol| ALPN.contains(&protocol)),
                }));
            }
        }
        Ok(None)
    }
}
