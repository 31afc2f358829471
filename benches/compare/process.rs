//! A server under measurement: a process on the first core.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

pub(crate) const USER: &str = "bench";
pub(crate) const PASSWORD: &str = "bench";
const REALM: &str = "bench";
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// At how many ports it is tried.
const MOST_ATTEMPTS: u32 = 5;
/// One source makes all the load.
const TURNSTONE_FILE: &str = "\
[limits]
allocations_per_user = 100000
allocations_per_source = 100000
reflection_bytes_per_second = \"1GiB\"
";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Turnstone,
    Coturn,
}

impl Server {
    pub(crate) const ALL: [Self; 2] = [Self::Turnstone, Self::Coturn];

    pub(crate) fn is_installed(&self) -> bool {
        self.version().is_some()
    }

    /// What it calls itself.
    pub(crate) fn version(&self) -> Option<String> {
        let output = Command::new(self.program())
            .arg("--version")
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut version = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let version = version.next_back().unwrap_or_default();
        Some(match self {
            Self::Turnstone => version.to_owned(),
            Self::Coturn => format!("coturn {version}"),
        })
    }

    fn program(self) -> &'static str {
        match self {
            Self::Turnstone => env!("CARGO_BIN_EXE_turnstone"),
            Self::Coturn => "turnserver",
        }
    }

    fn arguments(self, port: u16, file: &str) -> Vec<String> {
        let login = format!("{USER}:{PASSWORD}");
        let text = match self {
            Self::Turnstone => format!(
                "--config {file} --listen 127.0.0.1:{port} --metrics off --workers 1 --realm {REALM} \
                 --user {login} --allow-peer 127.0.0.0/8 --log-level error"
            ),
            Self::Coturn => format!(
                "-n -L 127.0.0.1 -E 127.0.0.1 -p {port} -r {REALM} --lt-cred-mech -u {login} \
                 --relay-threads 1 --allow-loopback-peers --no-tls --no-dtls --no-cli --no-rfc5780 \
                 --no-stdout-log --log-file /dev/null --pidfile /dev/null"
            ),
        };
        text.split_whitespace().map(str::to_owned).collect()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Turnstone => "turnstone",
            Self::Coturn => "coturn",
        })
    }
}

/// A running server; it ends with this value.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// A fresh process, which answers. Another program may take a port that was free a moment ago; then
    /// it is tried at another.
    pub(crate) fn start(server: Server, directory: &Path) -> io::Result<Self> {
        let mut attempts = 1;
        loop {
            match Self::try_start(server, directory) {
                Err(_) if attempts < MOST_ATTEMPTS => attempts += 1,
                started => return started,
            }
        }
    }

    fn try_start(server: Server, directory: &Path) -> io::Result<Self> {
        let port = free_port()?;
        let file = directory.join("turnserver.toml");
        fs::write(&file, TURNSTONE_FILE)?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0", server.program()]);
        command.args(server.arguments(port, &file.to_string_lossy()));
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut process = Self {
            child,
            address: loopback(port),
        };
        process.await_answer(server)?;
        Ok(process)
    }

    fn await_answer(&mut self, server: Server) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                let why = format!("{server} ended at its start: {status}");
                return Err(io::Error::other(why));
            }
            // It listens for datagrams and for connections, in this order or the other.
            if TcpStream::connect(self.address).is_ok() {
                sleep(Duration::from_millis(50));
                return Ok(());
            }
            sleep(Duration::from_millis(25));
        }
        let port = self.address.port();
        Err(io::Error::other(format!(
            "{server} does not answer on port {port}"
        )))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's own: taskset becomes it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this thread, and those that it starts, on one core, where there are several.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    if available_parallelism().map_or(1, usize::from) <= core {
        return Ok(());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Puts this thread, and what it starts, before everything else on the machine, where it may.
pub(crate) fn take_precedence() {
    let _ = setpriority_process(None, -20);
}

/// A port that nobody has, for datagrams and for connections.
fn free_port() -> io::Result<u16> {
    let datagrams = UdpSocket::bind(loopback(0))?;
    let port = datagrams.local_addr()?.port();
    match TcpListener::bind(loopback(port)) {
        Ok(_) => Ok(port),
        Err(_) => free_port(),
    }
}

/// The loopback address at `port`.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
