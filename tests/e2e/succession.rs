//! A server and those that take its place, and calls that go on meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::dialogue::{Dialogue, channel_data};
use super::process::until;
use super::server::{PASSWORD, REALM, SECRET, Server, USER, binary, free_port};

const LIMIT: Duration = Duration::from_secs(10);
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

/// Waits until the server has nobody left, and checks that it ended well.
pub(crate) fn ends(mut server: Server) {
    let status = server.running().wait(LIMIT);
    let status = status.expect("the old process ends when nobody is left");
    let log = server.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// A client with channel 0x4000 to an echoing peer, which sends 200 packets a second and counts those that
/// come back.
pub(crate) struct Call {
    stop: Arc<AtomicBool>,
    stop_sending: Arc<AtomicBool>,
    echo: JoinHandle<()>,
    sends: JoinHandle<u32>,
    counts: JoinHandle<u32>,
}

impl Call {
    pub(crate) fn udp(server: SocketAddr) -> Self {
        let (mut client, peer) = (Dialogue::udp(server), echoing());
        client.allocate(None).unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        let socket = client.datagrams().unwrap().try_clone().unwrap();
        let reader = socket.try_clone().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stop_sending = Arc::new(AtomicBool::new(false));
        Self {
            echo: echo(peer, Arc::clone(&stop)),
            sends: spawn(Arc::clone(&stop_sending), move || {
                thread::sleep(Duration::from_millis(5));
                socket.send(&channel_data(0x4000, &[9; 160])).is_ok()
            }),
            counts: spawn(Arc::clone(&stop), move || {
                let mut buffer = [0; 2048];
                matches!(reader.recv(&mut buffer), Ok(164))
            }),
            stop,
            stop_sending,
        }
    }

    /// Ends it after a second more; how many packets were sent, and how many never came back.
    pub(crate) fn end(self) -> (u32, u32) {
        thread::sleep(Duration::from_secs(1));
        self.stop_sending.store(true, Ordering::Relaxed);
        let sent = self.sends.join().unwrap();
        // Those on their way arrive.
        thread::sleep(Duration::from_millis(300));
        self.stop.store(true, Ordering::Relaxed);
        let returned = self.counts.join().unwrap();
        self.echo.join().unwrap();
        (sent, sent.saturating_sub(returned))
    }
}

/// How often `done` said yes before `stop`.
fn spawn(
    stop: Arc<AtomicBool>,
    mut done: impl FnMut() -> bool + Send + 'static,
) -> JoinHandle<u32> {
    thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            count += u32::from(done());
        }
        count
    })
}

fn echoing() -> UdpSocket {
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    peer
}

fn echo(peer: UdpSocket, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            match peer.recv_from(&mut buffer) {
                Ok((length, from)) => drop(peer.send_to(&buffer[..length], from)),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
        }
    })
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
        peer.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
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
        let (length, from) = self.peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"there"[..], self.relayed));
        self.peer.send_to(b"back", self.relayed).unwrap();
        assert_eq!(
            self.client.receive().unwrap(),
            channel_data(0x4000, b"back")
        );
    }
}
