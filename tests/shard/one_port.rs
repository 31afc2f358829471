//! One port for TURN with and without TLS, and for a web server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread::spawn;

use turnstone::config::{Upstream, UpstreamAddress, UpstreamTls};
use turnstone::stun::Method;
use turnstone::transport::ProxyHeader;
use turnstone::turn::{Counter, PassOutcome, Transport};

use crate::certificates::NAME;
use crate::client::{Client, Link};
use crate::web::{GET, Web, is_closed, noise, plain, read_to_end, serve, tls, upstream};

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
    // A passage begins after the handshake, which is over for whoever counts.
    shards.wait_for(Counter::TlsHandshaking, 0);
    shards.wait_for(Counter::TlsHandshakes, 2);
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
