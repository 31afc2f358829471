//! A server and those that take its place, and calls that go on meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stun::message::{CLASS_REQUEST, METHOD_REFRESH, MessageType};

use super::dialogue::{Dialogue, channel_data};
use super::process::{LIMIT, uninterrupted, until};
use super::server::{PASSWORD, REALM, SECRET, Server, USER, binary, free_port};

/// What every configuration here begins with.
pub(crate) const LOOPBACK: &str = "[peers]\nallow = [\"127.0.0.1\"]\n";

/// The addresses and the file that a server and its successors have in common.
pub(crate) struct Succession {
    directory: tempfile::TempDir,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Succession {
    /// With the configuration `text`.
    pub(crate) fn new(text: &str) -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let succession = Self {
            directory: tempfile::tempdir().unwrap(),
            address: at(free_port()),
            metrics: at(free_port()),
        };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&succession.directory, permissions).unwrap();
        succession.rewrite(text);
        succession
    }

    /// Changes the configuration of those that come.
    pub(crate) fn rewrite(&self, text: &str) {
        let socket = self.socket().display().to_string();
        let text = format!("[control]\nsocket = {socket:?}\n{text}");
        fs::write(self.path("turnserver.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// `turnstone` with `subcommand`, and the flags of a server.
    pub(crate) fn command(&self, subcommand: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(subcommand)
            .args(["--listen", &self.address.to_string()])
            .args(["--user", &format!("{USER}:{PASSWORD}")])
            .args(["--secret", SECRET, "--realm", REALM, "--workers", "2"])
            .args(["--metrics", &self.metrics.to_string(), "--config"])
            .arg(self.path("turnserver.toml"));
        command
    }

    /// Has the program at `path` start a server that takes over and is left to itself; what it says.
    pub(crate) fn detach(&self, path: &Path, subcommand: &[&str]) -> (String, Detached) {
        let mut command = Command::new("timeout");
        command.arg(LIMIT.as_secs().to_string()).arg(path);
        command.args(self.command(subcommand).get_args());
        // The new server writes to the log of the command, which would keep the test waiting.
        command.stderr(fs::File::create(self.path("log")).unwrap());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let detached = Detached::of(&said);
        assert!(output.status.success(), "{said}{}", self.log());
        (said, detached)
    }

    /// What the command and a server that was left to itself have written to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// The first server.
    pub(crate) fn start(&self) -> Server {
        Server::from_command(&mut self.command(&[]), self.address, self.metrics)
    }

    /// A server that has taken over.
    pub(crate) fn succeed(&self) -> Server {
        self.succeed_with(&[])
    }

    /// A server that has taken over, with `arguments` besides the usual ones.
    pub(crate) fn succeed_with(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["upgrade", "--foreground"]);
        command.args(arguments);
        let server = Server::from_command(&mut command, self.address, self.metrics);
        let over = until(LIMIT, || {
            server.log().contains("has taken over from process")
        });
        assert!(over, "{}", server.log());
        server
    }
}

/// A server that a command has started and left to itself; it does not outlive a test that fails.
pub(crate) struct Detached(Option<Pid>);

impl Detached {
    /// By what the command `said`.
    fn of(said: &str) -> Self {
        let after = said.split("(pid ").nth(1);
        let pid = after.and_then(|after| after.split(')').next()?.parse().ok());
        Self(pid.and_then(Pid::from_raw))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(pid) = self.0.filter(|_| thread::panicking()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Waits until the server ends by itself, and checks that it did well; all that it wrote to standard error.
pub(crate) fn ends(mut server: Server) -> String {
    let status = server.running().wait(LIMIT);
    let status = status.expect("the old process ends when nobody is left");
    let log = server.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

/// Packets of a [`Call`] that are on their way at most: few enough for every buffer, so that none is lost
/// when one of those who take part is not run for a while.
const ON_THE_WAY: u32 = 64;
/// How long one look at a socket takes at most.
const LOOK: Duration = Duration::from_millis(100);
/// How often a [`Call`] refreshes its allocation.
const REFRESH: Duration = Duration::from_millis(500);

/// A client with channel 0x4000 to an echoing peer, which sends 200 packets a second as long as they come
/// back.
pub(crate) struct Call {
    progress: Arc<Progress>,
    threads: [JoinHandle<()>; 3],
}

/// How far a [`Call`] has come.
#[derive(Default)]
struct Progress {
    sent: AtomicU32,
    returned: AtomicU32,
    /// Nothing more is to be sent.
    enough: AtomicBool,
    /// Nothing more is to be waited for.
    over: AtomicBool,
}

impl Call {
    pub(crate) fn udp(server: SocketAddr) -> Self {
        let (mut client, peer) = (Dialogue::udp(server), echoing());
        client.allocate(None).unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        let reader = client.datagrams().unwrap().try_clone().unwrap();
        reader.set_read_timeout(Some(LOOK)).unwrap();
        let progress = Arc::new(Progress::default());
        let shared = [(); 3].map(|()| Arc::clone(&progress));
        let [echoes, sends, counts] = shared;
        Self {
            progress,
            threads: [
                thread::spawn(move || echoes.echo(&peer)),
                thread::spawn(move || sends.send(&mut client)),
                thread::spawn(move || counts.count(&reader)),
            ],
        }
    }

    /// Ends it when a hundred packets more have come back, and all that was sent; how many packets were
    /// sent, and how many never came back.
    pub(crate) fn end(self) -> (u32, u32) {
        let Progress {
            sent,
            returned,
            enough,
            over,
        } = &*self.progress;
        let before = returned.load(Ordering::Relaxed);
        until(LIMIT, || returned.load(Ordering::Relaxed) >= before + 100);
        enough.store(true, Ordering::Relaxed);
        let [echoes, sends, counts] = self.threads;
        sends.join().unwrap();
        let sent = sent.load(Ordering::Relaxed);
        until(LIMIT, || returned.load(Ordering::Relaxed) >= sent);
        over.store(true, Ordering::Relaxed);
        echoes.join().unwrap();
        counts.join().unwrap();
        (sent, sent.saturating_sub(returned.load(Ordering::Relaxed)))
    }
}

impl Progress {
    /// Sends as long as what was sent comes back.
    fn send(&self, client: &mut Dialogue) {
        let mut refreshed = Instant::now();
        while !self.enough.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
            if refreshed.elapsed() > REFRESH {
                refreshed = Instant::now();
                let refresh = MessageType::new(METHOD_REFRESH, CLASS_REQUEST);
                let refresh = client.signed(refresh, &[]);
                client.send(&refresh.raw).unwrap();
            }
            let returned = self.returned.load(Ordering::Relaxed);
            if self.sent.load(Ordering::Relaxed) - returned < ON_THE_WAY {
                client.send(&channel_data(0x4000, &[9; 160])).unwrap();
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts what comes back.
    fn count(&self, reader: &UdpSocket) {
        let mut buffer = [0; 2048];
        while !self.over.load(Ordering::Relaxed) {
            if heard(reader.recv(&mut buffer)) == Some(164) {
                self.returned.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Sends back what comes.
    fn echo(&self, peer: &UdpSocket) {
        let mut buffer = [0; 2048];
        while !self.over.load(Ordering::Relaxed) {
            if let Some((length, from)) = heard(peer.recv_from(&mut buffer)) {
                let _ = peer.send_to(&buffer[..length], from);
            }
        }
    }
}

/// What was heard, if anything.
fn heard<T>(received: std::io::Result<T>) -> Option<T> {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    match received {
        Ok(received) => Some(received),
        Err(error) if [Interrupted, TimedOut, WouldBlock].contains(&error.kind()) => None,
        Err(error) => panic!("{error}"),
    }
}

fn echoing() -> UdpSocket {
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(LOOK)).unwrap();
    peer
}

/// A client with channel 0x4000 to a peer of the test.
pub(crate) struct Pair {
    pub(crate) client: Dialogue,
    pub(crate) peer: UdpSocket,
    pub(crate) relayed: SocketAddr,
}

impl Pair {
    pub(crate) fn of(mut client: Dialogue) -> Self {
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        let relayed = client.allocate(None).unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        Self {
            client,
            peer,
            relayed,
        }
    }

    pub(crate) fn udp(server: SocketAddr) -> Self {
        Self::of(Dialogue::udp(server))
    }

    pub(crate) fn dtls(server: SocketAddr) -> Self {
        Self::of(Dialogue::dtls(server))
    }

    pub(crate) fn tcp(server: SocketAddr) -> Self {
        Self::of(Dialogue::tcp(server))
    }

    /// What the client says reaches the peer, and the other way round.
    #[track_caller]
    pub(crate) fn talks(&mut self) {
        self.client.send(&channel_data(0x4000, b"there")).unwrap();
        let mut buffer = [0; 16];
        let heard = uninterrupted(|| self.peer.recv_from(&mut buffer));
        let (length, from) = heard.unwrap();
        assert_eq!((&buffer[..length], from), (&b"there"[..], self.relayed));
        self.peer.send_to(b"back", self.relayed).unwrap();
        assert_eq!(
            self.client.receive().unwrap(),
            channel_data(0x4000, b"back")
        );
    }
}
