//! Counters of one shard: plain integers, each in one slot of an array that is published whole.

pub use super::endings::{
    ConnectionEnd, Eviction, HandshakeFailure, PassOutcome, PeerEnd, PeerOrigin,
};
use super::five_tuple::{Family, Transport};
use super::outcome::Reason;
use super::peer_refusal::PeerRefusal;
pub use super::result_code::ResultCode;

/// Which way relayed data travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to peer.
    ToPeer,
    /// From peer to client.
    ToClient,
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From a client over UDP.
    ClientUdp,
    /// From a client over TCP.
    ClientTcp,
    /// From a client over TLS.
    ClientTls,
    /// From a client over DTLS.
    ClientDtls,
    /// From a peer.
    Peer,
}

/// The request methods that the server counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestMethod {
    /// RFC 8489 §3.
    Binding,
    /// RFC 8656 §7.
    Allocate,
    /// RFC 8656 §8.
    Refresh,
    /// RFC 8656 §10.
    CreatePermission,
    /// RFC 8656 §12.
    ChannelBind,
    /// RFC 6062 §5.2.
    Connect,
    /// RFC 6062 §5.4.
    ConnectionBind,
}

/// Why authentication failed (RFC 8489 §9.2.4). A closed set: each is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// No MESSAGE-INTEGRITY: the ordinary first request of every client.
    NoCredentials,
    /// MESSAGE-INTEGRITY without USERNAME, REALM or NONCE.
    Incomplete,
    /// The nonce is stale, forged or another client's.
    StaleNonce,
    /// No such user.
    UnknownUser,
    /// An access token under a key id that is not configured (RFC 7635).
    UnknownKey,
    /// An access token that is malformed, of another server or forged.
    BadToken,
    /// A time-limited username or an access token whose time has passed.
    Expired,
    /// The integrity check failed.
    WrongPassword,
    /// Valid credentials, but of another user than the allocation's.
    OtherUser,
}

/// How far a packet from one allocation of this server to another goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopWay {
    /// Both are of one shard.
    Shard,
    /// From one shard to another.
    OtherShard,
}

/// How an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationEnd {
    /// Its lifetime passed.
    Expired,
    /// The client asked for it (Refresh with lifetime zero).
    Deleted,
    /// The client's connection closed.
    ClientGone,
    /// It was to move to another shard, which could not take its sockets.
    Lost,
    /// Another process took its place here (upgrade).
    HandedOver,
}

/// One counter or gauge: a family and its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Packets that arrived.
    ReceivedPackets(Source),
    /// Bytes of the packets that arrived.
    ReceivedBytes(Source),
    /// Packets relayed.
    RelayedPackets(Direction),
    /// Bytes of application data relayed.
    RelayedBytes(Direction),
    /// Packets that went from one allocation to another without leaving the process; the receiving shard
    /// counts them.
    RelayHops(HopWay),
    /// Packets that were answered at once.
    Answered,
    /// Packets whose answer follows an event, or comes from the process before this one.
    Parked,
    /// Packets dropped.
    Dropped(Reason),
    /// Requests by method and result.
    Requests(RequestMethod, ResultCode),
    /// Failed authentications.
    AuthFailures(AuthFailure),
    /// Peers that a request named and the gate refused.
    RefusedPeers(PeerRefusal),
    /// Allocations ever made, by client transport and relay family.
    AllocationsCreated(Transport, Family),
    /// Allocations taken over from another process, which had made them; each relay of one counts.
    AllocationsTakenOver,
    /// Allocations alive, a gauge.
    Allocations(Transport, Family),
    /// Allocations ended.
    AllocationsEnded(AllocationEnd),
    /// Moves of allocations to another five-tuple of their client (RFC 8016).
    AllocationsMoved,
    /// Permissions alive, a gauge.
    Permissions,
    /// Channels bound, a gauge.
    Channels,
    /// Relay ports in use, a gauge.
    RelayPorts,
    /// Relay sockets that could not be opened.
    RelayFailures,
    /// Stream connections open, a gauge; by a transport of [`Transport::STREAMS`], as the next three.
    Connections(Transport),
    /// Stream connections ever accepted.
    ConnectionsAccepted(Transport),
    /// Stream connections closed.
    ConnectionsClosed(Transport, ConnectionEnd),
    /// Bytes written to stream connections, before they are encrypted.
    ConnectionBytes(Transport),
    /// TLS handshakes that are going on, a gauge.
    TlsHandshaking,
    /// TLS handshakes completed.
    TlsHandshakes,
    /// TLS handshakes that failed.
    TlsHandshakesFailed(HandshakeFailure),
    /// Messages evicted from a stream client's backlog after they were counted as relayed.
    BacklogEvicted(Eviction),
    /// Connections that were to go on to an upstream.
    Passed(PassOutcome),
    /// ICMP errors told to clients.
    IcmpReports,
    /// Peer data connections that are joined with a client's, a gauge.
    PeerConnections,
    /// Peer data connections ever opened.
    PeerConnectionsOpened(PeerOrigin),
    /// Peer data connections ended.
    PeerConnectionsEnded(PeerEnd),
    /// DTLS sessions established, a gauge.
    DtlsSessions,
    /// DTLS handshakes that are going on, a gauge.
    DtlsHandshaking,
    /// DTLS handshakes completed.
    DtlsHandshakes,
    /// DTLS handshakes that failed.
    DtlsHandshakesFailed(HandshakeFailure),
    /// Established DTLS sessions that ended.
    DtlsSessionsEnded(ConnectionEnd),
    /// Connections that go on to an upstream, or to the process before this one, a gauge.
    Passing,
}

/// A closed set of labels, each with its place in the set.
macro_rules! labels {
    ($($type:ty { $($variant:ident => $label:literal),+ $(,)? })+) => {$(
        impl $type {
            /// Every value, in label order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    )+};
}

labels! {
    Direction { ToPeer => "to_peer", ToClient => "to_client" }
    HopWay { Shard => "shard", OtherShard => "other_shard" }
    Source {
        ClientUdp => "client_udp",
        ClientTcp => "client_tcp",
        ClientTls => "client_tls",
        ClientDtls => "client_dtls",
        Peer => "peer",
    }
    RequestMethod {
        Binding => "binding",
        Allocate => "allocate",
        Refresh => "refresh",
        CreatePermission => "create_permission",
        ChannelBind => "channel_bind",
        Connect => "connect",
        ConnectionBind => "connection_bind",
    }
    AuthFailure {
        NoCredentials => "no_credentials",
        Incomplete => "incomplete",
        StaleNonce => "stale_nonce",
        UnknownUser => "unknown_user",
        UnknownKey => "unknown_key",
        BadToken => "bad_token",
        Expired => "expired",
        WrongPassword => "wrong_password",
        OtherUser => "other_user",
    }
    PassOutcome {
        Connected => "connected",
        Unreachable => "unreachable",
        Timeout => "timeout",
    }
    Eviction { Age => "age", Size => "size", Closed => "closed" }
    AllocationEnd {
        Expired => "expired",
        Deleted => "deleted",
        ClientGone => "client_gone",
        Lost => "lost",
        HandedOver => "handed_over",
    }
    HandshakeFailure {
        NotTls => "not_tls",
        Version => "version",
        Cipher => "cipher",
        Alpn => "alpn",
        Certificate => "certificate",
        Alert => "alert",
        Timeout => "timeout",
        Closed => "closed",
        Refused => "refused",
        Protocol => "protocol",
    }
    ConnectionEnd {
        Closed => "closed",
        Garbled => "garbled",
        ProxyHeader => "proxy_header",
        Silent => "silent",
        Handshake => "handshake",
        Session => "session",
        Replaced => "replaced",
        Backlog => "backlog",
        Upstream => "upstream",
        HandedBack => "handed_back",
        Refused => "refused",
        PeerGone => "peer_gone",
        Shutdown => "shutdown",
    }
    PeerOrigin { Connect => "connect", Accept => "accept" }
    PeerEnd {
        Closed => "closed",
        Reset => "reset",
        Idle => "idle",
        Unbound => "unbound",
        Refused => "refused",
        AllocationGone => "allocation_gone",
        Shutdown => "shutdown",
    }
}

const DIRECTIONS: usize = Direction::ALL.len();
const SOURCES: usize = Source::ALL.len();
const STREAMS: usize = Transport::STREAMS.len();
const RECEIVED_PACKETS: usize = 0;
const RECEIVED_BYTES: usize = RECEIVED_PACKETS + SOURCES;
const RELAYED_PACKETS: usize = RECEIVED_BYTES + SOURCES;
const RELAYED_BYTES: usize = RELAYED_PACKETS + DIRECTIONS;
const RELAY_HOPS: usize = RELAYED_BYTES + DIRECTIONS;
const ANSWERED: usize = RELAY_HOPS + HopWay::ALL.len();
const PARKED: usize = ANSWERED + 1;
const DROPPED: usize = PARKED + 1;
const REQUESTS: usize = DROPPED + Reason::ALL.len();
const AUTH_FAILURES: usize = REQUESTS + RequestMethod::ALL.len() * ResultCode::ALL.len();
const REFUSED_PEERS: usize = AUTH_FAILURES + AuthFailure::ALL.len();
const ALLOCATIONS_CREATED: usize = REFUSED_PEERS + PeerRefusal::ALL.len();
const ALLOCATIONS: usize = ALLOCATIONS_CREATED + Transport::ALL.len() * Family::ALL.len();
const ALLOCATIONS_ENDED: usize = ALLOCATIONS + Transport::ALL.len() * Family::ALL.len();
const ALLOCATIONS_MOVED: usize = ALLOCATIONS_ENDED + AllocationEnd::ALL.len();
const ALLOCATIONS_TAKEN_OVER: usize = ALLOCATIONS_MOVED + 1;
const PERMISSIONS: usize = ALLOCATIONS_TAKEN_OVER + 1;
const CHANNELS: usize = PERMISSIONS + 1;
const RELAY_PORTS: usize = CHANNELS + 1;
const RELAY_FAILURES: usize = RELAY_PORTS + 1;
const CONNECTIONS: usize = RELAY_FAILURES + 1;
const CONNECTIONS_ACCEPTED: usize = CONNECTIONS + STREAMS;
const CONNECTIONS_CLOSED: usize = CONNECTIONS_ACCEPTED + STREAMS;
const CONNECTION_BYTES: usize = CONNECTIONS_CLOSED + STREAMS * ConnectionEnd::ALL.len();
const TLS_HANDSHAKING: usize = CONNECTION_BYTES + STREAMS;
const TLS_HANDSHAKES: usize = TLS_HANDSHAKING + 1;
const TLS_HANDSHAKES_FAILED: usize = TLS_HANDSHAKES + 1;
const BACKLOG_EVICTED: usize = TLS_HANDSHAKES_FAILED + HandshakeFailure::ALL.len();
const PASSED: usize = BACKLOG_EVICTED + Eviction::ALL.len();
const ICMP_REPORTS: usize = PASSED + PassOutcome::ALL.len();
const PEER_CONNECTIONS: usize = ICMP_REPORTS + 1;
const PEER_CONNECTIONS_OPENED: usize = PEER_CONNECTIONS + 1;
const PEER_CONNECTIONS_ENDED: usize = PEER_CONNECTIONS_OPENED + PeerOrigin::ALL.len();
const DTLS_SESSIONS: usize = PEER_CONNECTIONS_ENDED + PeerEnd::ALL.len();
const DTLS_HANDSHAKING: usize = DTLS_SESSIONS + 1;
const DTLS_HANDSHAKES: usize = DTLS_HANDSHAKING + 1;
const DTLS_HANDSHAKES_FAILED: usize = DTLS_HANDSHAKES + 1;
const DTLS_SESSIONS_ENDED: usize = DTLS_HANDSHAKES_FAILED + HandshakeFailure::ALL.len();
const PASSING: usize = DTLS_SESSIONS_ENDED + ConnectionEnd::ALL.len();
/// How many slots a [`Stats`] has.
pub const SLOTS: usize = PASSING + 1;

impl Counter {
    /// The gauges of live allocations. An allocation of both families is in two of them.
    pub fn allocations() -> impl Iterator<Item = Self> {
        let families = |transport| Family::ALL.map(|family| Self::Allocations(transport, family));
        Transport::ALL.into_iter().flat_map(families)
    }

    /// The counters of allocations ever made.
    pub fn allocations_created() -> impl Iterator<Item = Self> {
        let families =
            |transport| Family::ALL.map(|family| Self::AllocationsCreated(transport, family));
        Transport::ALL.into_iter().flat_map(families)
    }

    /// The counter's place in a [`Stats`].
    pub fn slot(self) -> usize {
        match self {
            Self::ReceivedPackets(source) => RECEIVED_PACKETS + source as usize,
            Self::ReceivedBytes(source) => RECEIVED_BYTES + source as usize,
            Self::RelayedPackets(direction) => RELAYED_PACKETS + direction as usize,
            Self::RelayedBytes(direction) => RELAYED_BYTES + direction as usize,
            Self::RelayHops(way) => RELAY_HOPS + way as usize,
            Self::Answered => ANSWERED,
            Self::Parked => PARKED,
            Self::Dropped(reason) => DROPPED + reason as usize,
            Self::Requests(method, code) => {
                REQUESTS + method as usize * ResultCode::ALL.len() + code.place()
            }
            Self::AuthFailures(failure) => AUTH_FAILURES + failure as usize,
            Self::RefusedPeers(why) => REFUSED_PEERS + why as usize,
            Self::AllocationsCreated(transport, family) => {
                ALLOCATIONS_CREATED + transport as usize * Family::ALL.len() + family as usize
            }
            Self::Allocations(transport, family) => {
                ALLOCATIONS + transport as usize * Family::ALL.len() + family as usize
            }
            Self::AllocationsEnded(end) => ALLOCATIONS_ENDED + end as usize,
            Self::AllocationsMoved => ALLOCATIONS_MOVED,
            Self::AllocationsTakenOver => ALLOCATIONS_TAKEN_OVER,
            Self::Permissions => PERMISSIONS,
            Self::Channels => CHANNELS,
            Self::RelayPorts => RELAY_PORTS,
            Self::RelayFailures => RELAY_FAILURES,
            Self::Connections(transport) => CONNECTIONS + stream(transport),
            Self::ConnectionsAccepted(transport) => CONNECTIONS_ACCEPTED + stream(transport),
            Self::ConnectionsClosed(transport, end) => {
                CONNECTIONS_CLOSED + stream(transport) * ConnectionEnd::ALL.len() + end as usize
            }
            Self::ConnectionBytes(transport) => CONNECTION_BYTES + stream(transport),
            Self::TlsHandshaking => TLS_HANDSHAKING,
            Self::TlsHandshakes => TLS_HANDSHAKES,
            Self::TlsHandshakesFailed(failure) => TLS_HANDSHAKES_FAILED + failure as usize,
            Self::BacklogEvicted(eviction) => BACKLOG_EVICTED + eviction as usize,
            Self::Passed(outcome) => PASSED + outcome as usize,
            Self::IcmpReports => ICMP_REPORTS,
            Self::PeerConnections => PEER_CONNECTIONS,
            Self::PeerConnectionsOpened(origin) => PEER_CONNECTIONS_OPENED + origin as usize,
            Self::PeerConnectionsEnded(end) => PEER_CONNECTIONS_ENDED + end as usize,
            Self::DtlsSessions => DTLS_SESSIONS,
            Self::DtlsHandshaking => DTLS_HANDSHAKING,
            Self::DtlsHandshakes => DTLS_HANDSHAKES,
            Self::DtlsHandshakesFailed(failure) => DTLS_HANDSHAKES_FAILED + failure as usize,
            Self::DtlsSessionsEnded(end) => DTLS_SESSIONS_ENDED + end as usize,
            Self::Passing => PASSING,
        }
    }
}

/// The place of a stream transport.
fn stream(transport: Transport) -> usize {
    usize::from(transport == Transport::Tls)
}

/// All counters and gauges of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    slots: [u64; SLOTS],
}

impl Default for Stats {
    fn default() -> Self {
        Self { slots: [0; SLOTS] }
    }
}

impl Stats {
    /// Adds `amount` to `counter`.
    pub fn add(&mut self, counter: Counter, amount: u64) {
        let slot = &mut self.slots[counter.slot()];
        *slot = slot.wrapping_add(amount);
    }

    /// Adds one to `counter`.
    pub fn increment(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Takes `amount` from a gauge.
    pub fn subtract(&mut self, counter: Counter, amount: u64) {
        let slot = &mut self.slots[counter.slot()];
        debug_assert!(*slot >= amount, "{counter:?} below zero");
        *slot = slot.saturating_sub(amount);
    }

    /// Takes back that a packet was relayed: the operating system did not send it.
    pub fn relay_failed(&mut self, direction: Direction, bytes: usize, reason: Reason) {
        self.subtract(Counter::RelayedPackets(direction), 1);
        self.subtract(Counter::RelayedBytes(direction), bytes as u64);
        self.increment(Counter::Dropped(reason));
    }

    /// The value of `counter`.
    pub fn get(&self, counter: Counter) -> u64 {
        self.slots[counter.slot()]
    }

    /// Every slot, in slot order, to publish.
    pub fn slots(&self) -> &[u64; SLOTS] {
        &self.slots
    }
}
