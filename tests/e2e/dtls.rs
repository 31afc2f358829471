//! DTLS with `openssl s_client`, and what a session costs.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::certificates::Kind;
use super::dtls_link::{DtlsLink, Version};
use super::process::{LIMIT, lacks, run, until};
use super::tls::Secured;

impl Secured {
    /// What `openssl s_client` says when it connects to `server` with `flags`, and whether that went well.
    fn openssl_dtls(&self, server: SocketAddr, flags: &str) -> (bool, String) {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &server.to_string(), "-CAfile"])
            .arg(self.issuer.file(self.directory.path()))
            .args(["-verify_return_error"])
            .args(flags.split(' ').filter(|flag| !flag.is_empty()));
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        (status.success(), format!("{stdout}{stderr}"))
    }
}

#[test]
fn openssl_connects_over_dtls_and_gets_the_chain() {
    let test = "openssl_connects_over_dtls_and_gets_the_chain";
    if lacks(test, &["openssl"]) {
        return;
    }
    let secured = Secured::start(&[]);
    for server in [secured.tls, secured.server.address()] {
        for flags in ["-dtls1_2", "-dtls", "-dtls1_2 -mtu 512"] {
            let (good, output) = secured.openssl_dtls(server, &format!("{flags} -showcerts"));
            assert!(good, "{flags}: {output}");
            for text in [
                "DTLSv1.2",
                "ECDHE-ECDSA",
                " 0 s:CN = turn.example.org",
                " 1 s:CN = the issuer of a test",
                "Verify return code: 0 (ok)",
            ] {
                assert!(output.contains(text), "{flags}: no {text:?} in {output}");
            }
        }
    }
    let ended = "turnstone_dtls_sessions_ended_total";
    secured
        .server
        .metrics_when(|metrics| metrics.with(ended, "closed") == 6.0);
    secured.server.stop();
}

#[test]
fn openssl_is_told_why_it_is_refused() {
    if lacks("openssl_is_told_why_it_is_refused", &["openssl"]) {
        return;
    }
    let secured = Secured::start(&[]);
    for (flags, alert) in [
        ("-dtls1 -cipher ALL:@SECLEVEL=0", "alert protocol version"),
        (
            "-dtls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256",
            "alert handshake failure",
        ),
    ] {
        let (good, output) = secured.openssl_dtls(secured.tls, flags);
        assert!(!good && output.contains(alert), "{flags}: {output}");
    }
    let failed = "turnstone_dtls_handshakes_failed_total";
    let metrics = secured
        .server
        .metrics_when(|metrics| metrics.sum(failed) == 2.0);
    assert_eq!(metrics.with(failed, "cipher"), 1.0);
    assert_eq!(metrics.with(failed, "version"), 1.0);
    assert_eq!(metrics.sum("turnstone_dtls_handshakes_total"), 0.0);
    secured.server.stop();
}

#[test]
fn a_new_certificate_is_seen_over_dtls_too() {
    if lacks("a_new_certificate_is_seen_over_dtls_too", &["openssl"]) {
        return;
    }
    let secured = Secured::start(&[]);
    let shown = || {
        let (_, output) = secured.openssl_dtls(secured.tls, "-dtls1_2");
        let certificate = output.split("-----").nth(2).expect("a certificate");
        certificate.to_owned()
    };
    let before = shown();
    let names = ["turn.example.org", "127.0.0.1"];
    let issued = secured.issuer.issue(Kind::Ec, &names);
    issued.write(secured.directory.path(), "ec");
    assert!(until(LIMIT, || shown() != before));
    secured.server.stop();
}

/// What an idle client costs.
#[test]
fn an_idle_session_costs_less_than_32_kib() {
    const COUNT: usize = 500;
    let secured = Secured::start(&["--workers", "1"]);
    let resident = || {
        std::thread::sleep(Duration::from_millis(300));
        secured.server.metrics().resident()
    };
    for version in [Version::Dtls12, Version::Dtls13] {
        let connect = || DtlsLink::connect(secured.tls, version);
        let mut clients: Vec<_> = (0..50).map(|_| connect()).collect();
        let before = resident();
        clients.extend((0..COUNT).map(|_| connect()));
        let each = (resident() - before) / COUNT as f64;
        println!("an idle session of {version:?} costs {each} bytes");
        assert!(each < 32.0 * 1024.0, "{each} bytes");
        drop(clients);
    }
    secured.server.stop();
}
