//! One shard's server: a packet, the time and a five-tuple go in, one verdict comes out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::allocation::Allocations;
use super::allocation_key::AllocationKey;
use super::awaited::AwaitedClients;
use super::bandwidth::{BoundMeter, Metering, SharedMeters};
use super::comprehension::has_only_known;
use super::deadlines::Deadlines;
use super::exchange::{Action, Event};
use super::five_tuple::{FiveTuple, Transport};
use super::live_relays::LiveRelays;
use super::mobility::Mobility;
use super::nonce::Nonces;
use super::outcome::{Prefix, Reason, Verdict};
use super::peer_connection::Directory;
use super::peer_connection_id::PeerConnectionId;
use super::policy::Policy;
use super::ports::Ports;
use super::quota::Quota;
use super::random::Random;
use super::rate_limit::RateLimit;
use super::reservation::{Reservations, Strays, Token};
use super::stats::{Counter, Source, Stats};
use crate::stun::{ChannelData, Class, DecodeErrorKind, Kind, Message, Method, classify};
use crate::time::{Instant, Now, Throttle};

/// Refused peers that the log names in a second.
const REFUSAL_LINES: u32 = 20;

/// What the shards of one process share: live relayed addresses, quota, reservations. Touched by requests; the
/// relay path only reads it, and without a lock.
#[derive(Debug, Default)]
pub struct Shared {
    pub(super) live: LiveRelays,
    /// Those that are TCP listeners.
    pub(super) live_tcp: LiveRelays,
    /// The peer data connections of TCP allocations.
    pub(super) peers: Directory,
    pub(super) quota: Quota,
    pub(super) reservations: Reservations,
    pub(super) strays: Strays,
    /// Ports that are taken by what another process handed over to a shard that they do not belong to.
    pub(super) claims: Strays,
    pub(super) mobility: Mobility,
    pub(super) meters: SharedMeters,
}

impl Shared {
    /// Whether no allocation is counted against any quota, nothing is reserved, no peer connected, nobody
    /// measured and no ticket good for anything.
    pub fn is_idle(&self) -> bool {
        self.quota.is_empty()
            && self.reservations.is_empty()
            && self.peers.is_empty()
            && self.meters.is_idle()
            && self.mobility.is_empty()
    }
}

/// What a [`Server`] starts with.
#[derive(Debug)]
pub struct Setup {
    /// Which shard this is, from zero.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Seeds every random choice of this shard; from the operating system's generator.
    pub seed: [u8; 32],
    /// Keys the nonces of all shards alike; from the operating system's generator.
    pub nonce_key: [u8; 32],
    /// What the operator decided.
    pub policy: Arc<Policy>,
    /// What the shards share.
    pub shared: Arc<Shared>,
}

/// The rules of STUN and TURN for the clients of one shard.
pub struct Server {
    pub(super) shard: u16,
    pub(super) shards: u16,
    pub(super) policy: Arc<Policy>,
    pub(super) shared: Arc<Shared>,
    pub(super) allocations: Allocations,
    pub(super) awaited: AwaitedClients,
    /// The allocations that moved to another shard lately, the last one last.
    pub(super) moved_away: VecDeque<AllocationKey>,
    pub(super) deadlines: Deadlines,
    pub(super) ports: Ports,
    /// The reservations that this shard made, by the time at which they end.
    pub(super) reserved: VecDeque<(Instant, Token)>,
    pub(super) nonces: Nonces,
    pub(super) rate_limit: RateLimit,
    pub(super) metering: Metering,
    pub(super) random: Random,
    pub(super) stats: Stats,
    /// Lines of the log about refused peers.
    pub(super) refusal_lines: Throttle,
    pub(super) actions: VecDeque<Action>,
    /// The response last written, and to whom it goes until it is polled.
    pub(super) response: Vec<u8>,
    pub(super) respond_to: Option<FiveTuple>,
    /// What the peer data connections are measured by that are bound at this shard.
    pub(super) bound: BTreeMap<PeerConnectionId, BoundMeter>,
    /// Responses that go after it.
    pub(super) late: VecDeque<(FiveTuple, Vec<u8>)>,
    /// The head of the Data indication last written.
    pub(super) head: Vec<u8>,
    /// A request that is for the process from which this one took over.
    pub(super) formers: Option<Box<[u8]>>,
}

impl fmt::Debug for Server {
    /// What clients are told, tickets and all, is theirs (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("shard", &self.shard)
            .field("allocations", &self.allocations)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server without clients.
    pub fn new(setup: Setup) -> Self {
        let mut random = Random::new(setup.seed);
        let shards = setup.shards.max(1);
        Self {
            shard: setup.shard,
            shards,
            allocations: Allocations::new(random.next_u64()),
            awaited: AwaitedClients::new(random.next_u64()),
            moved_away: VecDeque::new(),
            deadlines: Deadlines::default(),
            ports: Ports::new(setup.policy.relay.ports.clone(), setup.shard, shards),
            reserved: VecDeque::new(),
            nonces: Nonces::new(&setup.nonce_key),
            rate_limit: RateLimit::new(random.next_u64()),
            metering: Metering::default(),
            random,
            stats: Stats::default(),
            refusal_lines: Throttle::new(REFUSAL_LINES, Duration::from_secs(1)),
            actions: VecDeque::new(),
            response: Vec::with_capacity(1024),
            respond_to: None,
            bound: BTreeMap::new(),
            late: VecDeque::new(),
            head: Vec::with_capacity(Prefix::MAX),
            formers: None,
            policy: setup.policy,
            shared: setup.shared,
        }
    }

    /// Handles one message of a client: a datagram, or one frame of a stream.
    pub fn handle_client<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        packet: &'p [u8],
    ) -> Verdict<'p> {
        self.count_received(source(from.transport), packet);
        let verdict = match self.decide(now, from, packet) {
            Err(Reason::NoAllocation) if !self.awaited.is_empty() => {
                self.hear_packet(now, from, packet)
            }
            verdict => verdict,
        };
        self.settle(verdict)
    }

    /// The next packet of `client` that waited for its allocation.
    pub fn take_parked(&mut self, client: &FiveTuple) -> Option<Box<[u8]>> {
        self.parked_packet(client)
    }

    /// Handles a packet that [`take_parked`](Self::take_parked) returned.
    pub fn handle_parked<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        packet: &'p [u8],
    ) -> Verdict<'p> {
        // It has another outcome now.
        self.stats.subtract(Counter::Parked, 1);
        let verdict = self.decide(now, from, packet);
        self.settle(verdict)
    }

    pub(super) fn decide<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        packet: &'p [u8],
    ) -> Result<Verdict<'p>, Reason> {
        match classify(packet) {
            Kind::ChannelData => self.handle_channel_data(now, &from, packet, ChannelData::parse),
            Kind::Stun => self.handle_stun(now, from, packet),
            Kind::Other => self.handle_other(now, &from, packet),
        }
    }

    /// Handles one datagram that `peer` sent to the allocation's relay socket.
    pub fn handle_peer<'p>(
        &mut self,
        now: Now,
        at: AllocationKey,
        peer: SocketAddr,
        payload: &'p [u8],
    ) -> Verdict<'p> {
        self.count_received(Source::Peer, payload);
        let verdict = self.relay_to_client(now, at, self.public_face(peer), payload);
        self.settle(verdict)
    }

    /// Handles what happened outside.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::RelayOpened { key, family } => self.relay_opened(now, key, family),
            Event::RelayFailed { key, family, retry } => {
                self.relay_failed(now, key, family, retry);
            }
            Event::RelayRead { key } => self.announce_here(key),
            Event::ClientGone { client } => self.client_gone(&client),
            Event::Icmp { key, peer, error } => self.icmp(now, key, peer, error),
            Event::PeerConnected { key, connection } => self.peer_connected(now, key, connection),
            Event::PeerFailed { key, connection } => self.peer_failed(now, key, connection),
            Event::PeerClosed { connection, end } => self.peer_closed(connection, end),
            Event::Letter(letter) => {
                // An owner that wakes late must not show.
                self.handle_timeout(now);
                self.letter(now, letter);
            }
            Event::Policy(policy) => self.set_policy(now, policy),
        }
    }

    /// Ends what has expired. Call it when [`poll_timeout`](Self::poll_timeout) has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, key)) = self.deadlines.pop_due(now.instant) {
            if key == AllocationKey::RESERVATIONS {
                self.expire_reservations(now.instant);
            } else {
                self.expire(now, at, key);
            }
        }
    }

    /// The next thing to do, until none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next response and the client it goes to, until none.
    pub fn poll_response(&mut self) -> Option<(FiveTuple, &[u8])> {
        if let Some(to) = self.respond_to.take() {
            return Some((to, &self.response));
        }
        let (to, response) = self.late.pop_front()?;
        self.response = response;
        Some((to, &self.response))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; none while nothing can expire.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Whether `client` has an allocation, live or being opened, or one that awaits it (RFC 8016).
    pub fn has_allocation(&self, client: &FiveTuple) -> bool {
        self.allocations.key(client).is_some() || self.is_awaited(client)
    }

    /// Whether a datagram of `bytes` bytes that comes before any proof of its source may be answered with
    /// no more than that (requirement S7); if so it is charged.
    pub fn may_answer_stranger(&mut self, now: Now, client: IpAddr, bytes: usize) -> bool {
        let rate = self.policy.limits.reflection_bytes_per_second / u32::from(self.shards);
        self.rate_limit.allows(client, bytes, rate, now.instant)
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The counters, for what only the owner of the sockets sees: connections, failed sends.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// ChannelData as in RFC 5766, if the operator wants it, or nothing that we know.
    fn handle_other<'p>(
        &mut self,
        now: Now,
        from: &FiveTuple,
        packet: &'p [u8],
    ) -> Result<Verdict<'p>, Reason> {
        let range = self.policy.channels;
        match packet.first() {
            Some(first) if range.adds(*first) => {
                let parse = |packet| ChannelData::parse_in(packet, range);
                self.handle_channel_data(now, from, packet, parse)
            }
            _ => Err(Reason::Unclassified),
        }
    }

    fn handle_stun<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        packet: &'p [u8],
    ) -> Result<Verdict<'p>, Reason> {
        let message = match Message::parse(packet) {
            Ok(message) => message,
            Err(error) if error.kind == DecodeErrorKind::NoMagicCookie => {
                return self.handle_classic(now, from, packet);
            }
            Err(error) if error.kind == DecodeErrorKind::WrongFingerprint => {
                return Err(Reason::BadFingerprint);
            }
            Err(_) => return Err(Reason::Malformed),
        };
        match message.class() {
            Class::Request => {
                // An owner that wakes late must not show: a request finds nothing that has expired.
                self.handle_timeout(now);
                Ok(self.handle_request(now, from, &message))
            }
            Class::Indication => self.handle_indication(now, &from, &message),
            Class::Success | Class::Error => Err(Reason::UnexpectedResponse),
        }
    }

    fn handle_indication<'p>(
        &mut self,
        now: Now,
        from: &FiveTuple,
        message: &Message<'p>,
    ) -> Result<Verdict<'p>, Reason> {
        match message.method() {
            Method::BINDING => Err(Reason::KeepAlive),
            Method::SEND if has_only_known(message) => self.handle_send(now, from, message),
            _ => Err(Reason::UnexpectedIndication),
        }
    }

    pub(super) fn count_received(&mut self, source: Source, packet: &[u8]) {
        self.stats.increment(Counter::ReceivedPackets(source));
        self.stats
            .add(Counter::ReceivedBytes(source), packet.len() as u64);
    }

    /// Counts the one outcome of a packet; what was relayed is counted by direction already.
    pub(super) fn settle<'p>(&mut self, verdict: Result<Verdict<'p>, Reason>) -> Verdict<'p> {
        let verdict = verdict.unwrap_or_else(Verdict::Discard);
        match verdict {
            Verdict::Respond => self.stats.increment(Counter::Answered),
            Verdict::Park => self.stats.increment(Counter::Parked),
            Verdict::Discard(reason) => self.stats.increment(Counter::Dropped(reason)),
            Verdict::ToPeer { .. }
            | Verdict::ToPeerUnfragmented { .. }
            | Verdict::ToRelay { .. }
            | Verdict::ToClient { .. } => {}
        }
        verdict
    }
}

fn source(transport: Transport) -> Source {
    match transport {
        Transport::Udp => Source::ClientUdp,
        Transport::Tcp => Source::ClientTcp,
        Transport::Tls => Source::ClientTls,
        Transport::Dtls => Source::ClientDtls,
    }
}
