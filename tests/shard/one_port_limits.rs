//! Limits and failures of connections that go on to a web server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use turnstone::config::{Upstream, UpstreamAddress};
use turnstone::turn::{ConnectionEnd, Counter, PassOutcome, Transport};

use crate::certificates::NAME;
use crate::client::Client;
use crate::harness::NEVER;
use crate::web::{GET, Web, is_closed, plain, serve, tls, upstream};

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
fn a_web_connection_has_an_idle_limit_of_its_own() {
    let web = Web::start();
    let (shards, _) = serve(vec![web.upstream()], |options| {
        options.streams.silent_after = NEVER;
    });
    let mut near = plain(shards.v4());
    near.write_all(GET).expect("sent");
    let mut far = web.expect(GET);
    shards.limit(|limits| {
        limits.silent_after = Duration::from_millis(200);
        limits.idle_after = Duration::from_millis(200);
    });
    let mut heard = [0; 4];
    for _ in 0..2 {
        far.write_all(b"late").expect("sent");
        near.read_exact(&mut heard).expect("still open");
        sleep(Duration::from_millis(600));
    }
    near.write_all(b"last").expect("sent");
    far.read_exact(&mut heard).expect("still open");
    shards.stop();
    // The other way round.
    let idle = Upstream {
        idle_after: Duration::from_millis(300),
        ..web.upstream()
    };
    let (shards, _) = serve(vec![idle], |options| {
        (options.streams.silent_after, options.streams.idle_after) = (NEVER, NEVER);
    });
    let mut near = plain(shards.v4());
    near.write_all(GET).expect("sent");
    let mut far = web.accept();
    let end = far.read_to_end(&mut Vec::new());
    assert!(end.is_ok_and(|length| length <= GET.len()));
    assert!(is_closed(&mut near));
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
        // It may be over already.
        let _ = stream.write_all(beginning);
        assert!(is_closed(&mut stream));
    }
    // On a slow machine the handshake alone takes too long sometimes.
    let inside = || {
        let mut stream = tls(shards.v4(), &config, NAME, &[]);
        stream.flush().is_ok().then_some(stream)
    };
    let mut inside = (0..50).find_map(|_| inside()).expect("a handshake");
    let end = inside.read(&mut [0; 8]).map_err(|error| error.kind());
    let waits_on = matches!(end, Ok(1..) | Err(ErrorKind::WouldBlock));
    assert!(!waits_on, "{end:?}");
    shards.stop();
}
