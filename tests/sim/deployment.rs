//! A deployment on virtual time: clients, NATs, links, shards and peers, moved from event to event.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::time::{Instant, Now, UnixTime};
use turnstone::turn::FiveTuple;

use crate::client::{Book, Client, Sent};
use crate::common::{START, address, ip};
use crate::network::{Arrival, Link, Nat, Queue};
use crate::oracle::{Addresses, Oracle, ToPeer};
use crate::peer::{Datagram, Peers};
use crate::plan::{FORBIDDEN, SERVER_V4, SERVER_V6, Scenario};
use crate::rng::Rng;
use crate::shards::{Output, Shards};

/// Everybody who takes part, and what is between them.
pub(crate) struct Deployment {
    now: Now,
    rng: Rng,
    access: Link,
    transit: Link,
    addresses: Addresses,
    queue: Queue,
    nats: Vec<Nat>,
    pub(crate) clients: Vec<Client>,
    /// When the last message of each client's connection arrives, up and down: streams keep order.
    streams: Vec<[Instant; 2]>,
    peers: Peers,
    pub(crate) shards: Shards,
}

impl Deployment {
    pub(crate) fn new(scenario: Scenario, rng: &mut Rng) -> Self {
        let lifetimes = scenario.policy.lifetimes;
        let forbidden = FORBIDDEN.map(|text| address(text).ip());
        let oracle = Oracle::new(&lifetimes, scenario.addresses.clone(), &forbidden);
        let shards = Shards::new(
            scenario.shards,
            scenario.policy,
            oracle,
            scenario.faults,
            rng.fork(),
        );
        let nats = scenario.nats.iter().enumerate();
        let nats = nats.map(|(place, (mapping, memory))| {
            Nat::new(ip(&format!("7.7.7.{place}")), *mapping, *memory)
        });
        let plans = scenario.plans.into_iter().zip(0..);
        let clients: Vec<Client> = plans
            .map(|(plan, id)| Client::new(id, plan, lifetimes, rng.fork()))
            .collect();
        let (odd_ports, garbage) = (scenario.odd_ports, scenario.garbage_every);
        Self {
            now: Now {
                instant: Instant::ZERO,
                unix: UnixTime(START),
            },
            access: scenario.access,
            transit: scenario.transit,
            addresses: scenario.addresses,
            queue: Queue::default(),
            nats: nats.collect(),
            streams: vec![[Instant::ZERO; 2]; clients.len()],
            clients,
            peers: Peers::new(scenario.peers, odd_ports, garbage, rng.fork()),
            shards,
            rng: rng.fork(),
        }
    }

    /// Lets everything happen that happens until `end`.
    pub(crate) fn run_until(&mut self, end: Instant) {
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.advance(next);
            self.step();
        }
        self.advance(end);
    }

    /// Lets time pass until nothing is on its way and everything has expired; strangers give up.
    pub(crate) fn run_dry(&mut self) {
        self.peers.stop();
        self.run_until(self.now.instant + Duration::from_secs(60));
        assert_eq!(self.queue.next(), None, "nothing is on its way");
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    fn next(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(Client::next).min();
        let all = [
            clients,
            self.queue.next(),
            self.shards.poll_timeout(),
            self.peers.next(),
        ];
        all.into_iter().flatten().min()
    }

    fn advance(&mut self, to: Instant) {
        assert!(to >= self.now.instant, "time never goes back");
        self.now.instant = to;
        self.now.unix = UnixTime(START + to.as_secs());
    }

    /// What happens at one instant: time-outs first, then arrivals, then what the parties begin.
    fn step(&mut self) {
        let now = self.now.instant;
        self.shards.handle_timeouts(self.now);
        while let Some(arrival) = self.queue.pop_due(now) {
            self.arrive(arrival);
        }
        self.act();
        if self.peers.next().is_some_and(|next| next <= now) {
            let relays: Vec<SocketAddr> = self.clients.iter().filter_map(Client::relayed).collect();
            let garbage = self.peers.intrude(now, &relays);
            self.send_to_relay(garbage);
        }
    }

    fn act(&mut self) {
        let now = self.now.instant;
        let is_due = |client: &Client| client.next().is_some_and(|next| next <= now);
        let places = 0..self.clients.len();
        let due: Vec<usize> = places
            .filter(|place| is_due(&self.clients[*place]))
            .collect();
        if due.is_empty() {
            return;
        }
        let book = self.book();
        for place in due {
            self.clients[place].act(now, &book);
            self.send_to_server(place);
        }
    }

    /// Where the clients' relays are.
    fn book(&self) -> Book {
        let clients = self.clients.iter().filter(|client| !client.is_gone);
        clients
            .filter_map(|client| Some((client.id, client.relayed()?)))
            .collect()
    }

    fn arrive(&mut self, arrival: Arrival) {
        let now = self.now;
        match arrival {
            Arrival::AtServer { from, message } => {
                let outputs = self.shards.hear_client(now, from, &message);
                self.leave(outputs);
            }
            Arrival::ConnectionEnd { client } => {
                let outputs = self.shards.client_gone(now, client);
                self.leave(outputs);
            }
            Arrival::AtRelay {
                relay,
                peer,
                payload,
            } => {
                let outputs = self.shards.hear_peer(now, relay, peer, &payload);
                self.leave(outputs);
            }
            Arrival::AtShard { hop, payload } => {
                let outputs = self.shards.hear_hop(now, &hop, &payload);
                self.leave(outputs);
            }
            Arrival::Bind { shard, key } => {
                let outputs = self.shards.bind_ends(now, shard, key);
                self.leave(outputs);
            }
            Arrival::AtClient { address, message } => self.arrive_at_client(address, &message),
            Arrival::AtPeer {
                peer,
                relay,
                payload,
            } => {
                let answer = self.peers.answer(peer, relay, payload);
                self.send_to_relay(answer);
            }
        }
    }

    /// Only who is still there hears what arrives.
    fn arrive_at_client(&mut self, address: SocketAddr, message: &[u8]) {
        let now = self.now.instant;
        let mut clients = self.clients.iter_mut();
        let place = clients.position(|client| client.address == address && !client.is_gone);
        let Some(place) = place else { return };
        self.clients[place].handle(now, message);
        self.send_to_server(place);
    }

    /// What left the server goes its way.
    fn leave(&mut self, outputs: Vec<Output>) {
        let now = self.now.instant;
        for output in outputs {
            match output {
                Output::ToClient { to, message } => self.send_to_client(to, &message),
                Output::ToPeer(to) => self.send_to_peer(to),
                Output::ToRelay { hop, payload } => {
                    let at = now + self.rng.millis(0..3);
                    self.queue.push(at, Arrival::AtShard { hop, payload });
                }
                Output::Bind { after, shard, key } => {
                    self.queue.push(now + after, Arrival::Bind { shard, key });
                }
            }
        }
    }

    fn send_to_server(&mut self, place: usize) {
        for sent in self.clients[place].take_sent() {
            let (address, message) = match sent {
                Sent::Message(message) => (self.clients[place].address, Some(message)),
                Sent::End(address) => (address, None),
            };
            let from = self.five_tuple(place, address);
            let arrivals = match (from.transport.is_stream(), &message) {
                (false, None) => Vec::new(),
                (false, Some(_)) => self.access.arrivals(self.now.instant, &mut self.rng),
                (true, _) => vec![self.stream_arrival(place, 0)],
            };
            for at in arrivals {
                let arrival = match message.clone() {
                    Some(message) => Arrival::AtServer { from, message },
                    None => Arrival::ConnectionEnd { client: from },
                };
                self.queue.push(at, arrival);
            }
        }
    }

    /// The five-tuple by which the server knows the client with this `address`.
    fn five_tuple(&mut self, place: usize, address: SocketAddr) -> FiveTuple {
        let plan = &self.clients[place].plan;
        let text = if address.is_ipv4() {
            SERVER_V4
        } else {
            SERVER_V6
        };
        let server = crate::common::address(text);
        let now = self.now.instant;
        let client = match plan.nat {
            Some(nat) => self.nats[nat].outbound(now, address, server),
            None => address,
        };
        FiveTuple {
            transport: plan.transport,
            client,
            server,
        }
    }

    fn send_to_client(&mut self, to: FiveTuple, message: &[u8]) {
        let Some(address) = self.inside(to) else {
            return;
        };
        let mut clients = self.clients.iter();
        let Some(place) = clients.position(|client| client.address == address) else {
            return;
        };
        let arrivals = if to.transport.is_stream() {
            vec![self.stream_arrival(place, 1)]
        } else {
            self.access.arrivals(self.now.instant, &mut self.rng)
        };
        for at in arrivals {
            let message = message.to_vec();
            self.queue.push(at, Arrival::AtClient { address, message });
        }
    }

    /// The address behind the NAT, if there is one, of the client that the server means.
    fn inside(&mut self, to: FiveTuple) -> Option<SocketAddr> {
        let now = self.now.instant;
        let nat = self
            .nats
            .iter_mut()
            .find(|nat| nat.public == to.client.ip());
        match nat {
            Some(nat) => nat.inbound(now, to.client.port(), to.server),
            None => Some(to.client),
        }
    }

    /// A stream loses nothing and keeps its order.
    fn stream_arrival(&mut self, place: usize, way: usize) -> Instant {
        let at = self.now.instant + self.rng.millis(self.access.latency.clone());
        let last = &mut self.streams[place][way];
        *last = at.max(*last);
        *last
    }

    fn send_to_peer(&mut self, to: ToPeer) {
        let ToPeer {
            relay,
            peer,
            payload,
        } = to;
        // Another relay of this server is reached directly, not through the 1:1 NAT.
        let is_relay = self.shards.is_open(peer);
        let relay_seen = self.addresses.to_public(relay);
        for at in self.transit.arrivals(self.now.instant, &mut self.rng) {
            let payload = payload.clone();
            let arrival = if is_relay {
                Arrival::AtRelay {
                    relay: peer,
                    peer: relay,
                    payload,
                }
            } else {
                Arrival::AtPeer {
                    peer,
                    relay: relay_seen,
                    payload,
                }
            };
            self.queue.push(at, arrival);
        }
    }

    fn send_to_relay(&mut self, datagram: Option<Datagram>) {
        let Some(datagram) = datagram else { return };
        let relay = self.addresses.to_local(datagram.relay);
        for at in self.transit.arrivals(self.now.instant, &mut self.rng) {
            let arrival = Arrival::AtRelay {
                relay,
                peer: datagram.peer,
                payload: datagram.payload.clone(),
            };
            self.queue.push(at, arrival);
        }
    }
}
