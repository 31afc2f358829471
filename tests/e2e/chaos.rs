//! Everything goes wrong at once, and those who behave notice nothing: clients that are killed, readers
//! that do not read, peers and strangers that send noise, a log that cannot be written, no descriptor
//! left, reloads, upgrades and a drain in the midst of it.
//!
//! What becomes of it when the host's clock is set, `clock` shows.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::client::Client;
use super::dialogue::{Dialogue, channel_data};
use super::metrics::Metrics;
use super::process::{Running, lacks, until};
use super::relaying::echo_peer;
use super::server::{PASSWORD, Server, USER, binary, free_port};
use super::succession::{Call, Succession, ends};

const LIMIT: Duration = Duration::from_secs(15);
/// Clients that vanish are forgotten soon, and `turnutils_uclient` may draw its channel numbers.
const RULES: &str = "[compatibility]\nrfc5766_channels = true\n\
    [lifetimes]\nallocation = \"4s\"\nallocation_max = \"9s\"\n\
    [streams]\nsilent_after = \"2s\"\nidle_after = \"2s\"\nbacklog_bytes = \"64KiB\"\n\
    [peers]\nallow = [\"127.0.0.1\"]\n";
const EACH: u16 = 10;
/// Memory that may be added in all this, in bytes: buffers that are kept, and what the allocator keeps.
const MOST_GROWTH: f64 = 24.0 * 1024.0 * 1024.0;

/// A client that behaves.
struct Survivor {
    client: Client,
    peer: SocketAddr,
    echo: JoinHandle<()>,
}

impl Survivor {
    async fn new(server: SocketAddr, over_tcp: bool) -> Self {
        let client = match over_tcp {
            true => Client::tcp(server).await,
            false => Client::udp(server).await,
        };
        let (peer, echo) = echo_peer("127.0.0.1").await;
        Self { client, peer, echo }
    }

    /// Its allocation lives: what it sends comes back. A datagram may be lost in the noise, ten may not.
    async fn lives(&self) {
        for _ in 0..10 {
            self.client.send(b"alive", self.peer).await;
            let wait = Duration::from_millis(500);
            if let Ok(Some(_)) = tokio::time::timeout(wait, self.client.receive()).await {
                return;
            }
        }
        panic!("the allocation at {} is lost", self.client.relayed());
    }

    async fn close(self) {
        self.client.close().await;
        self.echo.abort();
    }
}

/// Starts a crowd of `turnutils_uclient` that is killed in the midst of its calls. It reserves no ports
/// (-c), which would be held for half a minute.
fn crowd(server: SocketAddr, transport: &str) -> Running {
    let port = server.port().to_string();
    let mut command = Command::new("turnutils_uclient");
    command
        .args([
            "-u", USER, "-w", PASSWORD, "-y", "-c", "-m", "6", "-n", "100000",
        ])
        .args(["-z", "5", "-p", &port]);
    if !transport.is_empty() {
        command.arg(transport);
    }
    Running::start(command.arg("127.0.0.1"))
}

/// Starts two `turnutils_uclient` calls of a second, relay to relay; it takes some to begin.
fn caller(server: SocketAddr, transport: &str) -> Running {
    let port = server.port().to_string();
    let mut command = Command::new("turnutils_uclient");
    command
        .args(["-u", USER, "-w", PASSWORD, "-y", "-c", "-s", "-m", "2"])
        .args(["-n", "40", "-z", "25", "-p", &port]);
    if !transport.is_empty() {
        command.arg(transport);
    }
    Running::start(command.arg("127.0.0.1"))
}

/// The calls came to their end, and all that was said was heard.
fn lost_nothing(caller: &mut Running) {
    assert!(caller.wait(LIMIT).is_some(), "a call has no end");
    let output = caller.stdout() + &caller.stderr();
    let whole = output.contains("tot_send_msgs=80, tot_recv_msgs=80");
    assert!(whole, "{output}");
}

/// Allocates, has a peer send noise to the relayed address, and goes without a word.
fn vanish(server: SocketAddr, over_tcp: bool) {
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = match over_tcp {
        true => Dialogue::tcp(server),
        false => Dialogue::udp(server),
    };
    let Ok(relayed) = client.allocate(None) else {
        return;
    };
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
    for noise in noise() {
        let _ = peer.send_to(&noise, relayed);
        let _ = client.send(&channel_data(0x4000, &noise));
    }
}

/// Has so much sent to itself that its connection is full, and reads nothing of it.
fn read_nothing(server: SocketAddr, done: &AtomicBool) {
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = Dialogue::tcp(server);
    let relayed = client.allocate(None).unwrap();
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
    while !done.load(Ordering::Relaxed) {
        for _ in 0..50 {
            let _ = peer.send_to(&[0x55; 1200], relayed);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that are almost something: headers, lengths that lie, halves of messages.
fn noise() -> Vec<Vec<u8>> {
    let magic = [0x21, 0x12, 0xa4, 0x42];
    let liar = [&[0, 1, 0xff, 0xfc][..], &magic, &[9; 12]].concat();
    let bare = [&[0, 3, 0, 0][..], &magic, &[7; 12]].concat();
    let channel = vec![0x40, 0, 0xff, 0xff, 1];
    vec![
        liar,
        bare,
        channel,
        vec![0xff; 700],
        vec![0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

/// Strangers on both transports.
fn shout(server: SocketAddr) {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for noise in noise() {
        let _ = udp.send_to(&noise, server);
        if let Ok(mut stream) = TcpStream::connect(server) {
            let _ = stream.write_all(&noise);
        }
    }
}

/// Two new processes take over in the midst of it: calls of others' clients are whole, and nothing is left
/// in the last one.
#[test]
fn upgrades_amid_noise_lose_no_call_and_leave_nothing() {
    if lacks("upgrades_amid_noise", &["turnutils_uclient"]) {
        return;
    }
    let succession = Succession::new(RULES);
    let address = succession.address();
    let mut server = succession.start();
    let mut old = Vec::new();
    for _ in 0..2 {
        let crowds = [crowd(address, ""), crowd(address, "-t")];
        let mut callers = [caller(address, ""), caller(address, "-t")];
        let enough = |metrics: &Metrics| metrics.sum("turnstone_allocations") > 8.0;
        assert!(enough(&server.metrics_when(enough)));
        // Its allocation is not refreshed and lives for four seconds.
        let call = Call::udp(address);
        (0..4).for_each(|round| vanish(address, round % 2 == 0));
        shout(address);
        old.push(std::mem::replace(&mut server, succession.succeed()));
        shout(address);
        let (sent, lost) = call.end();
        assert!(sent > 100 && lost * 100 <= sent, "{lost} of {sent} lost");
        callers.iter_mut().for_each(lost_nothing);
        drop(crowds);
    }
    old.into_iter().for_each(ends);
    let none = |metrics: &Metrics| metrics.sum("turnstone_allocations") == 0.0;
    let gone = until(LIMIT, || none(&server.metrics()));
    assert!(gone, "{:#?}", server.metrics());
    server.stop();
}

/// A server with a file that is rewritten while it runs.
struct Changing {
    server: Server,
    directory: tempfile::TempDir,
}

impl Changing {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("turnserver.toml");
        fs::write(&file, RULES).unwrap();
        let server = Server::start(&["--config", &file.display().to_string(), "--workers", "2"]);
        Self { server, directory }
    }

    /// What its operator does while all this goes on, each in its turn.
    fn disturb(&mut self, round: u16) {
        match round % 3 {
            2 => self.reload("[limits]\nallocations = \"many\"\n"),
            _ => self.reload(&format!("{RULES}[limits]\nallocations = {}\n", 500 + round)),
        }
    }

    /// Another file, good or bad, and SIGHUP.
    fn reload(&mut self, text: &str) {
        fs::write(self.directory.path().join("turnserver.toml"), text).unwrap();
        self.server.running().signal(Signal::HUP);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_those_who_behave_go_on_and_nothing_is_left() {
    if lacks("whatever_goes_wrong", &["turnutils_uclient"]) {
        return;
    }
    let mut changing = Changing::start();
    let address = changing.server.address();
    let before = changing.server.metrics();
    let descriptors = before.sum("process_open_fds");
    let survivors = [
        Survivor::new(address, false).await,
        Survivor::new(address, true).await,
        Survivor::new(address, false).await,
    ];
    let crowds = [crowd(address, ""), crowd(address, "-t")];
    let mut callers = [caller(address, ""), caller(address, "-t")];
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| read_nothing(address, &done));
        for round in 0..EACH {
            vanish(address, round % 2 == 0);
            shout(address);
            changing.disturb(round);
            thread::sleep(Duration::from_millis(150));
        }
        done.store(true, Ordering::Relaxed);
    });
    let busy = changing.server.metrics();
    assert!(busy.sum("turnstone_allocations") > 5.0, "{busy:#?}");
    drop(crowds);
    for survivor in &survivors {
        survivor.lives().await;
    }
    callers.iter_mut().for_each(lost_nothing);
    let [last, second, third] = survivors;
    second.close().await;
    third.close().await;
    let reloads = busy.sum("turnstone_configuration_reloads_total");
    assert!(reloads >= f64::from(EACH) / 2.0, "{reloads} reloads");

    only_one_is_left(&changing.server);
    let mut open = 0.0;
    let closed = until(LIMIT, || {
        open = changing.server.metrics().sum("process_open_fds");
        open <= descriptors + 1.0
    });
    assert!(closed, "{open} descriptors, {descriptors} at first");
    let grown = changing.server.metrics().resident() - before.resident();
    assert!(grown < MOST_GROWTH, "grown by {grown} bytes");
    last.lives().await;

    let mut callers = [caller(address, ""), caller(address, "-t")];
    let enough = |metrics: &Metrics| metrics.sum("turnstone_allocations") > 4.0;
    assert!(enough(&changing.server.metrics_when(enough)));
    changing.server.running().signal(Signal::USR1);
    let draining = || {
        changing
            .server
            .get("/readyz")
            .is_ok_and(|(code, _)| code == 503)
    };
    assert!(until(LIMIT, draining));
    assert_eq!(Dialogue::udp(address).allocate(None).map(drop), Err(508));
    callers.iter_mut().for_each(lost_nothing);
    last.lives().await;
    last.close().await;
    let status = changing.server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let log = changing.server.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// One UDP allocation and what belongs to it.
fn only_one_is_left(server: &Server) {
    const MOST: [(&str, f64); 5] = [
        ("turnstone_allocations", 1.0),
        ("turnstone_relay_ports", 1.0),
        ("turnstone_permissions", 1.0),
        ("turnstone_channels", 1.0),
        ("turnstone_connections", 0.0),
    ];
    let mut found = Vec::new();
    let gone = until(LIMIT, || {
        let metrics = server.metrics();
        found = MOST.map(|(name, _)| metrics.sum(name)).to_vec();
        found
            .iter()
            .zip(MOST)
            .all(|(found, (_, most))| *found <= most)
    });
    assert!(gone, "{MOST:?}, but {found:?}");
}

/// A server started by a shell that does `redirect` to its log, which is as long as can be.
fn with_log(redirect: &str) -> Server {
    let (address, metrics) = [free_port(), free_port()]
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .into();
    let script = format!(
        "exec {} --listen {address} --metrics {metrics} --user {USER}:{PASSWORD} \
         --realm wonderland.example --allow-peer 127.0.0.1 --log-level trace {redirect}",
        binary()
    );
    let mut command = Command::new("bash");
    Server::from_command(command.args(["-c", &script]), address, metrics)
}

#[tokio::test]
async fn a_log_that_cannot_be_written_costs_lines_and_nothing_else() {
    for redirect in ["2>/dev/full", "2> >(exec true)"] {
        let server = with_log(redirect);
        let survivor = Survivor::new(server.address(), false).await;
        for _ in 0..50 {
            shout(server.address());
        }
        survivor.lives().await;
        survivor.close().await;
        server.stop();
    }
}

#[tokio::test]
async fn without_descriptors_new_clients_are_refused_and_old_ones_go_on() {
    let (address, metrics) = [free_port(), free_port()]
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .into();
    let script = format!(
        "ulimit -n 80; exec {} --listen {address} --metrics {metrics} --user {USER}:{PASSWORD} \
         --realm wonderland.example --allow-peer 127.0.0.1 --workers 1",
        binary()
    );
    let mut command = Command::new("bash");
    let mut server = Server::from_command(command.args(["-c", &script]), address, metrics);
    let survivor = Survivor::new(address, false).await;
    let mut clients: Vec<Dialogue> = (0..100).map(|_| Dialogue::udp(address)).collect();
    let answers: Vec<_> = clients
        .iter_mut()
        .map(|client| client.allocate(None))
        .collect();
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(508)))
        .count();
    assert!(refused > 20, "{answers:?}");
    let connections: Vec<_> = (0..100).map(|_| TcpStream::connect(address)).collect();
    survivor.lives().await;
    drop(connections);
    for (client, answer) in clients.iter_mut().zip(&answers) {
        if answer.is_ok() {
            client.delete().unwrap();
        }
    }
    let again = until(LIMIT, || Dialogue::udp(address).allocate(None).is_ok());
    assert!(again, "what was given back can be had again");
    survivor.lives().await;
    survivor.close().await;
    assert!(server.running().alive());
    server.stop();
}
