//! Debian's coturn tools as clients: `turnutils_uclient`, `turnutils_stunclient`.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use turnstone::net::open_datagrams;

use super::families::dual_stack;
use super::metrics::Metrics;
use super::process::{LIMIT, lacks, run};
use super::server::{PASSWORD, SECRET, Server, USER};
use super::tls::Secured;

pub(crate) const LOOPBACK_PEERS: &[&str] = &["--allow-peer", "127.0.0.1"];

#[test]
fn uclient_sends_indications_over_udp() {
    echoes("uclient_sends_indications_over_udp", "-s", 100);
}

#[test]
fn uclient_sends_indications_over_tcp() {
    echoes("uclient_sends_indications_over_tcp", "-s -t", 100);
}

#[test]
fn uclient_sends_indications_over_tls() {
    over_tls("uclient_sends_indications_over_tls", "-s", 100);
}

#[test]
fn uclient_in_a_crowd_over_tls_loses_nothing() {
    let test = "uclient_in_a_crowd_over_tls_loses_nothing";
    over_tls(test, "-s -m 20 -n 50", 1000);
}

/// Debian's client draws the version of DTLS, so that it often comes with 1.0; it tries again by itself.
#[test]
fn uclient_relays_over_dtls() {
    let test = "uclient_relays_over_dtls";
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let secured = Secured::start(LOOPBACK_PEERS);
    let peer = Peer::at("127.0.0.1");
    let flags = format!("-S -s -m 1 {} {}", peer.flags(), account());
    for server in [secured.tls, secured.server.address()] {
        let runs = std::iter::repeat_with(|| Tally::at(server, &flags)).take(30);
        let mut runs = runs.skip_while(|run| !run.output.contains("method=DTLSv1.2"));
        runs.next().expect("a client with DTLS 1.2").check(20);
    }
    secured.server.stop();
}

#[test]
fn uclient_asks_for_ipv4_by_name() {
    echoes("uclient_asks_for_ipv4_by_name", "-s -X", 100);
}

#[test]
fn uclient_in_a_crowd_loses_nothing() {
    let test = "uclient_in_a_crowd_loses_nothing";
    echoes(test, "-s -m 20 -n 50", 1000);
}

#[test]
fn uclient_in_a_crowd_over_tcp_loses_nothing() {
    let test = "uclient_in_a_crowd_over_tcp_loses_nothing";
    echoes(test, "-s -t -m 20 -n 50", 1000);
}

#[test]
fn uclients_talk_relay_to_relay_by_default() {
    let test = "uclients_talk_relay_to_relay_by_default";
    if !lacks(test, &["turnutils_uclient"]) {
        let server = Server::start(&[]);
        Tally::of(&server, &format!("-s -y -m 6 {}", account())).check(120);
        server.stop();
    }
}

#[test]
fn uclients_talk_relay_to_relay_over_tcp() {
    let test = "uclients_talk_relay_to_relay_over_tcp";
    if !lacks(test, &["turnutils_uclient"]) {
        let server = Server::start(&[]);
        Tally::of(&server, &format!("-s -y -t -m 6 {}", account())).check(120);
        server.stop();
    }
}

#[test]
fn uclient_with_time_limited_credentials() {
    let test = "uclient_with_time_limited_credentials";
    if !lacks(test, &["turnutils_uclient"]) {
        let server = Server::start(LOOPBACK_PEERS);
        let peer = Peer::at("127.0.0.1");
        let flags = format!("{} -s -u gryphon -W {SECRET}", peer.flags());
        Tally::of(&server, &flags).check(100);
        server.stop();
    }
}

#[test]
fn uclient_with_another_secret_is_refused() {
    let test = "uclient_with_another_secret_is_refused";
    if !lacks(test, &["turnutils_uclient"]) {
        let server = Server::start(&[]);
        let refused = Tally::of(&server, "-s -y -u gryphon -W jabberwocky");
        assert_eq!(
            (refused.sent, refused.received),
            (0, 0),
            "{}",
            refused.output
        );
        server.stop();
    }
}

/// RFC 8489 §10: the client asks again at the alternate server, which serves it.
#[test]
fn uclient_follows_a_redirection() {
    let test = "uclient_follows_a_redirection";
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let peer = Peer::at("127.0.0.1");
    let flags = format!("{} {} -s -m 1", peer.flags(), account());
    for flags in [flags.clone(), format!("{flags} -t")] {
        let second = Server::start(LOOPBACK_PEERS);
        let redirect = format!("[redirect]\nservers = [\"{}\"]", second.address());
        let first = Server::configured(&redirect, LOOPBACK_PEERS);
        Tally::of(&first, &flags).check(20);
        let redirected =
            |metrics: &Metrics| metrics.with("turnstone_requests_total", "code=\"300\"") >= 1.0;
        assert!(redirected(&first.metrics_when(redirected)));
        first.stop();
        second.stop();
    }
}

#[test]
fn uclient_over_ipv4_reaches_an_ipv6_peer() {
    crosses(
        "uclient_over_ipv4_reaches_an_ipv6_peer",
        "127.0.0.1",
        "::1",
        "-s -x",
    );
}

#[test]
fn uclient_over_ipv6_reaches_an_ipv6_peer() {
    crosses(
        "uclient_over_ipv6_reaches_an_ipv6_peer",
        "::1",
        "::1",
        "-s -x -t",
    );
}

#[test]
fn uclient_over_ipv6_reaches_an_ipv4_peer() {
    crosses(
        "uclient_over_ipv6_reaches_an_ipv4_peer",
        "::1",
        "127.0.0.1",
        "-s -X",
    );
}

#[test]
fn stunclient_learns_its_address() {
    if lacks("stunclient_learns_its_address", &["turnutils_stunclient"]) {
        return;
    }
    let server = Server::listening(&["127.0.0.1", "::1"], &[]);
    let port = server.address().port().to_string();
    for ip in ["127.0.0.1", "::1"] {
        let mut command = Command::new("turnutils_stunclient");
        command.args(["-p", &port, ip]);
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        assert!(status.success(), "{stdout}{stderr}");
        assert!(stdout.contains("UDP reflexive addr: "), "{stdout}{stderr}");
    }
    server.stop();
}

/// `messages` of clients with `flags` go to an echo peer and come back, on loopback over IPv4.
fn echoes(test: &str, flags: &str, messages: u32) {
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let server = Server::start(LOOPBACK_PEERS);
    let peer = Peer::at("127.0.0.1");
    let flags = format!("{} {} {flags}", peer.flags(), account());
    Tally::of(&server, &flags).check(messages);
    server.stop();
}

/// As [`echoes`], over TLS with a certificate that the clients check.
fn over_tls(test: &str, flags: &str, messages: u32) {
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let secured = Secured::start(LOOPBACK_PEERS);
    let peer = Peer::at("127.0.0.1");
    let issuer = secured.issuer.file(secured.directory.path());
    let trust = format!("-E {}", issuer.display());
    let flags = format!("{} {} -t -S {trust} {flags}", peer.flags(), account());
    Tally::at(secured.tls, &flags).check(messages);
    secured.server.stop();
}

/// With the range of RFC 5766, every number that the client draws will do.
#[test]
fn uclient_binds_any_channel_where_that_is_allowed() {
    let test = "uclient_binds_any_channel_where_that_is_allowed";
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let wide = "[compatibility]\nrfc5766_channels = true";
    let server = Server::configured(wide, LOOPBACK_PEERS);
    let peer = Peer::at("127.0.0.1");
    for flags in ["-m 10", "-m 10 -t"] {
        let flags = format!("{} {} {flags}", peer.flags(), account());
        let run = Tally::of(&server, &flags);
        assert!(!run.output.contains("error 400"), "{}", run.output);
        run.check(200);
    }
    server.stop();
}

/// A client that reaches the server at `here` and a peer at `there`.
fn crosses(test: &str, here: &str, there: &str, flags: &str) {
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let server = dual_stack(&[]);
    let peer = Peer::at(there);
    let flags = format!("{} {} {flags}", peer.flags(), account());
    Tally::at(server.address_at(here), &flags).check(100);
    server.stop();
}

pub(crate) fn account() -> String {
    format!("-u {USER} -w {PASSWORD}")
}

/// What a run of `turnutils_uclient` counted.
pub(crate) struct Tally {
    pub(crate) sent: u32,
    pub(crate) received: u32,
    lost: u32,
    pub(crate) output: String,
}

impl Tally {
    /// Runs it with `flags`: 5 clients, 20 messages each, unless they say otherwise.
    pub(crate) fn of(server: &Server, flags: &str) -> Self {
        Self::at(server.address(), flags)
    }

    pub(crate) fn at(address: SocketAddr, flags: &str) -> Self {
        let port = address.port();
        let common = format!("-c -m 5 -n 20 -l 160 -p {port}");
        let mut command = Command::new("turnutils_uclient");
        let words = common.split(' ').chain(flags.split(' '));
        command.args(words.filter(|word| !word.is_empty()));
        command.arg(address.ip().to_string());
        let (_, stdout, stderr) = run(&mut command, LIMIT);
        let output = format!("{stdout}{stderr}");
        Self {
            sent: last_number(&output, "tot_send_msgs="),
            received: last_number(&output, "tot_recv_msgs="),
            lost: last_number(&output, "Total lost packets "),
            output,
        }
    }

    /// All of `messages` arrived, and came back.
    pub(crate) fn check(&self, messages: u32) {
        let expected = (messages, messages, 0);
        let counted = (self.sent, self.received, self.lost);
        assert_eq!(counted, expected, "{}", self.output);
    }
}

/// The number after the last `label`; zero where there is none.
fn last_number(output: &str, label: &str) -> u32 {
    let after = output.rsplit_once(label).map_or("", |(_, after)| after);
    let digits = after.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A peer that sends everything back. Unlike `turnutils_peer` it loses nothing when it is not run for a
/// while: its buffer has room for all that the clients of a test send.
pub(crate) struct Peer {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

/// Memory for packets that wait at a [`Peer`], in bytes.
const BUFFER: usize = 4 << 20;

impl Peer {
    pub(crate) fn at(ip: &str) -> Self {
        let socket = open_datagrams(SocketAddr::new(ip.parse().unwrap(), 0), BUFFER).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Self { address, over }
    }

    pub(crate) fn flags(&self) -> String {
        format!("-e {} -r {}", self.address.ip(), self.address.port())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
