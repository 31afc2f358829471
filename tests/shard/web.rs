//! A web server behind the shared port, played by a test, and who talks to it.

#![allow(unreachable_pub, reason = "each test file uses a part")]

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use turnstone::config::{Upstream, UpstreamAddress, UpstreamTls};

use crate::certificates::pair;
use crate::harness::{NEVER, Options, PATIENCE, Shards, start, uninterrupted};

pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A web server that a test plays.
pub struct Web(pub TcpListener);

impl Web {
    pub fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    pub fn upstream(&self) -> Upstream {
        upstream(UpstreamAddress::Tcp(
            self.0.local_addr().expect("an address"),
        ))
    }

    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Accepts a connection and checks how it begins.
    pub fn expect(&self, beginning: &[u8]) -> TcpStream {
        let mut stream = self.accept();
        let mut heard = vec![0; beginning.len()];
        stream.read_exact(&mut heard).expect("the beginning");
        assert_eq!(heard, beginning);
        stream
    }
}

/// For TLS that ends here and for plain text.
pub fn upstream(to: UpstreamAddress) -> Upstream {
    Upstream {
        server_names: Vec::new(),
        to,
        tls: UpstreamTls::Terminate,
        plain: true,
        http2: false,
        proxy_protocol: false,
        connect_timeout: PATIENCE,
        idle_after: NEVER,
    }
}

/// Shards at whose every port there is everything.
pub fn serve(
    upstreams: Vec<Upstream>,
    change: impl FnOnce(&mut Options),
) -> (Shards, Arc<ClientConfig>) {
    let (server, config) = pair();
    let mut options = Options {
        tls: Some(server),
        shared: true,
        upstreams,
        ..Options::default()
    };
    change(&mut options);
    (start(&options), config)
}

pub fn plain(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// A TLS connection that asks for `name` and names these protocols.
pub fn tls(
    server: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
    alpn: &[&[u8]],
) -> TlsStream {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = name.to_owned().try_into().expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    StreamOwned::new(session, plain(server))
}

pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

pub fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an orderly end");
    all
}

pub fn is_closed(stream: &mut TcpStream) -> bool {
    let end = uninterrupted(|| stream.read(&mut [0; 64]));
    end.as_ref().is_ok_and(|length| *length == 0)
        || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}
