//! The server: shards of the pure core, their relay sockets played by the simulation and failing at
//! times. Each packet is held against the oracle.

mod audit;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use turnstone::time::{Instant, Now};
use turnstone::turn::{
    Action, AllocationKey, Direction, Event, Family, FiveTuple, Hop, Policy, Reason, Server, Setup,
    Shared, Stats, Verdict,
};

use crate::oracle::{Census, Oracle, ToClient, ToPeer};
use crate::properties::Property;
use crate::rng::Rng;

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
    /// A shard wakes up to 1.5 seconds after it wanted to.
    pub(crate) late: u64,
}

/// What leaves the server.
#[derive(Debug)]
pub(crate) enum Output {
    ToClient {
        to: FiveTuple,
        message: Vec<u8>,
    },
    ToPeer(ToPeer),
    /// It does not leave the process.
    ToRelay {
        hop: Hop,
        payload: Vec<u8>,
    },
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
    /// Those that were closed; the poller may have seen datagrams before.
    closed: BTreeMap<SocketAddr, (usize, AllocationKey)>,
    /// How late each shard wakes next.
    lags: Vec<Duration>,
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
            closed: BTreeMap::new(),
            lags: vec![Duration::ZERO; count.into()],
            faults,
            rng,
            digest: DefaultHasher::new(),
        }
    }

    /// A message of a client, which lands on a shard by the hash of its address.
    pub(crate) fn hear_client(&mut self, now: Now, from: FiveTuple, message: &[u8]) -> Vec<Output> {
        let shard = self.shard_of(&from);
        let is_open = |relay| self.sockets.contains_key(&relay);
        let expected = self.oracle.to_peer(now.instant, &from, message, is_open);
        let verdict = self.servers[shard].handle_client(now, from, message);
        let mut short_way = None;
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
            Verdict::ToRelay { hop, payload } => {
                short_way = Some(hop).filter(|_| self.rng.chance(50));
                Some(ToPeer {
                    relay: self.socket(shard, hop.from.key),
                    peer: hop.peer,
                    payload: payload.to_vec(),
                })
            }
            Verdict::ToPeerUnfragmented { .. } => panic!("nobody asked for the DF bit"),
            Verdict::ToClient { .. } => panic!("a client's message went to a client"),
            Verdict::Respond | Verdict::Park | Verdict::Discard(_) => None,
        };
        audit::judge(&relayed, &expected, |to| &to.payload, message);
        let relayed = relayed.filter(|to| !self.send_fails(shard, Direction::ToPeer, &to.payload));
        let relayed = relayed.map(|to| match short_way {
            Some(hop) => Output::ToRelay {
                hop,
                payload: to.payload,
            },
            None => Output::ToPeer(to),
        });
        self.settle(now, shard, message, relayed)
    }

    /// A datagram of `peer` at the relay socket bound at `relay`, if that is open or was until lately.
    pub(crate) fn hear_peer(
        &mut self,
        now: Now,
        relay: SocketAddr,
        peer: SocketAddr,
        payload: &[u8],
    ) -> Vec<Output> {
        let socket = self.sockets.get(&relay);
        let socket = socket.copied().or_else(|| self.closed.remove(&relay));
        let Some((shard, key)) = socket else {
            return Vec::new();
        };
        let is_open = |relay| self.sockets.contains_key(&relay);
        let expected = self
            .oracle
            .to_client(now.instant, relay, peer, payload, is_open);
        let verdict = self.servers[shard].handle_peer(now, key, peer, payload);
        self.deliver(now, shard, verdict, &expected)
    }

    /// A packet that took the short way.
    pub(crate) fn hear_hop(&mut self, now: Now, hop: &Hop, payload: &[u8]) -> Vec<Output> {
        let shard = usize::from(hop.to.shard);
        let is_open = |relay| self.sockets.contains_key(&relay);
        let is_its_own = self.sockets.get(&hop.peer) == Some(&(shard, hop.to.key));
        let expected = self
            .oracle
            .to_client(now.instant, hop.peer, hop.source, payload, is_open)
            .filter(|_| is_its_own);
        let verdict = self.servers[shard].handle_relayed(now, hop, payload);
        let verdict = verdict.expect("no allocation moves");
        self.deliver(now, shard, verdict, &expected)
    }

    /// What became of application data at the allocation that it was for.
    fn deliver(
        &mut self,
        now: Now,
        shard: usize,
        verdict: Verdict<'_>,
        expected: &Option<ToClient>,
    ) -> Vec<Output> {
        let message = match verdict {
            Verdict::ToClient {
                to,
                prefix,
                payload,
            } => {
                let mut message = [prefix.as_bytes(), payload].concat();
                message.resize(message.len() + prefix.padding(), 0);
                Some((to, message, payload))
            }
            Verdict::Discard(_) => None,
            other => panic!("a peer's datagram ended in {other:?}"),
        };
        let relayed = message
            .as_ref()
            .map(|(to, message, _)| audit::read(*to, message));
        audit::judge(&relayed, expected, |to| &to.payload, &[]);
        let message = message
            .filter(|(_, _, payload)| !self.send_fails(shard, Direction::ToClient, payload))
            .map(|(to, message, _)| Output::ToClient { to, message });
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

    /// When a shard wakes next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let shards = 0..self.servers.len();
        shards.filter_map(|shard| self.wakes_at(shard)).min()
    }

    /// Wakes the shards whose time has come.
    pub(crate) fn handle_timeouts(&mut self, now: Now) {
        for shard in 0..self.servers.len() {
            if self.wakes_at(shard).is_some_and(|at| at <= now.instant) {
                self.servers[shard].handle_timeout(now);
                let outputs = self.settle(now, shard, &[], None);
                assert!(outputs.is_empty(), "a timeout sends nothing");
                let is_late = self.rng.chance(self.faults.late);
                let lag = self.rng.millis(0..u64::from(is_late) * 1500 + 1);
                self.lags[shard] = if is_late { lag } else { Duration::ZERO };
            }
        }
    }

    fn wakes_at(&self, shard: usize) -> Option<Instant> {
        let due = self.servers[shard].poll_timeout()?;
        Some(due + self.lags[shard])
    }

    pub(crate) fn is_open(&self, relay: SocketAddr) -> bool {
        self.sockets.contains_key(&relay)
    }

    pub(crate) fn shard_of(&self, client: &FiveTuple) -> usize {
        let mut hash = DefaultHasher::new();
        client.client.hash(&mut hash);
        Rng::new(hash.finish()).below(self.servers.len())
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
        self.lags.fill(Duration::ZERO);
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
            audit::check_gauges(stats, &Census::default());
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
            // The simulated clients ask for one address each; tests/rfc has pairs and several shards.
            Action::HoldRelay { .. } | Action::Post { .. } | Action::HandleParked { .. } => {
                panic!("nobody asked for a ticket")
            }
            Action::OpenPair { .. } | Action::OpenReserved { .. } | Action::DropReserved { .. } => {
                panic!("nobody asked for a reservation")
            }
            Action::OpenTcpRelay { .. }
            | Action::CloseTcpRelay { .. }
            | Action::Connect { .. }
            | Action::Join { .. }
            | Action::HandBack { .. }
            | Action::ClosePeer { .. } => panic!("TCP allocations are switched off"),
            Action::CloseRelay { key, family } => {
                let is_opening = self.opening.remove(&(shard, key)).is_some();
                if !is_opening {
                    let local = self.socket(shard, key);
                    assert_eq!(Family::of(local.ip()), family, "the socket's family");
                    self.sockets.remove(&local);
                    self.closed.insert(local, (shard, key));
                }
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
        let server = &self.servers[shard];
        audit::check_outcomes(server.stats());
        let is_overdue = server.poll_timeout().is_some_and(|due| due <= now.instant);
        if !is_overdue {
            audit::check_gauges(server.stats(), &self.oracle.census(now.instant, shard));
        }
    }

    fn note(&mut self, now: Now, outputs: &[Output]) {
        for output in outputs {
            now.instant.hash(&mut self.digest);
            match output {
                Output::ToClient { to, message } => (to, message).hash(&mut self.digest),
                Output::ToPeer(to) => (to.relay, to.peer, &to.payload).hash(&mut self.digest),
                Output::ToRelay { hop, payload } => {
                    (hop.source, hop.peer, payload).hash(&mut self.digest);
                }
                Output::Bind { key, .. } => key.hash(&mut self.digest),
            }
        }
    }
}
