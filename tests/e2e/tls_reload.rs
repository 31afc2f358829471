//! Certificates that change under a running server.

use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::process::Signal;
use rustls::ClientConnection;

use super::certificates::Kind;
use super::client::Client;
use super::metrics::Metrics;
use super::process::{LIMIT, until};
use super::relaying::echo_peer;
use super::tls::Secured;

const NAMES: [&str; 2] = ["turn.example.org", "127.0.0.1"];

impl Secured {
    /// The serial numbers and names of the certificate that a client gets.
    fn shown(&self) -> Vec<u8> {
        let name = NAMES[0].try_into().unwrap();
        let mut session = ClientConnection::new(self.issuer.client(), name).unwrap();
        let mut stream = std::net::TcpStream::connect(self.tls).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        session.peer_certificates().unwrap()[0].to_vec()
    }

    /// Replaces the first certificate, chain and key in one step.
    fn replace(&self) {
        let issued = self.issuer.issue(Kind::Ec, &NAMES);
        issued.swap(self.directory.path(), "ec");
    }

    fn reloads(&self, result: &str) -> f64 {
        let metrics = self.server.metrics();
        metrics.with("turnstone_certificate_reloads_total", result)
    }
}

#[tokio::test]
async fn ten_new_certificates_under_load_lose_no_session() {
    let secured = Secured::start(&["--allow-peer", "127.0.0.1"]);
    let (peer, echo) = echo_peer("127.0.0.1").await;
    let mut clients = Vec::new();
    for round in 0..10_u8 {
        clients.push(Client::tls(secured.tls, secured.issuer.client()).await);
        let before = secured.shown();
        secured.replace();
        let renewed = until(LIMIT, || secured.shown() != before);
        assert!(renewed, "certificate {round} is not in use");
        for client in &clients {
            client.send(&[round; 100], peer).await;
            let received = client.receive().await.map(|(bytes, _)| bytes);
            assert_eq!(received, Some(vec![round; 100]));
        }
    }
    // The connections that looked at the certificates are counted until the shard has seen their ends.
    let open = |metrics: &Metrics| metrics.with("turnstone_connections", "tls");
    let metrics = secured.server.metrics_when(|metrics| open(metrics) == 10.0);
    assert_eq!(open(&metrics), 10.0);
    assert!(until(LIMIT, || secured.reloads("applied") == 10.0));
    assert_eq!(secured.reloads("refused"), 0.0);
    for client in clients {
        client.close().await;
    }
    echo.abort();
    secured.server.stop();
}

/// As Kubernetes does it: the files are links through a link to a directory, which is replaced.
#[test]
fn another_target_of_a_link_is_a_new_certificate() {
    let secured = Secured::start(&[]);
    let at = secured.directory.path();
    let swap = |generation: &str| {
        std::fs::create_dir(at.join(generation)).unwrap();
        let issued = secured.issuer.issue(Kind::Ec, &NAMES);
        issued.write(&at.join(generation), "ec");
        symlink(generation, at.join("..data_tmp")).unwrap();
        std::fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    };
    swap("..1");
    for file in ["ec-chain.pem", "ec-key.pem"] {
        symlink(format!("..data/{file}"), at.join("link")).unwrap();
        std::fs::rename(at.join("link"), at.join(file)).unwrap();
    }
    let mut before = secured.shown();
    assert!(until(LIMIT, || secured.reloads("applied") == 1.0));
    for generation in ["..2", "..3"] {
        before = secured.shown();
        swap(generation);
        assert!(until(LIMIT, || secured.shown() != before), "{generation}");
    }
    assert_ne!(secured.shown(), before);
    secured.server.stop();
}

#[test]
fn a_bad_certificate_is_reported_once_and_the_old_one_stays() {
    let secured = Secured::start(&[]);
    let at = secured.directory.path();
    let before = secured.shown();
    let other = secured.issuer.issue(Kind::Ec, &NAMES);
    // In one step: half a key is another mistake.
    std::fs::write(at.join("new"), &other.key).unwrap();
    std::fs::rename(at.join("new"), at.join("ec-key.pem")).unwrap();
    assert!(until(LIMIT, || secured.reloads("refused") == 1.0));
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(secured.reloads("refused"), 1.0);
    let told = |log: &str| {
        log.matches("the private key of another certificate")
            .count()
    };
    let log = secured.server.log();
    assert_eq!(told(&log), 1, "{log}");
    assert!(log.contains("the old certificate stays in use"), "{log}");
    assert_eq!(secured.shown(), before);
    // Both together are good.
    other.write(at, "ec");
    assert!(until(LIMIT, || secured.shown() != before));
    secured.server.stop();
}

#[test]
fn sighup_reads_the_certificates_at_once() {
    let mut secured = Secured::start(&[]);
    let before = secured.shown();
    secured.replace();
    secured.server.running().signal(Signal::HUP);
    let log = "reload: tls.certificates: changed";
    assert!(until(LIMIT, || secured.server.log().contains(log)));
    assert!(until(LIMIT, || secured.shown() != before));
    let left = "turnstone_certificate_expires_in_seconds";
    let metrics = secured.server.metrics();
    for index in ["certificate=\"0\"", "certificate=\"1\""] {
        assert!(metrics.with(left, index) > 24.0 * 3600.0, "{metrics:?}");
    }
    secured.server.stop();
}
