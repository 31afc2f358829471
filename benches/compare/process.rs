//! A server under measurement: a process on the first core.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::client::{PASSWORD, REALM, USER, is_serving};
use crate::loopback;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Turnstone,
    Coturn,
}

impl Server {
    pub(crate) const ALL: [Self; 2] = [Self::Turnstone, Self::Coturn];

    pub(crate) fn is_installed(&self) -> bool {
        let mut command = Command::new(self.program());
        command.arg("--version").stdout(Stdio::null());
        command.stderr(Stdio::null()).status().is_ok()
    }

    fn program(self) -> &'static str {
        match self {
            Self::Turnstone => env!("CARGO_BIN_EXE_turnstone"),
            Self::Coturn => "turnserver",
        }
    }

    fn arguments(self, port: u16) -> Vec<String> {
        let login = format!("{USER}:{PASSWORD}");
        let text = match self {
            Self::Turnstone => format!(
                "--listen 127.0.0.1:{port} --metrics off --workers 1 --realm {REALM} \
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
    pub(crate) fn start(server: Server) -> io::Result<Self> {
        let port = UdpSocket::bind(loopback(0))?.local_addr()?.port();
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0", server.program()])
            .args(server.arguments(port));
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Self {
            child,
            address: loopback(port),
        };
        for _ in 0..100 {
            if is_serving(process.address) {
                return Ok(process);
            }
            sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!(
            "{server} does not answer on port {port}"
        )))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu_nanos(&self) -> io::Result<u64> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += first_number(&text);
        }
        Ok(nanos)
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(first_number(line.unwrap_or_default()) * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn first_number(text: &str) -> u64 {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().unwrap_or(0)
}

/// Keeps this thread on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}
