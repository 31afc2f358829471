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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// With the protocols that `alpn` names, commas between them.
    fn hello(name: &str, alpn: &str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = config
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let protocols = alpn.split(',').filter(|protocol| !protocol.is_empty());
        config.alpn_protocols = protocols.map(|protocol| protocol.into()).collect();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn name_and_protocols_are_read_in_pieces_of_any_size() {
        for (name, alpn, server_name, wants_turn) in [
            ("WWW.example.org", "", Some("www.example.org"), false),
            ("a.example", "h2,http/1.1", Some("a.example"), false),
            ("a.example", "h2,stun.turn", Some("a.example"), true),
            ("192.0.2.1", "stun.nat-discovery", None, true),
        ] {
            let bytes = hello(name, alpn);
            let expected = Hello {
                server_name: server_name.map(str::to_owned),
                wants_turn,
            };
            for size in [1, 7, bytes.len()] {
                let mut reader = HelloReader::default();
                let mut pieces = bytes.chunks(size);
                let last = pieces.next_back().unwrap();
                assert!(pieces.all(|piece| reader.read(piece) == Ok(None)));
                assert_eq!(reader.read(last), Ok(Some(expected.clone())));
            }
        }
    }

    #[test]
    fn anything_else_is_no_hello() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[0x16, 3, 1, 0, 4, 2, 0, 0, 0],
            &[0x17; 64],
        ] {
            assert_eq!(HelloReader::default().read(bytes), Err(NoHello));
        }
        let mut torn = hello("a.example", "");
        torn[50..].fill(0xFF);
        assert_eq!(HelloReader::default().read(&torn), Err(NoHello));
    }
}
