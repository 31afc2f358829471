//! What `turnstone bench` says when nothing can be counted, or when a figure is to be doubted.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;

use super::bench::{GENTLE, LOOPBACK_PEERS, all_ended, bench, complaint, json, known, notes};
use super::metrics::Metrics;
use super::process::{LIMIT, Running};
use super::server::{PASSWORD, Server, USER, binary, free_port};

#[test]
fn what_is_wrong_is_one_line() {
    let server = Server::start(&[]);
    let at = server.address();
    let user = ["--user", USER, "--password"];
    let mut wrong = bench("relay", at, &user);
    let text = complaint(wrong.arg("wrong"));
    assert!(text.contains("refuses user \"alice\" (401)"), "{text}");
    let mut realm = bench("relay", at, &user);
    let text = complaint(realm.args([PASSWORD, "--realm", "oz"]));
    assert!(
        text.contains("realm is \"wonderland.example\", not \"oz\""),
        "{text}"
    );
    let text = complaint(&mut bench("relay", at, &[]));
    assert!(text.contains("asks for credentials"), "{text}");
    let mut refused = bench("relay", at, &user);
    let text = complaint(refused.arg(PASSWORD));
    assert!(
        text.contains("(403)") && text.contains("--allow-peer 127.0.0.1"),
        "{text}"
    );
    let text = complaint(&mut known("idle", at, &["--pid", "4294967295"]));
    assert!(text.starts_with("--pid 4294967295"), "{text}");
    let text = complaint(&mut known("relay", at, &["--peer", "192.0.2.1"]));
    assert!(
        text.contains("192.0.2.1 is not an address of this host"),
        "{text}"
    );
    let text = complaint(&mut known("pair", at, &["--allocations", "3"]));
    assert!(text.contains("even number"), "{text}");
    let text = complaint(&mut known("relay", at, &["--transport", "tls"]));
    assert!(text.starts_with("no TLS session with"), "{text}");
    let text = complaint(&mut known("relay", at, &["--transport", "dtls"]));
    assert!(text.contains("it speaks no DTLS"), "{text}");
    for transport in ["udp", "tcp", "dtls"] {
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = complaint(&mut known("relay", nobody, &["--transport", transport]));
        assert!(text.starts_with("nothing listens at 127.0.0.1:"), "{text}");
    }
    server.stop();
}

#[test]
fn a_quota_is_named() {
    let server = Server::configured("[limits]\nallocations_per_user = 3\n", &[]);
    for arguments in [
        &["--allocations", "20"][..],
        &["--allocations", "20", "--threads", "2"],
    ] {
        let text = complaint(&mut known("idle", server.address(), arguments));
        assert!(
            text.contains("(486) after 3 allocations")
                && text.contains("limits.allocations_per_user"),
            "{text}"
        );
        all_ended(&server);
    }
    server.stop();
}

#[test]
fn a_server_that_goes_during_the_run_is_told_from_one_that_never_was() {
    for (transport, why) in [
        ("udp", "has gone during the run"),
        ("tcp", "closed the connection"),
    ] {
        let mut server = Server::start(LOOPBACK_PEERS);
        let mut command = Command::new(binary());
        command.args(["bench", "relay", &server.address().to_string()]);
        command.args(["--user", USER, "--password", PASSWORD, "--duration", "4m"]);
        command.args(["--transport", transport]).args(GENTLE);
        let mut running = Running::start(&mut command);
        let carries = |metrics: &Metrics| metrics.sum("turnstone_relayed_packets_total") > 0.0;
        assert!(carries(&server.metrics_when(carries)));
        server.running().signal(Signal::KILL);
        let status = running.wait(LIMIT).expect("the run ends");
        let stderr = running.stderr();
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(why) && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

#[test]
fn the_process_of_another_program_is_not_taken_for_the_server() {
    let mut server = Server::start(LOOPBACK_PEERS);
    for (pid, doubted) in [(server.running().pid(), false), (std::process::id(), true)] {
        let mut command = known("relay", server.address(), GENTLE);
        let report = json(command.args(["--pid", &pid.to_string()]));
        let doubts = notes(&report).contains("has no socket at port");
        assert_eq!(doubts, doubted, "{report}");
    }
    server.stop();
}
