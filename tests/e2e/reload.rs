//! Changing a server that serves: reload and drain, and what is said about them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::dialogue::{Dialogue, channel_data};
use super::metrics::Metrics;
use super::process::{LIMIT, run, uninterrupted, until};
use super::server::{Server, binary};

/// A server with a configuration file that the test rewrites, and a control socket.
struct Operated {
    server: Server,
    directory: tempfile::TempDir,
}

impl Operated {
    fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("turnserver.toml");
        write(&directory, text);
        let server = Server::start(&["--config", path.to_str().unwrap(), "--workers", "2"]);
        Self { server, directory }
    }

    fn rewrite(&self, text: &str) {
        write(&self.directory, text);
    }

    /// Runs `turnstone` with `arguments` and the path of its file; success, and all that it printed.
    fn turnstone(&self, arguments: &[&str]) -> (bool, String) {
        let file = self.directory.path().join("turnserver.toml");
        let mut command = Command::new(binary());
        command.args(arguments).arg(file);
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        (status.success(), stdout + &stderr)
    }

    fn reload(&self) -> (bool, String) {
        let socket = self.directory.path().join("control.sock");
        let mut command = Command::new(binary());
        command.args(["reload", "--socket"]).arg(socket);
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        (status.success(), stdout + &stderr)
    }
}

fn write(directory: &tempfile::TempDir, text: &str) {
    let socket = directory.path().join("control.sock");
    let text = format!(
        "[control]\nsocket = {:?}\n{text}",
        socket.display().to_string()
    );
    fs::write(directory.path().join("turnserver.toml"), text).unwrap();
}

/// A client with a channel 0x4000 to a peer of the test.
fn call(server: SocketAddr) -> (Dialogue, UdpSocket) {
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let mut client = Dialogue::udp(server);
    client.allocate(None).unwrap();
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
    (client, peer)
}

fn reaches((client, peer): &mut (Dialogue, UdpSocket)) -> bool {
    client.send(&channel_data(0x4000, b"hear")).unwrap();
    uninterrupted(|| peer.recv(&mut [0; 16])).is_ok_and(|length| length == 4)
}

const LOOPBACK: &str = "[peers]\nallow = [\"127.0.0.1\"]\n";

#[test]
fn rules_and_limits_change_under_a_call_and_say_so() {
    let operated = Operated::start(LOOPBACK);
    let mut first = call(operated.server.address());
    assert!(reaches(&mut first));

    operated.rewrite(&format!(
        "{LOOPBACK}[limits]\nallocations = 1\n[server]\nworkers = 7\n"
    ));
    let (good, text) = operated.turnstone(&["check", "--running"]);
    assert!(good, "{text}");
    assert!(
        text.contains("limits.allocations: would change\n"),
        "{text}"
    );
    call(operated.server.address());

    let (good, text) = operated.reload();
    assert!(good, "{text}");
    assert!(text.contains("limits.allocations: changed\n"), "{text}");
    assert!(
        !text.contains("server.workers"),
        "the flag goes over the file: {text}"
    );
    let refused = Dialogue::udp(operated.server.address()).allocate(None);
    assert_eq!(refused.map(drop), Err(508));
    assert!(reaches(&mut first), "a call goes on");

    operated.rewrite("");
    assert!(operated.reload().0);
    first.0.send(&channel_data(0x4000, b"hear")).unwrap();
    let dropped = |metrics: &Metrics| metrics.sum("turnstone_dropped_packets_total");
    let metrics = operated
        .server
        .metrics_when(|metrics| dropped(metrics) > 0.0);
    assert_eq!(dropped(&metrics), 1.0, "the peer is no longer allowed");
    let reloads = |label| metrics.with("turnstone_configuration_reloads_total", label);
    let results = [reloads("applied"), reloads("refused")];
    assert_eq!(results, [2.0, 0.0]);
    operated.server.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_all_that_is_wrong_is_said() {
    let operated = Operated::start(LOOPBACK);
    let mut call = call(operated.server.address());
    operated.rewrite("[limits]\nallocations = \"many\"\n[auth]\nrelm = \"x\"\n");
    let (good, text) = operated.reload();
    assert!(!good);
    assert!(
        text.contains("limits.allocations") && text.contains("relm"),
        "{text}"
    );
    assert!(reaches(&mut call));
    let logged = || operated.server.log().contains("nothing has changed");
    assert!(until(LIMIT, logged), "{}", operated.server.log());
    operated.server.stop();
}

#[test]
fn a_hangup_reloads_and_what_needs_a_restart_is_named() {
    let mut operated = Operated::start("[log]\nlevel = \"info\"\n");
    operated.rewrite("[log]\nlevel = \"debug\"\n[buffers]\nrelay = \"64KiB\"\n");
    operated.server.running().signal(Signal::HUP);
    let said = |text: &str| until(LIMIT, || operated.server.log().contains(text));
    assert!(said("log.level: changed"), "{}", operated.server.log());
    assert!(said("buffers.relay: needs a restart and stays as it was"));
    Dialogue::udp(operated.server.address())
        .allocate(None)
        .unwrap();
    assert!(said("DEBUG"), "{}", operated.server.log());
    operated.server.stop();
}

#[test]
fn a_drain_keeps_calls_and_ends_with_the_last_one() {
    let mut operated = Operated::start(LOOPBACK);
    let address = operated.server.address();
    let mut call = call(address);
    let counted = operated
        .server
        .metrics_when(|metrics| metrics.sum("turnstone_allocations") > 0.0);
    assert!(counted.sum("turnstone_allocations") > 0.0);
    let (good, text) = operated.turnstone(&["drain", "--config"]);
    assert!(good && text.contains("1 allocations are left"), "{text}");
    assert_eq!(operated.server.get("/readyz").unwrap().0, 503);
    assert_eq!(Dialogue::udp(address).allocate(None).map(drop), Err(508));
    assert!(Dialogue::udp(address).binding().is_ok());
    assert!(reaches(&mut call));
    call.0.delete().unwrap();
    let status = operated.server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn a_drain_sends_new_clients_elsewhere() {
    let operated = Operated::start("");
    operated.rewrite("[redirect]\nservers = [\"198.51.100.7:3478\"]\n");
    let address = operated.server.address();
    let mut client = Dialogue::udp(address);
    client.allocate(None).unwrap();
    let lives = |metrics: &Metrics| metrics.sum("turnstone_allocations") > 0.0;
    assert!(lives(&operated.server.metrics_when(lives)));
    assert!(operated.turnstone(&["drain", "--config"]).0);
    let (good, text) = operated.reload();
    assert!(good && text.contains("redirect.servers: changed"), "{text}");
    assert_eq!(Dialogue::udp(address).allocate(None).map(drop), Err(300));
    operated.server.stop();
}

/// What a web server behind the port has begun to send comes to its end.
#[test]
fn a_drain_waits_for_connections_that_were_passed_on() {
    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = web.local_addr().unwrap();
    let upstream = format!("[[upstream]]\nto = \"{to}\"\ntls = \"off\"\nplain = true\n");
    let mut operated = Operated::start(&upstream);
    let mut browser = TcpStream::connect(operated.server.address()).unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let (mut far, _) = web.accept().unwrap();
    far.write_all(b"the first half, ").unwrap();
    let passing = |metrics: &Metrics| metrics.sum("turnstone_connections_passing");
    let busy = operated
        .server
        .metrics_when(|metrics| passing(metrics) > 0.0);
    assert_eq!(passing(&busy), 1.0);
    operated.server.running().signal(Signal::USR1);
    let draining = || operated.server.log().contains("draining");
    assert!(until(LIMIT, draining));
    assert!(
        operated
            .server
            .running()
            .wait(Duration::from_secs(1))
            .is_none()
    );
    far.write_all(b"the second half").unwrap();
    drop(far);
    let mut page = String::new();
    browser.read_to_string(&mut page).unwrap();
    assert_eq!(page, "the first half, the second half");
    drop(browser);
    let status = operated.server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn a_drain_ends_when_its_time_is_up() {
    let mut operated = Operated::start("[drain]\nlimit = \"1s\"\n");
    let mut client = Dialogue::udp(operated.server.address());
    client.allocate(None).unwrap();
    let lives = |metrics: &Metrics| metrics.sum("turnstone_allocations") > 0.0;
    assert!(lives(&operated.server.metrics_when(lives)));
    operated.server.running().signal(Signal::USR1);
    let status = operated.server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert!(
        operated
            .server
            .log()
            .contains("drained: stopping allocations=1")
    );
}

#[test]
fn sigterm_gives_calls_their_time_and_a_second_one_does_not() {
    let mut operated = Operated::start(&format!("{LOOPBACK}[drain]\nstop_limit = \"1h\"\n"));
    let mut call = call(operated.server.address());
    assert!(
        operated
            .server
            .metrics_when(|m| m.sum("turnstone_allocations") > 0.0)
            .sum("turnstone_allocations")
            > 0.0
    );
    operated.server.running().terminate();
    assert!(until(LIMIT, || operated
        .server
        .get("/readyz")
        .is_ok_and(|(code, _)| code == 503)));
    assert!(reaches(&mut call));
    operated.server.running().terminate();
    let status = operated.server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn without_a_server_one_clear_line() {
    let mut command = Command::new(binary());
    command.args(["reload", "--socket", "/nonexistent/control.sock"]);
    let (status, _, stderr) = run(&mut command, LIMIT);
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("no server listens at /nonexistent/control.sock"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
