//! What lies between the parties: links that lose, double and reorder, and NATs that forget.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use turnstone::time::Instant;
use turnstone::turn::{AllocationKey, FiveTuple, Hop};

use crate::rng::Rng;

/// A way for datagrams. Latency that varies is what reorders them.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Milliseconds.
    pub(crate) latency: Range<u64>,
    /// Percent of the datagrams that are lost.
    pub(crate) loss: u64,
    /// Percent of the others that arrive twice.
    pub(crate) duplicates: u64,
}

impl Link {
    /// When the copies of a datagram arrive that is sent `now`; none when it is lost.
    pub(crate) fn arrivals(&self, now: Instant, rng: &mut Rng) -> Vec<Instant> {
        let copies = match (rng.chance(self.loss), rng.chance(self.duplicates)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        (0..copies)
            .map(|_| now + rng.millis(self.latency.clone()))
            .collect()
    }
}

/// What arrives somewhere.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// A message of a client at the server.
    AtServer { from: FiveTuple, message: Vec<u8> },
    /// A message of the server at the socket or connection of a client.
    AtClient {
        address: SocketAddr,
        message: Vec<u8>,
    },
    /// The end of a client's connection at the server.
    ConnectionEnd { client: FiveTuple },
    /// A datagram at a relay socket.
    AtRelay {
        relay: SocketAddr,
        peer: SocketAddr,
        payload: Vec<u8>,
    },
    /// A packet at the shard of another allocation.
    AtShard { hop: Hop, payload: Vec<u8> },
    /// A datagram at a peer.
    AtPeer {
        peer: SocketAddr,
        relay: SocketAddr,
        payload: Vec<u8>,
    },
    /// The end of a bind that took its time.
    Bind { shard: usize, key: AllocationKey },
}

/// What is on its way, by arrival; first sent, first served among those that arrive together.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    arrivals: BTreeMap<u64, Arrival>,
    sent: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Instant, arrival: Arrival) {
        self.sent += 1;
        self.order.push(Reverse((at, self.sent)));
        self.arrivals.insert(self.sent, arrival);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Arrival> {
        self.next().filter(|at| *at <= now)?;
        let Reverse((_, number)) = self.order.pop()?;
        self.arrivals.remove(&number)
    }
}

/// How a NAT maps (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    EndpointIndependent,
    /// Another port for each remote address and port, which alone may answer.
    Symmetric,
}

#[derive(Debug)]
struct Binding {
    inside: SocketAddr,
    remote: SocketAddr,
    port: u16,
    used: Instant,
}

/// A NAT in front of clients. It never uses a port twice, so nobody inherits another's packets.
#[derive(Debug)]
pub(crate) struct Nat {
    pub(crate) public: IpAddr,
    mapping: Mapping,
    /// A binding is forgotten when nothing left through it for so long.
    memory: Duration,
    bindings: Vec<Binding>,
    next_port: u16,
}

impl Nat {
    pub(crate) fn new(public: IpAddr, mapping: Mapping, memory: Duration) -> Self {
        Self {
            public,
            mapping,
            memory,
            bindings: Vec::new(),
            next_port: 1024,
        }
    }

    /// The public address under which a datagram from `inside` leaves for `remote`.
    pub(crate) fn outbound(
        &mut self,
        now: Instant,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> SocketAddr {
        self.forget(now);
        let any_remote = self.mapping == Mapping::EndpointIndependent;
        let mut bindings = self.bindings.iter_mut();
        let found = bindings.find(|b| b.inside == inside && (any_remote || b.remote == remote));
        let port = match found {
            Some(binding) => {
                binding.used = now;
                binding.port
            }
            None => self.bind(now, inside, remote),
        };
        SocketAddr::new(self.public, port)
    }

    /// Who gets a datagram from `remote` to the public `port`, if anybody.
    pub(crate) fn inbound(
        &mut self,
        now: Instant,
        port: u16,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        self.forget(now);
        let any_remote = self.mapping == Mapping::EndpointIndependent;
        let mut bindings = self.bindings.iter();
        let binding = bindings.find(|b| b.port == port && (any_remote || b.remote == remote))?;
        Some(binding.inside)
    }

    fn bind(&mut self, now: Instant, inside: SocketAddr, remote: SocketAddr) -> u16 {
        let port = self.next_port;
        self.next_port += 1;
        self.bindings.push(Binding {
            inside,
            remote,
            port,
            used: now,
        });
        port
    }

    fn forget(&mut self, now: Instant) {
        let memory = self.memory;
        self.bindings.retain(|b| now.since(b.used) < memory);
    }
}

#[test]
fn nats_map_and_forget_by_their_kind() {
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    let (inside, one, two) = (
        address("10.0.0.2:5000"),
        address("192.0.2.10:3478"),
        address("192.0.2.11:3478"),
    );
    let nat = |mapping| Nat::new(address("7.7.7.7:0").ip(), mapping, Duration::from_secs(30));
    let start = Instant::ZERO;
    let mut easy = nat(Mapping::EndpointIndependent);
    let public = easy.outbound(start, inside, one);
    assert_eq!(easy.outbound(start, inside, two), public);
    assert_eq!(easy.inbound(start, public.port(), two), Some(inside));
    let mut hard = nat(Mapping::Symmetric);
    let public = hard.outbound(start, inside, one);
    assert_eq!(hard.inbound(start, public.port(), two), None);
    assert_ne!(hard.outbound(start, inside, two), public);
    let later = start + Duration::from_secs(30);
    assert_eq!(hard.inbound(later, public.port(), one), None);
    assert_ne!(hard.outbound(later, inside, one), public);
}
