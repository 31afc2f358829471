//! `turnstone bench` against the real server and against coturn: what it counts. Nothing here
//! depends on how fast the machine is.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::families::dual_stack;
use super::metrics::Metrics;
use super::process::{LIMIT, Running, lacks, run, until};
use super::server::{PASSWORD, REALM, SECRET, Server, USER, binary, free_port};
use super::tls::Secured;

pub(crate) const LOOPBACK_PEERS: &[&str] = &["--allow-peer", "127.0.0.1"];

/// `turnstone bench WORKLOAD` for a second against `server`.
pub(crate) fn bench(workload: &str, server: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["bench", workload, &server.to_string()])
        .args(["--duration", "1s"])
        .args(arguments)
        .env_remove("TURNSTONE_SECRET")
        .env_remove("TURNSTONE_PASSWORD");
    command
}

/// The same as the user whom every server here knows, with JSON.
pub(crate) fn known(workload: &str, server: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = bench(workload, server, arguments);
    command.args(["--user", USER, "--password", PASSWORD, "--json"]);
    command
}

/// What it reports; once more when it was not run in all of the second in which it should send.
pub(crate) fn json(command: &mut Command) -> Value {
    let mut report = Value::Null;
    for _ in 0..10 {
        let (status, stdout, stderr) = run(command, LIMIT);
        assert!(status.success(), "{stderr}");
        report = serde_json::from_str(&stdout).unwrap();
        if report["result"]["sent"] != 0 {
            break;
        }
    }
    report
}

/// The one line that a run which comes to nothing prints.
#[track_caller]
pub(crate) fn complaint(command: &mut Command) -> String {
    let (status, stdout, stderr) = run(command, LIMIT);
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert_eq!(stdout, "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// Packets were due, and all came to where they belong; none but of those is missing that the tester, when
/// it was not run, could not send in time.
#[track_caller]
fn all_came(report: &Value) {
    let result = &report["result"];
    let count = |key: &str| result[key].as_u64().unwrap();
    let unsent = count("unsent");
    assert!(count("received") > 0, "{result}");
    assert_eq!(count("received") + unsent, count("sent"), "{result}");
    assert_eq!((count("lost"), count("misplaced")), (unsent, 0), "{result}");
    assert!(result["latency"]["p50"].as_f64() > Some(0.0), "{result}");
}

/// All notes of a report.
#[track_caller]
pub(crate) fn notes(report: &Value) -> String {
    let notes = report["notes"].as_array().unwrap().iter();
    let notes: Vec<&str> = notes.filter_map(Value::as_str).collect();
    notes.join("\n")
}

/// There were allocations and there are none.
#[track_caller]
pub(crate) fn all_ended(server: &Server) {
    let ended = |metrics: &Metrics| {
        let made = metrics.sum("turnstone_allocations_created_total");
        made > 0.0 && metrics.sum("turnstone_allocations") < 1.0
    };
    let metrics = server.metrics_when(ended);
    assert!(ended(&metrics), "{metrics:#?}");
}

/// Few packets on their way, so that nothing is lost however slow the machine is.
pub(crate) const GENTLE: &[&str] = &["--allocations", "4", "--window", "8"];

#[test]
fn relay_and_pair_deliver_everything_over_udp_and_tcp() {
    let server = Server::start(LOOPBACK_PEERS);
    for arguments in [
        &["--direction", "both"][..],
        &["--direction", "up", "--indications"],
        &["--direction", "down", "--indications"],
        &["--burst", "4", "--size", "1200"],
        &["--transport", "tcp", "--size", "161"],
    ] {
        all_came(&json(
            known("relay", server.address(), GENTLE).args(arguments),
        ));
    }
    for arguments in [
        &["--direction", "both"][..],
        &["--transport", "tcp", "--indications"],
    ] {
        all_came(&json(
            known("pair", server.address(), GENTLE).args(arguments),
        ));
    }
    all_ended(&server);
    server.stop();
}

/// How many packets come in trains is the server's and the kernel's affair; what must hold is that every
/// one of them is found in its train.
#[test]
fn bursts_that_are_received_whole_count_packet_by_packet() {
    let secured = Secured::start(LOOPBACK_PEERS);
    let gro = ["--gro", "--burst", "8", "--size", "1200", "--window", "64"];
    let plain = secured.server.address();
    for (workload, at, transport) in [
        ("relay", plain, "udp"),
        ("relay", plain, "tcp"),
        ("relay", secured.tls, "dtls"),
        ("pair", plain, "udp"),
    ] {
        let mut command = known(workload, at, &["--transport", transport]);
        let report = json(command.args(["--allocations", "4"]).args(gro));
        all_came(&report);
        assert_eq!(report["traffic"]["gro"], true);
        let share = report["result"]["in_trains"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{share} of them in trains");
    }
    all_ended(&secured.server);
    secured.server.stop();
}

#[test]
fn all_workloads_run_over_dtls_too() {
    let secured = Secured::start(LOOPBACK_PEERS);
    let at = secured.tls;
    let over_dtls = ["--transport", "dtls"];
    for arguments in [
        &["--size", "1200"][..],
        &["--burst", "4"],
        &["--direction", "up", "--indications"],
    ] {
        let report = json(known("relay", at, GENTLE).args(over_dtls).args(arguments));
        all_came(&report);
        assert_eq!(report["handshakes"]["count"], 4);
        assert!(report["handshakes"]["p50"].as_f64() > Some(0.0));
    }
    all_came(&json(known("pair", at, GENTLE).args(over_dtls)));
    all_came(&json(
        known("cycle", at, &["--clients", "2"]).args(over_dtls),
    ));
    let rate = ["--clients", "2", "--rate", "50"];
    all_came(&json(known("binding", at, &rate).args(over_dtls)));
    json(known("idle", at, &["--allocations", "4"]).args(over_dtls));
    all_ended(&secured.server);
    // Every session was closed, and none is left to time out.
    let ended = "turnstone_dtls_sessions_ended_total";
    let made = "turnstone_dtls_handshakes_total";
    let metrics = secured
        .server
        .metrics_when(|metrics| metrics.with(ended, "closed") == metrics.sum(made));
    assert_eq!(metrics.with(ended, "closed"), metrics.sum(made));
    secured.server.stop();
}

#[test]
fn a_fixed_rate_sends_what_was_asked_for() {
    let server = Server::start(LOOPBACK_PEERS);
    let arguments = ["--allocations", "2", "--rate", "200", "--threads", "2"];
    let report = json(&mut known("relay", server.address(), &arguments));
    all_came(&report);
    let sent = report["result"]["sent"].as_u64().unwrap();
    assert!((199..=201).contains(&sent), "{sent} at 200 a second");
    server.stop();
}

/// No machine sends thirty million packets a second.
#[test]
fn what_the_tester_cannot_send_counts_as_lost_and_is_said() {
    let server = Server::start(LOOPBACK_PEERS);
    let arguments = ["--allocations", "1", "--direction", "up", "--burst", "64"];
    let mut command = known("relay", server.address(), &arguments);
    let report = json(command.args(["--rate", "30000000"]));
    let result = &report["result"];
    let count = |key: &str| result[key].as_u64().unwrap();
    assert!(
        (29_990_000..=30_010_000).contains(&count("sent")),
        "{result}"
    );
    assert!(count("unsent") > 1_000_000 && count("lost") >= count("unsent"));
    let limit = result["own_limit"].as_str().unwrap();
    assert!(limit.contains("could not keep to its schedule"), "{limit}");
    server.stop();
}

#[test]
fn binding_cycle_and_idle_are_answered() {
    let mut server = Server::start(LOOPBACK_PEERS);
    let pid = server.running().pid().to_string();
    let rate = ["--clients", "2", "--rate", "50"];
    all_came(&json(
        bench("binding", server.address(), &rate).arg("--json"),
    ));
    let clients = ["--clients", "2", "--pid", &pid];
    let report = json(&mut known("cycle", server.address(), &clients));
    all_came(&report);
    assert!(report["result"]["server_cpu_each"].as_f64() > Some(0.0));
    let allocations = ["--allocations", "20", "--pid", &pid];
    let report = json(&mut known("idle", server.address(), &allocations));
    assert_eq!(report["set_up"]["allocations"], 20);
    // So few take hardly more than the pages that they lie on, and then it is said.
    let untold = report["set_up"]["server_bytes_per_allocation"].is_null();
    assert_eq!(
        notes(&report).contains("start the server anew"),
        untold,
        "{report}"
    );
    assert!(report["result"]["server_resident_bytes"].as_u64() > Some(0));
    server.stop();
}

#[test]
fn relayed_addresses_are_of_the_family_of_the_peer() {
    let server = dual_stack(&[]);
    let (v4, v6) = (server.address_at("127.0.0.1"), server.address_at("::1"));
    for (at, peer) in [(v6, "::1"), (v4, "::1"), (v6, "127.0.0.1")] {
        let mut command = known("relay", at, GENTLE);
        all_came(&json(command.args(["--peer", peer])));
    }
    all_came(&json(&mut known("relay", v6, GENTLE)));
    all_came(&json(&mut known("pair", v6, GENTLE)));
    all_came(&json(&mut known("cycle", v6, &["--clients", "2"])));
    all_ended(&server);
    server.stop();
}

#[test]
fn a_search_tries_rates_and_a_report_stands_alone() {
    let server = Server::start(LOOPBACK_PEERS);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    let arguments = ["--search", "--loss", "100", "--allocations", "1"];
    let mut command = known("relay", server.address(), &arguments);
    let mut running = Running::start(command.arg("--report").arg(&file));
    // Where nothing is too much, only the user ends the search.
    until(LIMIT, || {
        server.metrics().sum("turnstone_relayed_packets_total") > 10_000.0
    });
    running.signal(Signal::INT);
    let status = running.wait(LIMIT).expect("SIGINT ends the run");
    assert!(status.success(), "{}", running.stderr());
    let report: Value = serde_json::from_str(&running.stdout()).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(!report["trials"].as_array().unwrap().is_empty());
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg"));
    for foreign in ["src=", "href=", "@import", "<script"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    all_ended(&server);
    server.stop();
}

#[test]
fn credentials_of_a_shared_secret_are_minted() {
    let server = Server::start(LOOPBACK_PEERS);
    let mut command = bench("relay", server.address(), GENTLE);
    all_came(&json(
        command.args(["--secret", SECRET, "--realm", REALM, "--json"]),
    ));
    server.stop();
}

/// Whether somebody listens at `address` over TCP and UDP: what comes to a closed port is sent back at once.
fn listens(address: SocketAddr) -> bool {
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
    let look = Some(Duration::from_millis(200));
    probe.set_read_timeout(look).unwrap();
    probe.connect(address).unwrap();
    let sent = probe.send(b"there?").and_then(|_| probe.recv(&mut [0; 16]));
    let refused = sent.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    !refused && TcpStream::connect(address).is_ok()
}

#[test]
fn coturn_can_be_loaded_too() {
    if lacks("coturn_can_be_loaded_too", &["turnserver"]) {
        return;
    }
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (server, tls) = (at(free_port()), at(free_port()));
    let (port, tls_port) = (server.port().to_string(), tls.port().to_string());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["turn.example".to_owned()]).unwrap();
    std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let login = format!("{USER}:{PASSWORD}");
    let mut command = Command::new("turnserver");
    command.args(["-n", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", &port]);
    command.args([
        "-r",
        REALM,
        "--lt-cred-mech",
        "-u",
        &login,
        "--allow-loopback-peers",
    ]);
    command.args([
        "--tls-listening-port",
        &tls_port,
        "--no-cli",
        "--no-stdout-log",
    ]);
    command.args(["--log-file", "/dev/null", "--pidfile", "/dev/null"]);
    command.arg("--cert").arg(file("cert.pem"));
    command.arg("--pkey").arg(file("key.pem"));
    let mut running = Running::start(command.stdin(Stdio::null()));
    let answers = until(LIMIT, || {
        !running.alive() || [server, tls].into_iter().all(listens)
    });
    assert!(answers && running.alive(), "coturn is up");
    all_came(&json(&mut known("relay", server, GENTLE)));
    all_came(&json(
        known("relay", server, GENTLE).args(["--gro", "--burst", "4"]),
    ));
    all_came(&json(&mut known("pair", server, GENTLE)));
    all_came(&json(&mut known("cycle", server, &["--clients", "2"])));
    for transport in ["tls", "dtls"] {
        let secured = ["--transport", transport];
        all_came(&json(known("relay", tls, GENTLE).args(secured)));
    }
    let mut wrong = bench("relay", server, &["--user", USER, "--password", "wrong"]);
    let text = complaint(&mut wrong);
    assert!(text.contains("(401)"), "{text}");
}
