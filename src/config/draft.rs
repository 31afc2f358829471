//! What was written, each value with the place it was written at; nothing is checked across keys yet.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::report::Spot;
use super::{Level, LogFormat, UpstreamAddress, UpstreamTls};
use crate::stun::PasswordAlgorithm;
use crate::turn::{External, Network, Rule, TokenAlgorithm};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

impl<T> Located<T> {
    pub(super) fn new(value: T, spot: Spot) -> Self {
        Self { value, spot }
    }
}

/// A list, where it was written, and where each of its elements was.
pub(super) type List<T> = Located<Vec<Located<T>>>;

/// One key: its value, or none when it was not written.
pub(super) type Key<T> = Option<Located<T>>;

/// The value of `key`, or `default`.
pub(super) fn or<T: Clone>(key: &Key<T>, default: T) -> T {
    or_else(key, || default)
}

/// The value of `key`, or what `default` makes.
pub(super) fn or_else<T: Clone>(key: &Key<T>, default: impl FnOnce() -> T) -> T {
    key.as_ref()
        .map_or_else(default, |located| located.value.clone())
}

/// The values of all keys and flags. A later layer replaces what an earlier one wrote.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) listen: Option<List<SocketAddr>>,
    pub(super) udp: Key<bool>,
    pub(super) tcp: Key<bool>,
    pub(super) tls_listen: Option<List<SocketAddr>>,
    pub(super) dtls: Key<bool>,
    pub(super) certificates: Vec<DraftCertificate>,
    pub(super) workers: Key<u16>,
    pub(super) software: Key<String>,
    pub(super) realm: Key<String>,
    pub(super) algorithms: Option<List<PasswordAlgorithm>>,
    pub(super) userhash: Key<bool>,
    pub(super) users: Vec<DraftUser>,
    pub(super) oauth_server_name: Key<String>,
    pub(super) oauth_keys: Vec<DraftOauthKey>,
    pub(super) secrets: Vec<Located<String>>,
    pub(super) lifetimes: DraftLifetimes,
    pub(super) limits: DraftLimits,
    pub(super) drain_limit: Key<Duration>,
    pub(super) stop_limit: Key<Duration>,
    pub(super) upgrade_limit: Key<Duration>,
    pub(super) control: Key<String>,
    pub(super) process: DraftProcess,
    /// Every file that was read, or tried.
    pub(super) files: Vec<PathBuf>,
    pub(super) bandwidth: DraftBandwidth,
    pub(super) relay_addresses: Option<List<IpAddr>>,
    pub(super) ports: Key<RangeInclusive<u16>>,
    pub(super) ipv4: Key<bool>,
    pub(super) ipv6: Key<bool>,
    pub(super) relay_tcp: Key<bool>,
    pub(super) external: Option<List<External>>,
    pub(super) rules: Vec<Located<Rule>>,
    pub(super) metrics: Key<Option<SocketAddr>>,
    pub(super) level: Key<Level>,
    pub(super) format: Key<LogFormat>,
    pub(super) connections: Key<u32>,
    pub(super) connections_per_source: Key<u32>,
    pub(super) handshakes: Key<u32>,
    pub(super) backlog_bytes: Key<usize>,
    pub(super) media_age: Key<Duration>,
    pub(super) pipe_bytes: Key<usize>,
    pub(super) silent_after: Key<Duration>,
    pub(super) idle_after: Key<Duration>,
    pub(super) proxy_protocol_from: Option<List<Network>>,
    pub(super) upstreams: Vec<DraftUpstream>,
    pub(super) alternate_address: Key<IpAddr>,
    pub(super) alternate_port: Key<u16>,
    pub(super) mobility: Key<bool>,
    pub(super) rfc3489: Key<bool>,
    pub(super) rfc5766_channels: Key<bool>,
    pub(super) redirect: DraftRedirect,
    pub(super) listener_buffer: Key<usize>,
    pub(super) relay_buffer: Key<usize>,
}

/// The keys of `[lifetimes]`.
#[derive(Default)]
pub(super) struct DraftLifetimes {
    pub(super) allocation: Key<Duration>,
    pub(super) allocation_max: Key<Duration>,
    pub(super) permission: Key<Duration>,
    pub(super) channel: Key<Duration>,
    pub(super) nonce: Key<Duration>,
}

/// The keys of `[limits]`.
#[derive(Default)]
pub(super) struct DraftLimits {
    pub(super) allocations: Key<u32>,
    pub(super) allocations_per_user: Key<u32>,
    pub(super) allocations_per_source: Key<u32>,
    pub(super) permissions_per_allocation: Key<u16>,
    pub(super) channels_per_allocation: Key<u16>,
    pub(super) peer_connections_per_allocation: Key<u16>,
    pub(super) reflection_bytes_per_second: Key<u32>,
}

/// The keys of `[bandwidth]`, in bits per second.
#[derive(Default)]
pub(super) struct DraftBandwidth {
    pub(super) per_allocation: Key<u64>,
    pub(super) per_user: Key<u64>,
    pub(super) total: Key<u64>,
}

/// The keys of `[process]`.
#[derive(Default)]
pub(super) struct DraftProcess {
    pub(super) user: Key<String>,
    pub(super) landlock: Key<bool>,
    pub(super) seccomp: Key<bool>,
}

/// The keys of `[redirect]`.
#[derive(Default)]
pub(super) struct DraftRedirect {
    pub(super) servers: Option<List<SocketAddr>>,
    pub(super) tls_servers: Option<List<SocketAddr>>,
    pub(super) domain: Key<String>,
}

/// One `[[auth.users]]`, or one `--user`.
pub(super) struct DraftUser {
    pub(super) spot: Spot,
    pub(super) name: Key<String>,
    pub(super) password: Key<String>,
    pub(super) key: Key<String>,
    pub(super) key_sha256: Key<String>,
    /// The password was made at start and must be printed.
    pub(super) generated: bool,
}

/// One `[[auth.oauth_keys]]`.
pub(super) struct DraftOauthKey {
    pub(super) spot: Spot,
    pub(super) id: Key<String>,
    pub(super) key: Key<String>,
    pub(super) algorithm: Key<TokenAlgorithm>,
}

/// One `[[tls.certificates]]`.
pub(super) struct DraftCertificate {
    pub(super) spot: Spot,
    pub(super) chain: Key<String>,
    pub(super) key: Key<String>,
    /// Whence relative paths are meant.
    pub(super) directory: PathBuf,
}

/// One `[[upstream]]`.
pub(super) struct DraftUpstream {
    pub(super) spot: Spot,
    pub(super) server_names: Option<List<String>>,
    pub(super) to: Key<UpstreamAddress>,
    pub(super) tls: Key<UpstreamTls>,
    pub(super) plain: Key<bool>,
    pub(super) http2: Key<bool>,
    pub(super) proxy_protocol: Key<bool>,
    pub(super) connect_timeout: Key<Duration>,
    pub(super) idle_after: Key<Duration>,
}
