//! TLS over TCP with `openssl s_client`, coturn's client, the `turn` crate and Chromium.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::certificates::{Issuer, Kind};
use super::client::Client;
use super::metrics::Metrics;
use super::process::{LIMIT, lacks, run};
use super::relaying::echo_peer;
use super::server::{Server, binary, free_port};

/// The first certificate.
const EC: &str = "turn.example.org";
/// The second one.
const RSA: &str = "rsa.example.org";

/// A server with TLS, and the directory of its files.
pub(crate) struct Secured {
    pub(crate) server: Server,
    pub(crate) tls: SocketAddr,
    pub(crate) issuer: Issuer,
    pub(crate) directory: tempfile::TempDir,
}

impl Secured {
    /// A server with an EC and an RSA certificate, both good for 127.0.0.1 too.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let issuer = Issuer::new();
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        issuer.issue(Kind::Ec, &[EC, "127.0.0.1"]).swap(at, "ec");
        issuer
            .issue(Kind::Rsa, &[RSA, "127.0.0.1"])
            .write(at, "rsa");
        let tls = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = write_configuration(at, tls);
        let server = Server::start(&[&["--config", &file], arguments].concat());
        Self {
            server,
            tls,
            issuer,
            directory,
        }
    }

    /// What `openssl s_client` says when it connects with `flags`, and whether that went well.
    fn openssl(&self, flags: &str) -> (bool, String) {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &self.tls.to_string(), "-CAfile"])
            .arg(self.issuer.file(self.directory.path()))
            .args(["-verify_return_error"])
            .args(flags.split(' ').filter(|flag| !flag.is_empty()));
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        (status.success(), format!("{stdout}{stderr}"))
    }

    #[track_caller]
    fn served(&self, flags: &str, expected: &[&str]) {
        let (good, output) = self.openssl(flags);
        assert!(good, "{flags}: {output}");
        for text in expected {
            assert!(output.contains(text), "{flags}: no {text:?} in {output}");
        }
    }

    #[track_caller]
    fn refused(&self, flags: &str, alert: &str) {
        let (good, output) = self.openssl(flags);
        assert!(!good, "{flags}: {output}");
        assert!(output.contains(alert), "{flags}: no {alert:?} in {output}");
    }
}

fn write_configuration(directory: &Path, tls: SocketAddr) -> String {
    let mut text = format!("[relay]\ntcp = true\n[tls]\nlisten = [\"{tls}\"]\n");
    for name in ["ec", "rsa"] {
        text += &format!(
            "[[tls.certificates]]\nchain = \"{name}-chain.pem\"\nkey = \"{name}-key.pem\"\n"
        );
    }
    let file = directory.join("turnserver.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn openssl_connects_by_safe_versions_only() {
    if lacks("openssl_connects_by_safe_versions_only", &["openssl"]) {
        return;
    }
    let secured = Secured::start(&[]);
    secured.served("-tls1_3", &["TLSv1.3", "Verify return code: 0 (ok)"]);
    secured.served("-tls1_2", &["TLSv1.2", "ECDHE-ECDSA"]);
    for version in ["-tls1_1", "-tls1"] {
        let flags = format!("{version} -cipher ALL:@SECLEVEL=0");
        secured.refused(&flags, "alert handshake failure");
    }
    for suites in ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "AES256-GCM-SHA384"] {
        let flags = format!("-tls1_2 -cipher {suites}:@SECLEVEL=0");
        secured.refused(&flags, "alert handshake failure");
    }
    let failures = "turnstone_tls_handshakes_failed_total";
    // Each was at a shard of its own choice, whose counters come when they come.
    let metrics = secured
        .server
        .metrics_when(|m| m.sum(failures) == 5.0 && m.sum("turnstone_tls_handshakes_total") == 2.0);
    assert_eq!(metrics.with(failures, "reason=\"version\""), 2.0);
    assert_eq!(metrics.with(failures, "reason=\"cipher\""), 3.0);
    assert_eq!(metrics.sum("turnstone_tls_handshakes_total"), 2.0);
    secured.server.stop();
}

#[test]
fn openssl_is_refused_a_foreign_protocol() {
    if lacks("openssl_is_refused_a_foreign_protocol", &["openssl"]) {
        return;
    }
    let secured = Secured::start(&[]);
    for version in ["-tls1_2", "-tls1_3"] {
        let alpn = |names: &str| format!("{version} -alpn {names}");
        secured.served(&alpn("stun.turn"), &["ALPN protocol: stun.turn"]);
        secured.served(&alpn("h2,stun.nat-discovery"), &["stun.nat-discovery"]);
        secured.served(version, &["No ALPN negotiated"]);
        secured.refused(&alpn("h2,http/1.1"), "alert no application protocol");
    }
    secured.server.stop();
}

#[test]
fn openssl_gets_the_certificate_that_it_asks_for() {
    let test = "openssl_gets_the_certificate_that_it_asks_for";
    if lacks(test, &["openssl"]) {
        return;
    }
    let secured = Secured::start(&[]);
    let subject = |name: &str| format!("subject=CN = {name}");
    for (flags, name) in [
        (format!("-servername {EC}"), EC),
        (format!("-servername {RSA}"), RSA),
        (format!("-servername {}", RSA.to_uppercase()), RSA),
        ("-servername else.example.org".to_owned(), EC),
        ("-noservername".to_owned(), EC),
        // A client that cannot check EC signatures.
        (
            "-noservername -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256".to_owned(),
            RSA,
        ),
        ("-noservername -sigalgs RSA-PSS+SHA256".to_owned(), RSA),
    ] {
        secured.served(&flags, &[&subject(name), "Verify return code: 0 (ok)"]);
    }
    // The issuer comes along.
    secured.served("-showcerts", &[" 1 s:CN = the issuer of a test"]);
    secured.server.stop();
}

#[tokio::test]
async fn the_turn_crate_relays_over_tls() {
    let secured = Secured::start(&["--allow-peer", "127.0.0.1"]);
    let client = Client::tls(secured.tls, secured.issuer.client()).await;
    assert_eq!(client.relayed().ip(), secured.tls.ip());
    // What serves clients is no peer, whatever is allowed (requirement S1).
    let _ = client.try_send(b"no peer", secured.tls).await;
    let (peer, echo) = echo_peer("127.0.0.1").await;
    for length in [1, 2, 3, 160, 1200, 8000] {
        let payload = vec![u8::try_from(length % 251).unwrap(); length];
        client.send(&payload, peer).await;
        let received = client.receive().await.map(|(bytes, _)| bytes);
        assert_eq!(received, Some(payload));
    }
    client.close().await;
    echo.abort();
    let created = |metrics: &Metrics| {
        metrics.with("turnstone_allocations_created_total", "transport=\"tls\"")
    };
    let relayed = |metrics: &Metrics| metrics.with("turnstone_relayed_packets_total", "to_peer");
    let metrics = secured
        .server
        .metrics_when(|metrics| created(metrics) == 1.0 && relayed(metrics) == 6.0);
    assert_eq!((created(&metrics), relayed(&metrics)), (1.0, 6.0));
    secured.server.stop();
}

/// What an idle client costs.
#[test]
fn an_idle_connection_costs_less_than_40_kib() {
    const COUNT: usize = 1000;
    let secured = Secured::start(&["--workers", "1"]);
    let config = secured.issuer.client();
    let resident = || {
        std::thread::sleep(Duration::from_millis(300));
        secured.server.metrics().resident()
    };
    let mut clients: Vec<_> = (0..50).map(|_| idle(secured.tls, &config)).collect();
    let before = resident();
    clients.extend((0..COUNT).map(|_| idle(secured.tls, &config)));
    let each = (resident() - before) / COUNT as f64;
    assert!(each < 40.0 * 1024.0, "{each} bytes");
    println!("an idle TLS connection costs {each} bytes");
    drop(clients);
    secured.server.stop();
}

/// A client whose handshake is complete and whose Binding request was answered.
fn idle(
    server: SocketAddr,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect(server).unwrap();
    let session = ClientConnection::new(Arc::clone(config), server.ip().into()).unwrap();
    let mut link = StreamOwned::new(session, stream);
    let mut binding = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    binding.resize(20, 7);
    link.write_all(&binding).unwrap();
    let mut answer = [0; 20];
    std::io::Read::read_exact(&mut link, &mut answer).unwrap();
    link
}

#[test]
fn credentials_come_with_a_turns_uri_that_the_certificate_names() {
    let secured = Secured::start(&[]);
    let port = secured.tls.port();
    let file = secured.directory.path().join("turnserver.toml");
    let offered = |host: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args([
                "credential",
                "--json",
                "--user",
                "hatter",
                "--secret",
                "of-the-hat-shop",
            ])
            .arg("--config")
            .arg(&file)
            .args(host);
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        assert!(status.success(), "{stderr}");
        stdout
    };
    let uri = |host: &str| format!("turns:{host}:{port}?transport=tcp");
    assert!(offered(&[]).contains(&uri(EC)));
    assert!(offered(&["--host", RSA]).contains(&uri(RSA)));
    assert!(offered(&["--host", "else.example.org"]).contains(&uri(EC)));
    secured.server.stop();
}
