//! The server: shards of the pure core, their relay sockets played by the simulation and failing at
//! times. Each packet is held against the oracle.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use turnstone::stun::AttributeType;
use turnstone::time::{Instant, Now};
use turnstone::turn::{
    Action, AllocationKey, Counter, Direction, Event, Family, FiveTuple, Policy, Reason, Server,
    Setup, Shared, Source, Stats, Transport, Verdict,
};

use crate::common::Response;
use crate::oracle::{By, Oracle, ToClient, ToPeer};
use crate::properties::Property;
use crate::rng::{Rng, mix};

/// How often, in percent, the operating system fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A bind fails and another port may do.
    pub(crate) bind_taken: u64,
    /// A bind fails and no other port will do.
    pub(crate) bind_refused: u64,
    /// A bind takes some milliseconds.
    pub(crate) bind_slow: u64,
    /// A send buffer is full.
    pub(crate) send: u64,
}

/// What leaves the server.
#[derive(Debug)]
pub(crate) enum Output {
    ToClient {
        to: FiveTuple,
        message: Vec<u8>,
    },
    ToPeer(ToPeer),
    /// A bind ends in a while.
    Bind {
        after: Duration,
        shard: usize,
        key: AllocationKey,
    },
}

/// All shards of one server.
pub(crate) struct Shards {
    servers: Vec<Server>,
    shared: Arc<Shared>,
    oracle: Oracle,
    /// The relay sockets that are open, by local address.
    sockets: BTreeMap<SocketAddr, (usize, AllocationKey)>,
    /// Those that are being opened.
    opening: BTreeMap<(usize, AllocationKey), SocketAddr>,
    faults: Faults,
    rng: Rng,
    digest: DefaultHasher,
}

impl Shards {
    pub(crate) fn new(
        count: u16,
        policy: Policy,
        oracle: Oracle,
        faults: Faults,
        mut rng: Rng,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let policy = Arc::new(policy);
        let servers = (0..count).map(|shard| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&rng.next().to_be_bytes());
            Server::new(Setup {
                shard,
                shards: count,
                seed,
                nonce_key: [9; 32],
                policy: Arc::clone(&policy),
                shared: Arc::clone(&shared),
            })
        });
        Self {
            servers: servers.collect(),
            shared,
            oracle,
            sockets: BTreeMap::new(),
            opening: BTreeMap::new(),
            faults,
            rng,
            digest: DefaultHasher::new(),
        }
    }

    /// A message of a client, which lands on a shard by the hash of its address.
    pub(crate) fn hear_client(&mut self, now: Now, from: FiveTuple, message: &[u8]) -> Vec<Output> {
        let shard = self.shard_of(&from);
        let expected = self.oracle.to_peer(now.instant, &from, message);
        let verdict = self.servers[shard].handle_client(now, from, message);
        let relayed = match verdict {
            Verdict::ToPeer {
                from,
                peer,
                payload,
            } => Some(ToPeer {
                relay: self.socket(shard, from),
                peer,
                payload: payload.to_vec(),
            }),
            Verdict::ToClient { .. } => panic!("a client's message went to a client"),
            Verdict::Respond | Verdict::Park | Verdict::Discard(_) => None,
        };
        judge(&relayed, &expected, |to| &to.payload, message);
        let relayed = relayed.filter(|to| !self.send_fails(shard, Direction::ToPeer, &to.payload));
        let relayed = relayed.map(Output::ToPeer);
        self.settle(now, shard, message, relayed)
    }

    /// A datagram of `peer` at the relay socket bound at `relay`, if that is still open.
    pub(crate) fn hear_peer(
        &mut self,
        now: Now,
        relay: SocketAddr,
        peer: SocketAddr,
        payload: &[u8],
    ) -> Vec<Output> {
        let Some((shard, key)) = self.sockets.get(&relay).copied() else {
            return Vec::new();
        };
        let expected = self.oracle.to_client(now.instant, relay, peer, payload);
        let verdict = self.servers[shard].handle_peer(now, key, peer, payload);
        let message = match verdict {
            Verdict::ToClient {
                to,
                prefix,
                payload,
            } => {
                let mut message = [prefix.as_bytes(), payload].concat();
                message.resize(message.len() + prefix.padding(), 0);
                Some((to, message))
            }
            Verdict::Discard(_) => None,
            other => panic!("a peer's datagram ended in {other:?}"),
        };
        let relayed = message.as_ref().map(|(to, message)| read(*to, message));
        judge(&relayed, &expected, |to| &to.payload, payload);
        let message = message.filter(|_| !self.send_fails(shard, Direction::ToClient, payload));
        let message = message.map(|(to, message)| Output::ToClient { to, message });
        self.settle(now, shard, &[], message)
    }

    /// The connection of `client` closed.
    pub(crate) fn client_gone(&mut self, now: Now, client: FiveTuple) -> Vec<Output> {
        let shard = self.shard_of(&client);
        self.servers[shard].handle_event(now, Event::ClientGone { client });
        self.oracle.gone(&client);
        self.settle(now, shard, &[], None)
    }

    /// A bind that took its time ends, unless nobody waits for it any more.
    pub(crate) fn bind_ends(&mut self, now: Now, shard: usize, key: AllocationKey) -> Vec<Output> {
        if let Some(local) = self.opening.remove(&(shard, key)) {
            self.bind(now, shard, key, local);
        }
        self.settle(now, shard, &[], None)
    }

    /// When a shard wants to be woken next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.servers.iter().filter_map(Server::poll_timeout).min()
    }

    /// Wakes the shards whose time has come.
    pub(crate) fn handle_timeouts(&mut self, now: Now) {
        for shard in 0..self.servers.len() {
            let due = self.servers[shard].poll_timeout();
            if due.is_some_and(|due| due <= now.instant) {
                self.servers[shard].handle_timeout(now);
                let outputs = self.settle(now, shard, &[], None);
                assert!(outputs.is_empty(), "a timeout sends nothing");
            }
        }
    }

    pub(crate) fn is_open(&self, relay: SocketAddr) -> bool {
        self.sockets.contains_key(&relay)
    }

    pub(crate) fn shard_of(&self, client: &FiveTuple) -> usize {
        let mut hash = DefaultHasher::new();
        client.client.hash(&mut hash);
        let count = self.servers.len() as u64;
        usize::try_from(mix(hash.finish()) % count).expect("a small number")
    }

    /// Everything that left the server so far, and when, as one number.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(crate) fn stats(&self) -> impl Iterator<Item = &Stats> {
        self.servers.iter().map(Server::stats)
    }

    /// From now on nothing fails and `policy` holds.
    pub(crate) fn relax(&mut self, now: Now, policy: Policy) {
        self.faults = Faults::default();
        let policy = Arc::new(policy);
        for server in &mut self.servers {
            server.handle_event(now, Event::Policy(Arc::clone(&policy)));
        }
    }

    /// Checks that no trace of any client is left.
    pub(crate) fn check_returned(&self) {
        let hold = |condition, what: &str| {
            Property::EverythingReturns.holds(condition, || what.to_owned());
        };
        hold(self.shared.is_idle(), "quota is still taken");
        hold(self.sockets.is_empty(), "relay sockets are still open");
        hold(
            self.opening.is_empty(),
            "relay sockets are still being opened",
        );
        hold(self.poll_timeout().is_none(), "deadlines are left");
        for stats in self.stats() {
            hold(gauges(stats) == (0, 0, 0, 0), "a gauge is not zero");
        }
    }

    /// Does what the server asks for and collects what leaves it.
    fn settle(
        &mut self,
        now: Now,
        shard: usize,
        request: &[u8],
        relayed: Option<Output>,
    ) -> Vec<Output> {
        let mut outputs: Vec<Output> = relayed.into_iter().collect();
        loop {
            if let Some((to, response)) = self.servers[shard].poll_response() {
                let message = response.to_vec();
                self.oracle
                    .answered(now.instant, shard, to, request, &message);
                outputs.push(Output::ToClient { to, message });
            }
            match self.servers[shard].poll_action() {
                Some(action) => outputs.extend(self.act(now, shard, action)),
                None => break,
            }
        }
        self.check(now, shard);
        self.note(now, &outputs);
        outputs
    }

    fn act(&mut self, now: Now, shard: usize, action: Action) -> Option<Output> {
        match action {
            Action::OpenRelay { key, local } if self.rng.chance(self.faults.bind_slow) => {
                self.opening.insert((shard, key), local);
                let after = self.rng.millis(1..900);
                return Some(Output::Bind { after, shard, key });
            }
            Action::OpenRelay { key, local } => self.bind(now, shard, key, local),
            Action::CloseRelay { key, family } => {
                let open = self.sockets.len() + self.opening.len();
                let is_it = |at: &SocketAddr| Family::of(at.ip()) == family;
                self.sockets
                    .retain(|at, open| *open != (shard, key) || !is_it(at));
                self.opening.remove(&(shard, key));
                let closed = open - self.sockets.len() - self.opening.len();
                assert_eq!(closed, 1, "one socket is closed");
            }
        }
        None
    }

    fn bind(&mut self, now: Now, shard: usize, key: AllocationKey, local: SocketAddr) {
        let family = Family::of(local.ip());
        let taken = self.rng.chance(self.faults.bind_taken);
        let refused = self.rng.chance(self.faults.bind_refused);
        let event = if taken || refused {
            let retry = taken;
            Event::RelayFailed { key, family, retry }
        } else {
            let before = self.sockets.insert(local, (shard, key));
            assert_eq!(before, None, "{local} is bound twice");
            Event::RelayOpened { key, family }
        };
        self.servers[shard].handle_event(now, event);
    }

    /// The local address of an allocation's relay socket.
    fn socket(&self, shard: usize, key: AllocationKey) -> SocketAddr {
        let mut sockets = self.sockets.iter();
        let socket = sockets.find(|(_, open)| **open == (shard, key));
        *socket.expect("an open relay socket").0
    }

    /// The operating system refuses to send what the server relays.
    fn send_fails(&mut self, shard: usize, direction: Direction, payload: &[u8]) -> bool {
        let fails = self.rng.chance(self.faults.send);
        if fails {
            let stats = self.servers[shard].stats_mut();
            stats.relay_failed(direction, payload.len(), Reason::SocketFull);
        }
        fails
    }

    fn check(&mut self, now: Now, shard: usize) {
        let stats = self.servers[shard].stats();
        let (received, ended) = (received(stats), ended(stats));
        Property::EveryPacketHasOneOutcome.holds(received == ended, || {
            format!("{received} received, {ended} accounted for")
        });
        let census = self.oracle.census(now.instant, shard);
        let granted = (census.allocations, census.permissions, census.channels);
        let (allocations, permissions, channels, ports) = gauges(stats);
        let right = granted == (allocations, permissions, channels) && ports == allocations;
        Property::GaugesTellTheTruth.holds(right, || {
            format!(
                "{census:?} on shard {shard}, but gauges {:?}",
                gauges(stats)
            )
        });
    }

    fn note(&mut self, now: Now, outputs: &[Output]) {
        for output in outputs {
            now.instant.hash(&mut self.digest);
            match output {
                Output::ToClient { to, message } => (to, message).hash(&mut self.digest),
                Output::ToPeer(to) => (to.relay, to.peer, &to.payload).hash(&mut self.digest),
                Output::Bind { key, .. } => key.hash(&mut self.digest),
            }
        }
    }
}

/// Holds what the server did with application data against what it has to do.
fn judge<T: PartialEq + std::fmt::Debug>(
    did: &Option<T>,
    expected: &Option<T>,
    payload: impl Fn(&T) -> &Vec<u8>,
    message: &[u8],
) {
    let property = match (did, expected) {
        (Some(_), None) if matches!(message, [0x40..=0x4F, ..]) => Property::ChannelsAreBound,
        (Some(_), None) => Property::RelaysOnlyWhatIsPermitted,
        (Some(did), Some(wanted)) if payload(did) != payload(wanted) => {
            Property::PayloadsArriveUnaltered
        }
        (Some(_), Some(_)) => Property::DataReachesItsClientAlone,
        (None, _) => Property::RelaysAllThatIsPermitted,
    };
    property.holds(did == expected, || {
        format!("{did:?} instead of {expected:?}")
    });
}

/// Application data as its client finds it.
fn read(client: FiveTuple, message: &[u8]) -> ToClient {
    if let [n0 @ 0x40..=0x4F, n1, l0, l1, rest @ ..] = message {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let whole = if client.transport.is_stream() {
            length.next_multiple_of(4)
        } else {
            length
        };
        assert_eq!(rest.len(), whole, "ChannelData is framed right");
        return ToClient {
            client,
            by: By::Channel(u16::from_be_bytes([*n0, *n1])),
            payload: rest[..length].to_vec(),
        };
    }
    let data = Response(message.to_vec());
    let peer = data.xor_address(AttributeType::XOR_PEER_ADDRESS);
    ToClient {
        client,
        by: By::Indication(peer.expect("a peer")),
        payload: data.value(AttributeType::DATA).expect("data"),
    }
}

fn received(stats: &Stats) -> u64 {
    let sources = Source::ALL.iter();
    sources
        .map(|source| stats.get(Counter::ReceivedPackets(*source)))
        .sum()
}

fn ended(stats: &Stats) -> u64 {
    let relayed = Direction::ALL.iter().map(|d| Counter::RelayedPackets(*d));
    let dropped = Reason::ALL.iter().map(|reason| Counter::Dropped(*reason));
    let answered = [Counter::Answered, Counter::Parked].into_iter();
    let all = relayed.chain(dropped).chain(answered);
    all.map(|counter| stats.get(counter)).sum()
}

/// Allocations, permissions, channels and relay ports.
fn gauges(stats: &Stats) -> (u64, u64, u64, u64) {
    let transports = Transport::ALL.iter();
    let each = transports.flat_map(|t| Family::ALL.iter().map(|f| Counter::Allocations(*t, *f)));
    (
        each.map(|counter| stats.get(counter)).sum(),
        stats.get(Counter::Permissions),
        stats.get(Counter::Channels),
        stats.get(Counter::RelayPorts),
    )
}
