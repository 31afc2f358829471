//! The server under test: the real binary on ports of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;

use super::http;
use super::metrics::Metrics;
use super::namespace::Namespace;
use super::process::{LIMIT, Running, until};

/// The user that every server here knows.
pub(crate) const USER: &str = "alice";
/// The password of [`USER`].
pub(crate) const PASSWORD: &str = "looking-glass";
/// The secret of the time-limited credentials that every server here accepts.
pub(crate) const SECRET: &str = "through-the-looking-glass";
/// The realm of every server here.
pub(crate) const REALM: &str = "wonderland.example";

/// A server that runs and is ready; killed when dropped.
pub(crate) struct Server {
    running: Running,
    host: Option<Arc<Namespace>>,
    address: SocketAddr,
    metrics: SocketAddr,
    /// Its working directory, empty at the start.
    _directory: tempfile::TempDir,
}

impl Server {
    /// A server on 127.0.0.1, with `arguments` besides the usual ones.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::launch(None, &["127.0.0.1"], arguments)
    }

    /// A server on 127.0.0.1 with the configuration file `text` and `arguments`.
    pub(crate) fn configured(text: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("turnserver.toml");
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        Self::start(&[&["--config", &file], arguments].concat())
    }

    /// A server on each of `addresses`, on the same port.
    pub(crate) fn listening(addresses: &[&str], arguments: &[&str]) -> Self {
        Self::launch(None, addresses, arguments)
    }

    /// A server on `addresses` of `host`.
    pub(crate) fn on(host: &Arc<Namespace>, addresses: &[&str], arguments: &[&str]) -> Self {
        Self::launch(Some(Arc::clone(host)), addresses, arguments)
    }

    fn launch(host: Option<Arc<Namespace>>, addresses: &[&str], arguments: &[&str]) -> Self {
        let (port, metrics_port) = (free_port(), free_port());
        let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, metrics_port));
        let directory = tempfile::tempdir().unwrap();
        let mut command = match &host {
            Some(host) => host.command(&binary()),
            None => Command::new(binary()),
        };
        for ip in addresses {
            command.args(["--listen", &address(ip).to_string()]);
        }
        command
            .args(["--user", &format!("{USER}:{PASSWORD}")])
            .args(["--secret", SECRET, "--realm", REALM])
            .args(["--metrics", &metrics.to_string()])
            .args(arguments)
            .current_dir(&directory);
        Self::ready(Self {
            running: Running::start(&mut command),
            host,
            address: address(addresses[0]),
            metrics,
            _directory: directory,
        })
    }

    /// A server started by `command`, which listens at `address` and has its metrics at `metrics`.
    pub(crate) fn from_command(
        command: &mut Command,
        address: SocketAddr,
        metrics: SocketAddr,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::start(command.current_dir(&directory));
        Self::ready(Self {
            running,
            host: None,
            address,
            metrics,
            _directory: directory,
        })
    }

    /// A server that was `started`, listens at `address` and has its metrics at `metrics`.
    pub(crate) fn started(started: Running, address: SocketAddr, metrics: SocketAddr) -> Self {
        Self::ready(Self {
            running: started,
            host: None,
            address,
            metrics,
            _directory: tempfile::tempdir().unwrap(),
        })
    }

    /// A server on `host` started with nothing at all, which clients reach at `address`.
    pub(crate) fn with_defaults(host: &Arc<Namespace>, address: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = host.command(&binary());
        Self::ready(Self {
            running: Running::start(command.current_dir(&directory)),
            host: Some(Arc::clone(host)),
            address,
            metrics: (Ipv4Addr::LOCALHOST, 9641).into(),
            _directory: directory,
        })
    }

    fn ready(mut self) -> Self {
        let mut ready = false;
        until(LIMIT, || {
            ready = self.get("/readyz").is_ok_and(|(status, _)| status == 200);
            ready || !self.running.alive()
        });
        assert!(self.running.alive(), "the server ended at once");
        assert!(ready, "the server is ready");
        self
    }

    /// Where it listens, first of its addresses.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens at `ip`.
    pub(crate) fn address_at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse::<IpAddr>().unwrap(), self.address.port())
    }

    /// Status and body of `path` on the metrics address.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        match &self.host {
            Some(host) => host.inside(|| http::get(self.metrics, path)),
            None => http::get(self.metrics, path),
        }
    }

    /// A scrape.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").unwrap().1)
    }

    /// Waits until the metrics satisfy `condition` for as long as [`LIMIT`] at most, and returns the last ones.
    pub(crate) fn metrics_when(&self, mut condition: impl FnMut(&Metrics) -> bool) -> Metrics {
        let mut metrics = Metrics::default();
        until(LIMIT, || {
            metrics = self.metrics();
            condition(&metrics)
        });
        metrics
    }

    /// The process.
    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// What it wrote to standard output.
    pub(crate) fn output(&self) -> String {
        // Readiness and output come by different ways; neither waits for the other.
        until(LIMIT, || self.running.stdout().contains("\n}"));
        self.running.stdout()
    }

    /// What it wrote to standard error so far. It comes by a way of its own: what was done is not there
    /// at once, and the last line may be half of one.
    pub(crate) fn log(&self) -> String {
        self.running.stderr()
    }

    /// Checks that every packet was counted once and that SIGINT ends the server with success; all that
    /// it wrote to standard error.
    pub(crate) fn stop(mut self) -> String {
        let balanced = |metrics: &Metrics| metrics.received() == metrics.outcomes();
        let metrics = self.metrics_when(balanced);
        assert!(
            balanced(&metrics),
            "received = relayed + answered + parked + dropped: {metrics:#?}"
        );
        self.running.signal(Signal::INT);
        let status = self.running.wait(LIMIT);
        let status = status.expect("SIGINT ends the server");
        assert_eq!(status.code(), Some(0), "SIGINT ends the server cleanly");
        let log = self.log();
        assert!(!log.contains("panicked"), "a thread panicked: {log}");
        log
    }
}

/// The binary: the one that cargo built, or `TURNSTONE_BINARY`, to try a release or an installed one.
pub(crate) fn binary() -> String {
    std::env::var("TURNSTONE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_turnstone").to_owned())
}

/// A port that is free for UDP and TCP, outside the range from which the system draws, and given to
/// nobody else in this process; nor is the next one, which `turnutils_peer` takes along.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let own = u16::try_from(std::process::id() % 1000).unwrap() * 20;
    let free = |port: &u16| {
        [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv4Addr::UNSPECIFIED.into(),
        ]
        .into_iter()
        .all(|ip| UdpSocket::bind((ip, *port)).is_ok() && TcpListener::bind((ip, *port)).is_ok())
    };
    std::iter::repeat_with(|| NEXT.fetch_add(2, Ordering::Relaxed))
        .map(|step| FIRST + (own + step % COUNT) % COUNT)
        .find(free)
        .unwrap()
}
