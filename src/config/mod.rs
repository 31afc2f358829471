//! What the operator wants: `turnserver.toml` and command-line flags, checked and resolved.
//!
//! A [`Config`] exists only if nothing is wrong with it. Everything that is wrong is found in one go
//! and comes back as a [`Report`]: file, line, key, what is wrong and the remedy.

mod address;
mod auth;
mod change;
mod distinct;
mod draft;
mod dtls;
mod file;
mod limits;
mod nat_discovery;
mod oauth;
mod overrides;
mod places;
mod policy;
mod process;
mod reader;
mod redirect;
mod report;
mod resolve;
mod schema;
mod security;
mod tls;
mod units;
mod upstream;
mod user;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use change::Changes;
pub use file::PERMISSION_DENIED;
pub use overrides::{Overrides, UserFlag};
pub use policy::HostFacts;
pub use process::Process;
pub use report::{Place, Problem, Report, Severity};
pub use schema::keys;
pub use tls::{CertificateFiles, CertificateProblem, Tls, TlsCertificate};
pub use tracing::Level;
pub use units::parse_duration;
pub use upstream::{Upstream, UpstreamAddress, UpstreamTls};
pub use user::{Login, PlainUser, User};

use crate::stun::ChannelRange;
use crate::turn::{
    Alternates, Bandwidth, External, Lifetimes, Limits, NatDiscovery, Network, OAuth, Rule,
    Security, SharedSecret,
};
use draft::Draft;

/// The realm when none is configured.
pub const DEFAULT_REALM: &str = "turnstone";

/// Everything that the operator decided, defaults filled in.
pub struct Config {
    /// Where clients are served, without duplicates; never empty.
    pub listen: Vec<SocketAddr>,
    /// Whether clients are served over UDP. `udp` or `tcp` is true, or `tls` is on.
    pub udp: bool,
    /// Whether clients are served over TCP.
    pub tcp: bool,
    /// Where clients are served over TLS, and with which certificates.
    pub tls: Tls,
    /// Shards, one thread each, 1 to 1024; as many as there are cores when not configured.
    pub workers: NonZeroU16,
    /// The realm of every user, 1 to 127 characters.
    pub realm: String,
    /// Static users, names without duplicates.
    pub users: Vec<User>,
    /// Password algorithms and names of users that are offered.
    pub security: Security,
    /// Shared secrets of time-limited credentials, in the order in which they are tried.
    pub secrets: Vec<SharedSecret>,
    /// What access tokens are believed by (RFC 7635); none when they are not.
    pub oauth: Option<OAuth>,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// How much of everything there may be.
    pub limits: Limits,
    /// How many bits a second are relayed at most.
    pub bandwidth: Bandwidth,
    /// Where relayed transport addresses come from.
    pub relay: Relay,
    /// Public addresses of a 1:1 NAT in front of this host.
    pub external: Vec<External>,
    /// The operator's rules for peers.
    pub rules: Vec<Rule>,
    /// How long allocations live on while the server drains.
    pub drain: Drain,
    /// The Unix socket on which the server is told what to do; none for none.
    pub control: Option<PathBuf>,
    /// What the process gives up once everything is open.
    pub process: Process,
    /// The file that this was read from, and every other that it names; a reload reads them again.
    pub files: Vec<PathBuf>,
    /// Where metrics and health are served over HTTP; none when switched off.
    pub metrics: Option<SocketAddr>,
    /// What is logged.
    pub log: Log,
    /// Bounds on TCP connections.
    pub streams: Streams,
    /// Networks whose connections must begin with a header of the PROXY protocol.
    pub proxy_protocol_from: Vec<Network>,
    /// The servers to which connections go on that are not TURN.
    pub upstreams: Vec<Upstream>,
    /// Socket buffers.
    pub buffers: Buffers,
    /// The SOFTWARE attribute; none to keep it to ourselves.
    pub software: Option<String>,
    /// The four addresses of NAT behaviour discovery (RFC 5780), if it is on.
    pub nat_discovery: Option<NatDiscovery>,
    /// Whether allocations may move with their clients (RFC 8016).
    pub mobility: bool,
    /// Whether clients of RFC 3489 get a Binding response.
    pub rfc3489: bool,
    /// The channel numbers that clients may bind.
    pub channels: ChannelRange,
    /// The servers that clients are redirected to; none to serve all of them here.
    pub alternates: Option<Alternates>,
    /// A user whose password was made at start and lives only in this process: print it once.
    pub zero_config_user: Option<PlainUser>,
    /// What is odd but allowed, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Where relayed transport addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Local addresses to bind; empty for the address that the client reached.
    pub addresses: Vec<IpAddr>,
    /// Ports to draw from, within 1024 to 65535; at least two for each worker.
    pub ports: RangeInclusive<u16>,
    /// Whether IPv4 relayed addresses are offered. `ipv4` or `ipv6` is true.
    pub ipv4: bool,
    /// Whether IPv6 relayed addresses are offered.
    pub ipv6: bool,
    /// Whether clients over TCP and TLS get TCP allocations (RFC 6062). Off unless asked for: browsers
    /// never use them, and everybody who holds a credential could make the host a TCP proxy to the
    /// whole Internet.
    pub tcp: bool,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
    /// What a line looks like.
    pub format: LogFormat,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How long allocations live on while no new ones are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When the server is told to drain.
    pub limit: Duration,
    /// When it is told to stop.
    pub stop_limit: Duration,
    /// When another process has taken over all but its TCP, TLS and DTLS clients.
    pub upgrade_limit: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(3600),
            stop_limit: Duration::from_secs(5),
            upgrade_limit: Duration::from_secs(3600),
        }
    }
}

/// Bounds on TCP connections (requirements S8, S15, S18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Connections of the whole server at a time.
    pub connections: u32,
    /// Connections of one source address (IPv6: one /64) at a time.
    pub connections_per_source: u32,
    /// TLS handshakes of the whole server that are going on at a time.
    pub handshakes: u32,
    /// Bytes that wait for one slow client before the oldest media is dropped.
    pub backlog_bytes: usize,
    /// How long relayed media waits for such a client before it is dropped.
    pub media_age: Duration,
    /// Bytes of a TCP relay that wait in each direction for a slow reader before its sender must wait.
    pub pipe_bytes: usize,
    /// A new connection without a valid message, or one with half a message, is closed after this.
    pub silent_after: Duration,
    /// A connection without an allocation that sends nothing for so long is closed.
    pub idle_after: Duration,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_source: 2_000,
            handshakes: 2_000,
            backlog_bytes: 256 << 10,
            media_age: Duration::from_millis(300),
            pipe_bytes: 64 << 10,
            silent_after: Duration::from_secs(10),
            idle_after: Duration::from_secs(60),
        }
    }
}

/// Kernel buffers of UDP sockets in bytes, for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Of each socket that clients send to.
    pub listener: usize,
    /// Of each relay socket.
    pub relay: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            listener: 4 << 20,
            relay: 1 << 20,
        }
    }
}

/// Where a configuration comes from, to read it again.
#[derive(Clone, Default)]
pub struct Origin {
    /// The file; none when there is none.
    pub path: Option<PathBuf>,
    /// The flags that are laid over it.
    pub overrides: Overrides,
}

impl Origin {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A report of everything that is wrong.
    pub fn load(&self) -> Result<Config, Report> {
        Config::load(self.path.as_deref(), &self.overrides)
    }
}

impl Config {
    /// Reads the file `path` and lays the command-line flags `overrides` over it. Without a path no
    /// file is read: the defaults hold.
    ///
    /// # Errors
    /// A report of everything that is wrong; then nothing may be started.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Report> {
        let mut report = Report::default();
        let mut draft = Draft::default();
        if let Some(path) = path {
            schema::read(path, &mut draft, &mut report);
        }
        overrides.lay_over(&mut draft, &mut report);
        let config = resolve::resolve(draft, &mut report);
        report.sort();
        if report.has_errors() {
            return Err(report);
        }
        Ok(Self {
            warnings: report.into_problems(),
            ..config
        })
    }

    /// Every address to listen on: those of `listen`, and those that NAT behaviour discovery adds.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        let mut endpoints = self.listen.clone();
        for address in self.nat_discovery.iter().flat_map(NatDiscovery::addresses) {
            if !endpoints.contains(&address) {
                endpoints.push(address);
            }
        }
        endpoints
    }

    /// Whether nobody can allocate: no user, no secret and no key of access tokens is configured.
    pub fn needs_user(&self) -> bool {
        self.users.is_empty() && self.secrets.is_empty() && self.oauth.is_none()
    }

    /// Adds the user that makes a server without configured credentials useful.
    pub fn add_zero_config_user(&mut self, user: PlainUser) {
        self.users.push(User {
            name: user.name.clone(),
            login: Login::Password(user.password.clone()),
        });
        self.zero_config_user = Some(user);
    }

    /// Goes on with the user that an earlier process made up, in place of one that was made up here.
    pub fn keep_zero_config_user(&mut self, user: PlainUser) {
        let made_up = self.zero_config_user.as_ref();
        let is_same = made_up.is_some_and(|own| own.name == user.name);
        if is_same {
            self.users.retain(|own| own.name != user.name);
        }
        if is_same || self.needs_user() {
            self.add_zero_config_user(user);
        }
    }
}

impl fmt::Debug for Config {
    /// Everything but the credentials (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("udp", &self.udp)
            .field("tcp", &self.tcp)
            .field("tls", &self.tls)
            .field("workers", &self.workers)
            .field("realm", &self.realm)
            .field("users", &self.users.len())
            .field("security", &self.security)
            .field("secrets", &self.secrets.len())
            .field("oauth", &self.oauth)
            .field("lifetimes", &self.lifetimes)
            .field("limits", &self.limits)
            .field("bandwidth", &self.bandwidth)
            .field("relay", &self.relay)
            .field("external", &self.external)
            .field("rules", &self.rules)
            .field("drain", &self.drain)
            .field("control", &self.control)
            .field("process", &self.process)
            .field("metrics", &self.metrics)
            .field("log", &self.log)
            .field("streams", &self.streams)
            .field("proxy_protocol_from", &self.proxy_protocol_from)
            .field("upstreams", &self.upstreams)
            .field("buffers", &self.buffers)
            .field("software", &self.software)
            .field("nat_discovery", &self.nat_discovery)
            .field("mobility", &self.mobility)
            .field("rfc3489", &self.rfc3489)
            .field("channels", &self.channels)
            .field("alternates", &self.alternates)
            .finish_non_exhaustive()
    }
}
