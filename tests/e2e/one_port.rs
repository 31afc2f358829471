//! TURN with and without TLS and web servers on one port, with curl, openssl, Chromium and coturn's
//! client; and a load balancer in front.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use super::certificates::{Issuer, Kind};
use super::coturn_tools::{Peer, Tally, account};
use super::process::{LIMIT, Running, lacks, run, until};
use super::server::{Server, free_port};
use super::web::{self, PAGE};

/// Has curl say nothing but what is wrong, ask the server itself, and give up in time.
const DIRECT: [&str; 6] = [
    "--silent",
    "--show-error",
    "--max-time",
    "60",
    "--noproxy",
    "*",
];
const TURN: &str = "turn.example.org";
const WWW: &str = "www.example.org";
const CONNECTED: &str = "outcome=\"connected\"";

/// A server one port of which carries everything.
struct Shared {
    server: Server,
    port: SocketAddr,
    issuer: Issuer,
    directory: tempfile::TempDir,
}

impl Shared {
    fn start(upstreams: &str) -> Self {
        let issuer = Issuer::new();
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        issuer
            .issue(Kind::Ec, &[TURN, "127.0.0.1"])
            .write(at, "turn");
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = at.join("turnserver.toml");
        let text = format!(
            "[tls]\nlisten = [\"{port}\"]\n[[tls.certificates]]\nchain = \"turn-chain.pem\"\n\
             key = \"turn-key.pem\"\n{upstreams}"
        );
        std::fs::write(&file, text).unwrap();
        let (file, listen) = (file.display().to_string(), port.to_string());
        let arguments = [
            "--config",
            &file,
            "--listen",
            &listen,
            "--allow-peer",
            "127.0.0.1",
        ];
        Self {
            server: Server::start(&arguments),
            port,
            issuer,
            directory,
        }
    }

    /// What curl gets by `url` with `flags`, every name leading to the shared port.
    fn curl(&self, url: &str, flags: &str) -> (bool, String) {
        let mut command = Command::new("curl");
        let names = [TURN, WWW].map(|name| format!("{name}:{}:127.0.0.1", self.port.port()));
        command
            .args(DIRECT)
            .args(["--resolve", &names[0], "--resolve", &names[1], "--cacert"])
            .arg(self.issuer.file(self.directory.path()))
            .args(flags.split(' ').filter(|flag| !flag.is_empty()))
            .arg(url.replace("PORT", &self.port.port().to_string()))
            .current_dir(self.directory.path());
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        (status.success(), format!("{stdout}{stderr}"))
    }

    #[track_caller]
    fn gets(&self, url: &str, flags: &str) {
        let (good, output) = self.curl(url, flags);
        assert!(good && output.contains(PAGE), "{url} {flags}: {output}");
    }
}

fn upstream(to: SocketAddr) -> String {
    format!("[[upstream]]\nto = \"{to}\"\nplain = true\n")
}

fn noise(length: u32) -> Vec<u8> {
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

#[test]
fn curl_and_turn_share_a_port() {
    let test = "curl_and_turn_share_a_port";
    if lacks(test, &["curl", "turnutils_uclient"]) {
        return;
    }
    let shared = Shared::start(&upstream(web::serve()));
    let peer = Peer::at("127.0.0.1");
    let issuer = shared.issuer.file(shared.directory.path());
    std::thread::scope(|scope| {
        for tls in ["-t".to_owned(), format!("-t -S -E {}", issuer.display())] {
            let flags = format!("{} {} -s {tls}", peer.flags(), account());
            let port = shared.port;
            scope.spawn(move || Tally::at(port, &flags).check(100));
        }
        shared.gets("http://turn.example.org:PORT/", "");
        shared.gets("https://turn.example.org:PORT/", "");
        shared.gets("https://turn.example.org:PORT/", "--no-alpn --tls-max 1.2");
        let many = "https://turn.example.org:PORT/[1-20]";
        let (good, output) = shared.curl(many, "");
        assert!(good && output.matches(PAGE).count() == 20, "{output}");
        let body = noise(300_000);
        let at = shared.directory.path();
        std::fs::write(at.join("body"), &body).unwrap();
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://turn.example.org:PORT/upload");
            let (good, output) = shared.curl(&url, "--data-binary @body --output echo");
            assert!(good, "{output}");
            assert!(std::fs::read(at.join("echo")).unwrap() == body);
        }
    });
    let passed = "turnstone_connections_passed_total";
    let metrics = shared
        .server
        .metrics_when(|m| m.with(passed, CONNECTED) == 6.0);
    assert_eq!(metrics.with(passed, CONNECTED), 6.0);
    shared.server.stop();
}

#[test]
fn openssl_serves_its_own_name_behind_the_port() {
    let test = "openssl_serves_its_own_name_behind_the_port";
    if lacks(test, &["curl", "openssl"]) {
        return;
    }
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let shared = Shared::start(&format!(
        "[[upstream]]\nto = \"{to}\"\ntls = \"pass\"\nserver_names = [\"{WWW}\"]\n{}",
        upstream(web::serve())
    ));
    let at = shared.directory.path();
    shared.issuer.issue(Kind::Ec, &[WWW]).write(at, "www");
    let mut command = Command::new("openssl");
    command
        .args(["s_server", "-www", "-accept", &to.to_string()])
        .args(["-cert", "www-chain.pem", "-key", "www-key.pem"])
        .current_dir(at);
    let _web = Running::start(&mut command);
    assert!(
        until(LIMIT, || TcpStream::connect(to).is_ok()),
        "s_server listens"
    );
    // curl checks the names of both certificates.
    let (good, output) = shared.curl("https://www.example.org:PORT/", "");
    assert!(good && output.contains("s_server -www"), "{output}");
    shared.gets("https://turn.example.org:PORT/", "");
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &shared.port.to_string()])
        .args(["-servername", TURN, "-alpn", "stun.turn"]);
    let (_, output, _) = run(&mut command, LIMIT);
    assert!(output.contains("ALPN protocol: stun.turn"), "{output}");
    shared.server.stop();
}

/// A browser's pages, uploads and WebSockets work unchanged.
#[test]
fn chromium_uses_the_web_server_behind_the_port() {
    let test = "chromium_uses_the_web_server_behind_the_port";
    if lacks(test, &["chromium"]) {
        return;
    }
    let (web, told) = web::serve_script();
    let shared = Shared::start(&upstream(web));
    let mut command = Command::new("chromium");
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
        .args(["--ignore-certificate-errors", "--disable-dev-shm-usage"])
        .arg("--no-proxy-server")
        .arg(format!(
            "--user-data-dir={}",
            shared.directory.path().join("profile").display()
        ))
        .arg(format!("https://{}/script", shared.port));
    let browser = Running::start(&mut command);
    let told = told.recv_timeout(3 * LIMIT);
    assert_eq!(
        told.as_deref(),
        Ok(format!("{}-true-20", PAGE.len()).as_str())
    );
    drop(browser);
    shared.server.stop();
}

#[test]
fn a_web_server_that_is_down_is_told_once() {
    if lacks("a_web_server_that_is_down_is_told_once", &["curl"]) {
        return;
    }
    let down = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let shared = Shared::start(&format!("{}[server]\nworkers = 1\n", upstream(down)));
    for _ in 0..3 {
        let (good, output) = shared.curl("https://turn.example.org:PORT/", "");
        assert!(!good, "{output}");
    }
    let unreachable = |m: &super::metrics::Metrics| {
        m.with("turnstone_connections_passed_total", "unreachable") == 3.0
    };
    assert!(unreachable(&shared.server.metrics_when(unreachable)));
    let log = shared.server.stop();
    let told = format!("cannot connect to the upstream {down}");
    // Each worker may tell it once a minute.
    assert_eq!(log.matches(&told).count(), 1, "{log}");
}

/// coturn's tools have no header of the PROXY protocol, curl has one of version 1.
#[test]
fn a_balancer_names_its_clients() {
    if lacks("a_balancer_names_its_clients", &["curl"]) {
        return;
    }
    let text = format!(
        "[streams]\nproxy_protocol_from = [\"127.0.0.1\"]\n{}tls = \"off\"\n",
        upstream(web::serve())
    );
    let server = Server::configured(&text, &[]);
    let get = |flags: &[&str]| {
        let mut command = Command::new("curl");
        command
            .args(DIRECT)
            .args(flags)
            .arg(format!("http://{}/", server.address()));
        run(&mut command, LIMIT)
    };
    let (status, stdout, _) = get(&["--haproxy-protocol"]);
    assert!(status.success() && stdout == PAGE, "{stdout}");
    let (status, stdout, _) = get(&[]);
    assert!(!status.success() && stdout.is_empty(), "{stdout}");
    let closed = "turnstone_connections_closed_total";
    let metrics = server.metrics_when(|m| m.with(closed, "proxy_header") == 1.0);
    assert_eq!(metrics.with(closed, "proxy_header"), 1.0);
    let mapped = mapped_behind(
        server.address(),
        "PROXY TCP4 192.0.2.7 198.51.100.7 4711 3478\r\n",
    );
    assert_eq!(mapped, SocketAddr::from(([192, 0, 2, 7], 4711)));
    server.stop();
}

/// What a Binding request behind `header` is told.
fn mapped_behind(server: SocketAddr, header: &str) -> SocketAddr {
    use turnstone::stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};
    let mut bytes = Vec::new();
    MessageBuilder::new(
        &mut bytes,
        Class::Request,
        Method::BINDING,
        TransactionId([7; 12]),
    );
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .write_all(&[header.as_bytes(), &bytes].concat())
        .unwrap();
    let mut answer = vec![0; 20];
    stream.read_exact(&mut answer).unwrap();
    let rest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    answer.resize(20 + rest, 0);
    stream.read_exact(&mut answer[20..]).unwrap();
    let message = Message::parse(&answer).unwrap();
    let mapped = message
        .attribute(AttributeType::XOR_MAPPED_ADDRESS)
        .unwrap();
    message.xor_address(&mapped).unwrap()
}
