//! One thread per core: polls, receives, lets the core decide, sends, publishes. It never waits for
//! anything but its own sockets.
//!
//! A shard owns its members of the listening groups, its clients, their allocations and relay sockets.
//! Nothing on the way of a packet is shared, allocated, locked or logged.

mod accept;
mod acceptors;
mod backlog;
mod bell;
mod bind_way;
mod connection;
mod connections;
mod datagrams;
mod dispatch;
mod dtls;
mod event_loop;
mod failure;
mod fair_turn;
mod flush;
mod former;
mod freeze;
mod frozen;
mod greet;
mod greeting;
mod hand_back;
mod handle;
mod held;
mod hop;
mod inheritance;
mod joined;
mod mailbox;
mod outbox;
mod pass_on;
mod passage;
mod peers;
mod pipe;
mod publisher;
mod record_way;
mod relays;
mod rings;
mod streams;
mod tcp_relays;
mod token;
mod turned;
mod upstreams;
mod watch;
mod ways;
mod wire;
mod word;

use std::sync::Arc;
use std::time::Duration;

pub use freeze::Freezer;
pub use handle::{ShardError, ShardHandle, spawn};
pub use held::HeldSockets;
pub use inheritance::{Bequest, Inheritance};
pub use mailbox::{Mail, Mailbox};
pub use ways::Ways;
pub use word::{Give, Lent};

use crate::config::Upstream;
use crate::net;
use crate::stun::ChannelRange;
use crate::transport::{DtlsIdentity, DtlsLimits, Sources, TlsServer};
use crate::turn::{self, Network, Stats};

/// Limits on stream clients, and what they may send.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Open connections of one shard, default 20 000; beyond it they are closed at once.
    pub connections: usize,
    /// Open connections of one source address (IPv6: one /64) in one shard, default 2 000.
    pub connections_per_source: usize,
    /// TLS handshakes of one shard that may be going on, default 2 000; beyond it the oldest is ended.
    pub handshakes: usize,
    /// Bytes that may wait for one client that does not read, default 256 KiB.
    pub backlog_bytes: usize,
    /// Bytes of a TCP relay that wait in each direction for a slow reader, default 64 KiB.
    pub pipe_bytes: usize,
    /// How long relayed media may wait for such a client before it is dropped, default 300 ms.
    pub media_age: Duration,
    /// A connection that has said nothing that means something, or holds half a message, is closed
    /// after this time; default 10 s.
    pub silent_after: Duration,
    /// A connection without an allocation is closed when nothing arrives for this time; default 60 s.
    pub idle_after: Duration,
    /// The channel numbers by which ChannelData is known.
    pub channels: ChannelRange,
}

impl StreamLimits {
    /// There may be as many DTLS clients as stream clients.
    const fn dtls(&self) -> DtlsLimits {
        DtlsLimits {
            half_open: self.handshakes,
            sessions: self.connections,
            sessions_per_source: self.connections_per_source,
            idle_after: self.idle_after,
        }
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_source: 2_000,
            handshakes: 2_000,
            backlog_bytes: 256 * 1024,
            pipe_bytes: 64 * 1024,
            media_age: Duration::from_millis(300),
            silent_after: Duration::from_secs(10),
            idle_after: Duration::from_secs(60),
            channels: ChannelRange::Rfc8656,
        }
    }
}

/// Called with the counters at most every 100 ms while they change, and once at the end.
pub type Publish = Box<dyn FnMut(&Stats) + Send>;

/// What the DTLS sessions of a shard start with, beside the limits on stream clients, which hold for them
/// too.
pub struct DtlsSetup {
    /// Certificate and key; none until there are any.
    pub identity: Option<Arc<DtlsIdentity>>,
    /// Keys the cookies; from the operating system's generator.
    pub cookie_key: [u8; 32],
    /// How many sessions each source has; the same for all shards of a process.
    pub sources: Arc<Sources>,
}

/// What a shard starts with.
pub struct ShardSetup {
    /// Which shard this is, from zero; names the thread.
    pub index: usize,
    /// Its members of the listening groups.
    pub sockets: net::ListenerSockets,
    /// What its core starts with.
    pub server: turn::Setup,
    /// Limits on stream clients.
    pub streams: StreamLimits,
    /// How many connections each source has; the same for all shards of a process.
    pub sources: Arc<Sources>,
    /// Networks whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol_from: Vec<Network>,
    /// The servers to which connections go on that are not TURN.
    pub upstreams: Arc<[Upstream]>,
    /// What TLS sessions start from; without it the TLS listeners refuse connections.
    pub tls: Option<TlsServer>,
    /// Bytes of each relay socket's receive and send buffer, default 1 MiB.
    pub relay_buffer: usize,
    /// The reserved sockets; the same for all shards of a process.
    pub held: Arc<HeldSockets>,
    /// The ways to the mailboxes of all shards of the process.
    pub mail: Arc<Mail>,
    /// Its own mailbox.
    pub mailbox: Mailbox,
    /// How DTLS clients are served; none when they are not.
    pub dtls: Option<DtlsSetup>,
    /// Takes the counters.
    pub publish: Publish,
    /// The clock that all shards share.
    pub clock: net::Clock,
    /// What it waits for before it serves, when it takes the place of a shard in another process.
    pub inheritance: Option<Inheritance>,
}

impl std::fmt::Debug for ShardSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardSetup")
            .field("index", &self.index)
            .field("sockets", &self.sockets)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}
