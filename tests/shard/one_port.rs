//! One port for TURN with and without TLS, and for a web server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use turnstone::config::{Upstream, UpstreamAddress, UpstreamTls};
use turnstone::stun::Method;
use turnstone::transport::ProxyHeader;
use turnstone::turn::{ConnectionEnd, Counter, PassOutcome, Transport};

use crate::certificates::{NAME, pair};
use crate::client::{Client, Link};
use crate::harness::{Options, Shards, start};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A web server that a test plays.
struct Web(TcpListener);

impl Web {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    fn upstream(&self) -> Upstream {
        upstream(UpstreamAddress::Tcp(
            self.0.local_addr().expect("an address"),
        ))
    }

    fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().expect("a connection");
        stream.set_read_timeout(PATIENCE).expect("a timeout");
        stream
    }

    /// Accepts a connection and checks how it begins.
    fn expect(&self, beginning: &[u8]) -> TcpStream {
        let mut stream = self.accept();
        let mut heard = vec![0; beginning.len()];
        stream.read_exact(&mut heard).expect("the beginning");
        assert_eq!(heard, beginning);
        stream
    }
}

/// For TLS that ends here and for plain text.
fn upstream(to: UpstreamAddress) -> Upstream {
    Upstream {
        server_names: Vec::new(),
        to,
        tls: UpstreamTls::Terminate,
        plain: true,
        http2: false,
        proxy_protocol: false,
        connect_timeout: Duration::from_secs(5),
        idle_after: Duration::from_secs(60),
    }
}

/// Shards at whose every port there is everything.
fn serve(
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

fn plain(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a listener");
    stream.set_read_timeout(PATIENCE).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// A TLS connection that asks for `name` and names these protocols.
fn tls(server: SocketAddr, config: &Arc<ClientConfig>, name: &str, alpn: &[&[u8]]) -> TlsStream {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = name.to_owned().try_into().expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    StreamOwned::new(session, plain(server))
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an orderly end");
    all
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let end = stream.read(&mut [0; 64]);
    end.as_ref().is_ok_and(|length| *length == 0)
        || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn http_stun_and_tls_share_a_port() {
    let web = Web::start();
    let (shards, config) = serve(vec![web.upstream()], |_| {});
    for server in shards.addresses.clone() {
        let mut turn = Client::tcp(server);
        turn.allocate();
        let mut turns = Client::tls(server, &config);
        turns.allocate();

        let mut http = plain(server);
        GET.iter()
            .for_each(|byte| http.write_all(&[*byte]).expect("sent"));
        let mut far = web.expect(GET);
        far.write_all(b"plain").expect("sent");
        drop(far);
        assert_eq!(read_to_end(&mut http), b"plain");

        let mut https = tls(server, &config, NAME, &[]);
        https.write_all(GET).expect("sent");
        let mut far = web.expect(GET);
        far.write_all(b"secret").expect("sent");
        drop(far);
        assert_eq!(read_to_end(&mut https), b"secret");
        turn.ping();
        turns.ping();
    }
    let stats = shards.stop().remove(0);
    assert_eq!(stats.get(Counter::Passed(PassOutcome::Connected)), 4);
    assert_eq!(stats.get(Counter::TlsHandshakes), 4);
    for transport in Transport::STREAMS {
        assert_eq!(stats.get(Counter::Connections(transport)), 0);
    }
}

#[test]
fn stun_is_stun_wherever_it_is_cut() {
    let web = Web::start();
    let (shards, config) = serve(vec![web.upstream()], |_| {});
    for size in [1, 3, 7, 9, 1000] {
        let mut client = Client::tcp(shards.v4());
        let request = client.build(Method::BINDING, |_| {});
        request.chunks(size).for_each(|piece| client.send(piece));
        client.receive();
        let mut client = Client::tls(shards.v4(), &config);
        let request = client.build(Method::BINDING, |_| {});
        request.chunks(size).for_each(|piece| client.send(piece));
        client.receive();
    }
    shards.stop();
}

/// What client and server agree on, and whether TURN is behind it.
#[test]
fn what_is_named_decides_and_nothing_need_be_named() {
    let web = Web::start();
    let (shards, config) = serve(vec![web.upstream()], |_| {});
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (alpn, agreed) in [(both, &b"http/1.1"[..]), (&[b"stun.turn"], b"stun.turn")] {
        let mut stream = tls(shards.v4(), &config, NAME, alpn);
        stream.flush().expect("a handshake");
        let mut client = if agreed == b"stun.turn" {
            let mut client = Client::over(Link::Tls(Box::new(stream)));
            client.ping();
            continue;
        } else {
            stream
        };
        // The upstream is there before the client says anything.
        while client.conn.is_handshaking() {
            client
                .conn
                .complete_io(&mut client.sock)
                .expect("a handshake");
        }
        assert_eq!(client.conn.alpn_protocol(), Some(agreed));
        let mut far = web.accept();
        far.write_all(b"hello").expect("sent");
        drop(far);
        assert_eq!(read_to_end(&mut client), b"hello");
    }
    // HTTP/2 alone is refused while the web server does not speak it.
    let mut stream = tls(shards.v4(), &config, NAME, &[b"h2"]);
    assert!(stream.conn.complete_io(&mut stream.sock).is_err());
    shards.stop();
}

#[test]
fn http2_is_agreed_on_when_the_web_server_speaks_it() {
    let web = Web::start();
    let speaks = Upstream {
        http2: true,
        ..web.upstream()
    };
    let (shards, config) = serve(vec![speaks], |_| {});
    let mut stream = tls(shards.v4(), &config, NAME, &[b"h2", b"http/1.1"]);
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("sent");
    drop(web.expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    shards.stop();
}

#[test]
fn tls_is_passed_on_by_name_untouched() {
    let (web, other) = (Web::start(), Web::start());
    let pass = Upstream {
        server_names: vec!["www.example.org".to_owned()],
        tls: UpstreamTls::Pass,
        plain: false,
        ..web.upstream()
    };
    let (shards, config) = serve(vec![pass, other.upstream()], |_| {});
    let mut hello = Vec::new();
    let mut client = tls(shards.v4(), &config, "www.example.org", &[b"h2"]);
    client.conn.write_tls(&mut hello).expect("a hello");
    for size in [1, 100, hello.len()] {
        let mut stream = plain(shards.v4());
        hello
            .chunks(size)
            .for_each(|piece| stream.write_all(piece).expect("sent"));
        let mut far = web.expect(&hello);
        far.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).expect("sent");
        drop(far);
        assert_eq!(read_to_end(&mut stream), [0x15, 3, 3, 0, 2, 2, 40]);
    }
    // Who asks for TURN gets it under any name, and another name is not passed on.
    let mut turn = tls(shards.v4(), &config, "www.example.org", &[b"stun.turn"]);
    assert!(
        turn.conn.complete_io(&mut turn.sock).is_err(),
        "the wrong certificate"
    );
    Client::tls(shards.v4(), &config).ping();
    shards.stop();
}

/// 300 kB each way, the ends said in both orders.
fn carries(
    near: &mut (impl Read + Write),
    end_near: impl FnOnce(&TcpStream),
    web: &Web,
    socket: &TcpStream,
) {
    let (up, down) = (noise(300_000), noise(400_000));
    near.write_all(GET).expect("sent");
    let mut far = web.expect(GET);
    let sent = down.clone();
    let answering = spawn(move || {
        let heard = read_to_end(&mut far);
        far.write_all(&sent).expect("sent");
        heard
    });
    near.write_all(&up).expect("sent");
    end_near(socket);
    assert!(answering.join().expect("no panic") == up, "what went up");
    assert!(read_to_end(near) == down, "what came down");
}

#[test]
fn large_bodies_travel_both_ways_and_half_closed_is_half_open() {
    let web = Web::start();
    let (shards, _) = serve(vec![web.upstream()], |_| {});
    let mut near = plain(shards.v4());
    let socket = near.try_clone().expect("a descriptor");
    let end = |socket: &TcpStream| socket.shutdown(Shutdown::Write).expect("open");
    carries(&mut near, end, &web, &socket);
    shards.stop();
}

#[test]
fn large_bodies_travel_both_ways_inside_tls() {
    let web = Web::start();
    let (shards, config) = serve(vec![web.upstream()], |_| {});
    let (up, down) = (noise(300_000), noise(400_000));
    let mut near = tls(shards.v4(), &config, NAME, &[b"http/1.1"]);
    near.write_all(&up).expect("sent");
    near.conn.send_close_notify();
    near.flush().expect("sent");
    let mut far = web.accept();
    assert!(read_to_end(&mut far) == up, "what went up");
    far.write_all(&down).expect("sent");
    drop(far);
    assert!(read_to_end(&mut near) == down, "what came down");
    shards.wait_for(Counter::Connections(Transport::Tls), 0);
    shards.stop();
}

#[test]
fn who_does_not_read_stops_who_writes() {
    let web = Web::start();
    let (shards, _) = serve(vec![web.upstream()], |_| {});
    let mut near = plain(shards.v4());
    near.write_all(GET).expect("sent");
    let mut far = web.expect(GET);
    for writer in [&mut near, &mut far] {
        writer.set_nonblocking(true).expect("an option");
        let block = vec![0; 1 << 20];
        let (mut written, mut waits) = (0, 0);
        while waits < 10 && written < 64 << 20 {
            match writer.write(&block) {
                Ok(length) => written += length,
                Err(_) => {
                    waits += 1;
                    sleep(Duration::from_millis(20));
                }
            }
        }
        assert!(written < 64 << 20, "{written} bytes are somewhere");
    }
    Client::tcp(shards.v4()).ping();
    shards.stop();
}

#[test]
fn an_upstream_that_is_down_closes_its_connections_and_no_other() {
    let web = Web::start();
    let down = web.upstream();
    drop(web);
    let nowhere = Upstream {
        server_names: vec![NAME.to_owned()],
        plain: false,
        ..upstream(UpstreamAddress::Unix("/nonexistent/web.sock".into()))
    };
    let (shards, config) = serve(vec![down, nowhere], |_| {});
    let mut turn = Client::tcp(shards.v4());
    turn.allocate();
    let mut http = plain(shards.v4());
    http.write_all(GET).expect("sent");
    assert!(is_closed(&mut http));
    let mut https = tls(shards.v4(), &config, NAME, &[]);
    https.write_all(GET).expect("sent");
    assert!(!https.read(&mut [0; 8]).is_ok_and(|length| length > 0));
    shards.wait_for(Counter::Passed(PassOutcome::Unreachable), 2);
    for transport in Transport::STREAMS {
        let closed = Counter::ConnectionsClosed(transport, ConnectionEnd::Upstream);
        shards.wait_for(closed, 1);
    }
    turn.ping();
    shards.stop();
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up() {
    let full =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    full.bind(&any.into()).expect("a port");
    full.listen(0).expect("a listener");
    let at = full
        .local_addr()
        .expect("an address")
        .as_socket()
        .expect("IPv4");
    // The kernel lets one wait, and drops who comes behind it.
    let _waiting = [(); 2].map(|()| TcpStream::connect_timeout(&at, Duration::from_millis(200)));
    let slow = Upstream {
        connect_timeout: Duration::from_millis(300),
        ..upstream(UpstreamAddress::Tcp(at))
    };
    let (shards, _) = serve(vec![slow], |_| {});
    let mut http = plain(shards.v4());
    http.write_all(GET).expect("sent");
    assert!(is_closed(&mut http));
    shards.wait_for(Counter::Passed(PassOutcome::Timeout), 1);
    shards.stop();
}

#[test]
fn the_upstream_may_learn_whose_connection_it_is() {
    let web = Web::start();
    let told = Upstream {
        proxy_protocol: true,
        ..web.upstream()
    };
    let (shards, config) = serve(vec![told], |options| {
        options.proxy_protocol_from = vec!["::1".parse().expect("a network")];
    });
    let v4 = shards.v4();
    let mut http = plain(v4);
    http.write_all(GET).expect("sent");
    let direct = ProxyHeader::Client {
        source: http.local_addr().expect("an address"),
        destination: v4,
    };
    web.expect(&[direct.to_bytes(), GET.to_vec()].concat());
    // Behind a balancer: what that one said, and TLS after it.
    let named = ProxyHeader::Client {
        source: "192.0.2.1:5000".parse().expect("an address"),
        destination: "198.51.100.7:443".parse().expect("an address"),
    };
    let mut https = tls(shards.v6(), &config, NAME, &[]);
    https.sock.write_all(&named.to_bytes()).expect("sent");
    https.write_all(GET).expect("sent");
    web.expect(&[named.to_bytes(), GET.to_vec()].concat());
    shards.stop();
}

#[test]
fn the_upstream_may_be_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("web.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (shards, config) = serve(vec![upstream(UpstreamAddress::Unix(path))], |_| {});
    let mut https = tls(shards.v4(), &config, NAME, &[]);
    https.write_all(GET).expect("sent");
    let (mut far, _) = listener.accept().expect("a connection");
    let mut heard = vec![0; GET.len()];
    far.read_exact(&mut heard).expect("the request");
    assert_eq!(heard, GET);
    let body = noise(300_000);
    far.write_all(&body).expect("sent");
    drop(far);
    assert!(read_to_end(&mut https) == body);
    shards.stop();
}

#[test]
fn a_web_connection_has_an_idle_limit_of_its_own() {
    let web = Web::start();
    let idle = Upstream {
        idle_after: Duration::from_millis(1500),
        ..web.upstream()
    };
    let (shards, _) = serve(vec![idle], |options| {
        options.streams.silent_after = Duration::from_millis(200);
        options.streams.idle_after = Duration::from_millis(200);
    });
    let mut near = plain(shards.v4());
    near.write_all(GET).expect("sent");
    let mut far = web.expect(GET);
    sleep(Duration::from_millis(800));
    far.write_all(b"late").expect("sent");
    let mut heard = [0; 4];
    near.read_exact(&mut heard).expect("still open");
    assert!(is_closed(&mut near) && is_closed(&mut far));
    let silent = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Silent);
    shards.wait_for(silent, 1);
    shards.stop();
}

#[test]
fn web_connections_count_against_their_source() {
    let web = Web::start();
    let (shards, _) = serve(vec![web.upstream()], |options| {
        options.streams.connections_per_source = 2;
    });
    let kept = [(); 2].map(|()| {
        let mut near = plain(shards.v4());
        near.write_all(GET).expect("sent");
        (near, web.expect(GET))
    });
    assert!(is_closed(&mut plain(shards.v4())));
    drop(kept);
    let closed = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Closed);
    shards.wait_for(closed, 2);
    Client::tcp(shards.v4()).ping();
    shards.stop();
}

#[test]
fn a_connection_that_never_says_what_it_is_is_closed() {
    let web = Web::start();
    let (shards, config) = serve(vec![web.upstream()], |options| {
        options.streams.silent_after = Duration::from_millis(300);
    });
    for beginning in [&b""[..], &[0, 1, 0], &[0x16, 3, 1, 2, 0, 1]] {
        let mut stream = plain(shards.v4());
        stream.write_all(beginning).expect("sent");
        assert!(is_closed(&mut stream));
    }
    let mut inside = tls(shards.v4(), &config, NAME, &[]);
    inside.flush().expect("a handshake");
    let end = inside.read(&mut [0; 8]);
    assert!(end.is_err() || end.is_ok_and(|length| length == 0));
    shards.stop();
}

#[test]
fn a_plain_listener_sends_no_tls_to_a_web_server_and_one_of_tls_no_plain_text() {
    let web = Web::start();
    let (shards, config) = serve(vec![web.upstream()], |options| options.shared = false);
    let mut hello = Vec::new();
    tls(shards.v4(), &config, NAME, &[])
        .conn
        .write_tls(&mut hello)
        .expect("a hello");
    let mut stream = plain(shards.v4());
    stream.write_all(&hello).expect("sent");
    assert!(is_closed(&mut stream));
    let mut stream = plain(shards.tls_addresses[0]);
    stream.write_all(GET).expect("sent");
    stream.read_to_end(&mut Vec::new()).ok();
    web.0.set_nonblocking(true).expect("an option");
    assert!(web.0.accept().is_err(), "nothing was passed on");
    shards.stop();
}
