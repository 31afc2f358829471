//! A server of the pure core on virtual time, its sockets played by the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::time::{Now, UnixTime};
use turnstone::turn::{
    Action, AllocationKey, Event, Family, FiveTuple, Hop, Icmp, Letter, Policy, Server, Setup,
    Shared, Verdict,
};

use super::{
    Login, Peers, Response, START, channel_number, requested_family, requested_transport,
    xor_peer_address,
};

/// A server with the test's clock and sockets.
pub struct World {
    pub server: Server,
    pub now: Now,
    pub shared: Arc<Shared>,
    /// The relay sockets that are open.
    pub relays: BTreeMap<SocketAddr, AllocationKey>,
    /// The reserved sockets that are held, by all shards.
    pub held: Arc<Mutex<BTreeSet<SocketAddr>>>,
    /// What binding a relay socket ends in: ok, or an error that another port may mend or not.
    pub bind: Result<(), Retry>,
    /// Ports that other processes of the host have.
    pub others: fn(u16) -> bool,
    /// A family of which no socket can be bound.
    pub refused: Option<Family>,
    /// No socket that was held can be taken in.
    pub refuses_held: bool,
    /// No socket of this family that was held can be taken in.
    pub refused_held: Option<Family>,
    /// Sockets are held that nobody has brought.
    pub any_socket: bool,
    /// Listeners and connections of TCP allocations.
    pub peers: Peers,
    /// Responses that came behind the one that was returned.
    pub later: Vec<(FiveTuple, Response)>,
    /// Packets between two allocations take the short way, instead of the one by the relay sockets.
    pub hops: bool,
    pub(super) transactions: u64,
    /// What its random choices come from.
    pub(super) seed: u8,
    /// Letters to other shards that are not delivered yet.
    letters: VecDeque<(u16, Letter)>,
    /// What came out of packets that had been parked.
    late: Vec<Out>,
}

pub type Retry = bool;

/// What came out of one packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Out {
    ToPeer {
        from: SocketAddr,
        peer: SocketAddr,
        payload: Vec<u8>,
    },
    ToClient {
        to: FiveTuple,
        message: Vec<u8>,
    },
    /// Towards another allocation, of this shard or another.
    ToRelay {
        hop: Hop,
        payload: Vec<u8>,
    },
    Nothing,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        Self::with_seed(policy, 7)
    }

    pub fn with_seed(policy: Policy, seed: u8) -> Self {
        let mut group = Self::group(policy, 1, seed);
        group.pop().expect("one shard")
    }

    /// The shards of one server, whose times the test keeps together.
    pub fn group(policy: Policy, shards: u16, seed: u8) -> Vec<Self> {
        let policy = Arc::new(policy);
        let shared = Arc::new(Shared::default());
        let held = Arc::new(Mutex::default());
        let server = |shard: u16| {
            let [_, number] = shard.to_be_bytes();
            Server::new(Setup {
                shard,
                shards,
                seed: [seed.wrapping_add(number); 32],
                nonce_key: [seed; 32],
                policy: Arc::clone(&policy),
                shared: Arc::clone(&shared),
            })
        };
        let world = |shard| Self {
            seed,
            ..Self::around(server(shard), Arc::clone(&shared), Arc::clone(&held))
        };
        (0..shards).map(world).collect()
    }

    fn around(server: Server, shared: Arc<Shared>, held: Arc<Mutex<BTreeSet<SocketAddr>>>) -> Self {
        let now = Now {
            unix: UnixTime(START),
            ..Now::default()
        };
        let relays = BTreeMap::new();
        Self {
            server,
            now,
            shared,
            relays,
            held,
            bind: Ok(()),
            others: |_| false,
            refused: None,
            refuses_held: false,
            refused_held: None,
            any_socket: false,
            peers: Peers::default(),
            later: Vec::new(),
            hops: false,
            transactions: 0,
            seed: 0,
            letters: VecDeque::new(),
            late: Vec::new(),
        }
    }

    /// Lets time pass, ending what expires on the way.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.advance(due.since(self.now.instant));
            self.server.handle_timeout(self.now);
            if let Some(Out::ToClient { to, message }) = self.drain() {
                self.later.insert(0, (to, Response(message)));
            }
        }
        self.advance(end.since(self.now.instant));
    }

    fn advance(&mut self, duration: Duration) {
        let before = self.now.instant.as_secs();
        self.now.instant = self.now.instant + duration;
        self.now.unix.0 += self.now.instant.as_secs() - before;
    }

    pub fn swap_policy(&mut self, policy: Policy) {
        self.server
            .handle_event(self.now, Event::Policy(Arc::new(policy)));
        let _ = self.drain();
    }

    /// Decides by `policy` from now on; what that has the server say.
    pub fn swap_policy_for_answers(&mut self, policy: Policy) -> Vec<(FiveTuple, Response)> {
        self.server
            .handle_event(self.now, Event::Policy(Arc::new(policy)));
        let first = self.drain().map(|out| match out {
            Out::ToClient { to, message } => (to, Response(message)),
            other => panic!("no response but {other:?}"),
        });
        first.into_iter().chain(self.later.drain(..)).collect()
    }

    pub fn client_gone(&mut self, client: FiveTuple) {
        self.server
            .handle_event(self.now, Event::ClientGone { client });
        let _ = self.drain();
    }

    /// Carries the letters of the shards of a group; what came out of packets that waited for them.
    pub fn deliver(group: &mut [Self]) -> Vec<Out> {
        while Self::deliver_one(group) {}
        let late = group.iter_mut().flat_map(|world| world.late.drain(..));
        late.collect()
    }

    /// Carries one letter; false when there is none.
    pub fn deliver_one(group: &mut [Self]) -> bool {
        let mut writers = group.iter_mut();
        let Some((to, letter)) = writers.find_map(|world| world.letters.pop_front()) else {
            return false;
        };
        let world = &mut group[usize::from(to)];
        world.server.handle_event(world.now, Event::Letter(letter));
        let out = world.drain();
        world.late.extend(out);
        true
    }

    /// A packet from a client, and what comes out.
    pub fn send(&mut self, from: FiveTuple, packet: &[u8]) -> Out {
        let out = match self.server.handle_client(self.now, from, packet) {
            Verdict::ToRelay { hop, payload } if self.hops => Out::ToRelay {
                hop,
                payload: payload.to_vec(),
            },
            verdict @ (Verdict::ToPeer { .. }
            | Verdict::ToPeerUnfragmented { .. }
            | Verdict::ToRelay { .. }) => to_peer(&self.relays, verdict),
            other => to_client(other),
        };
        self.drain().unwrap_or(out)
    }

    /// The end of the short way; none when the packet goes back.
    pub fn receives(&mut self, hop: &Hop, payload: &[u8]) -> Option<Out> {
        let verdict = self.server.handle_relayed(self.now, hop, payload);
        let out = to_client(verdict?);
        assert_eq!(self.drain(), None, "nothing to do");
        Some(out)
    }

    fn handle_parked(&mut self, client: FiveTuple) {
        let Some(packet) = self.server.take_parked(&client) else {
            return;
        };
        let verdict = self.server.handle_parked(self.now, client, &packet);
        if matches!(
            verdict,
            Verdict::ToPeer { .. } | Verdict::ToPeerUnfragmented { .. } | Verdict::ToRelay { .. }
        ) {
            self.late.push(to_peer(&self.relays, verdict));
        }
        let response = self.response();
        self.late.extend(response);
    }

    /// A datagram from `peer` to the relay socket bound at `relay`, and what comes out.
    pub fn peer_sends(&mut self, relay: SocketAddr, peer: SocketAddr, payload: &[u8]) -> Out {
        let key = *self.relays.get(&relay).expect("an open relay socket");
        let out = to_client(self.server.handle_peer(self.now, key, peer, payload));
        self.drain().unwrap_or(out)
    }

    /// A datagram from the relay socket bound at `relay` to `peer` met an ICMP error.
    pub fn meets_icmp(&mut self, relay: SocketAddr, peer: SocketAddr, error: Icmp) -> Out {
        let key = *self.relays.get(&relay).expect("an open relay socket");
        let event = Event::Icmp { key, peer, error };
        self.server.handle_event(self.now, event);
        self.drain().unwrap_or(Out::Nothing)
    }

    /// Does what the server asks for; the response that waits, if any.
    pub(super) fn drain(&mut self) -> Option<Out> {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::OpenRelay { key, local } => self.open(key, local, self.bind_to(local)),
                Action::OpenPair { key, local } => {
                    let above = SocketAddr::new(local.ip(), local.port() + 1);
                    let bind = self.bind_to(above).and(self.bind_to(local));
                    self.open(key, local, bind);
                    if bind.is_ok() {
                        let is_new = self.held().insert(above);
                        assert!(is_new && !self.relays.contains_key(&above), "bound twice");
                    }
                }
                Action::OpenReserved { key, local } => {
                    let is_held = self.held().remove(&local);
                    assert!(is_held || self.any_socket, "{local} is not held");
                    let family = Family::of(local.ip());
                    let bind = if self.refuses_held || self.refused_held == Some(family) {
                        Err(false)
                    } else {
                        Ok(())
                    };
                    self.open(key, local, bind);
                    self.server.handle_event(self.now, Event::RelayRead { key });
                }
                Action::DropReserved { local } => {
                    let is_held = self.held().remove(&local);
                    assert!(is_held || self.any_socket, "{local} is not held");
                }
                Action::HoldRelay { key, local } => {
                    assert_eq!(self.relays.remove(&local), Some(key), "not open");
                    assert!(self.held().insert(local), "{local} is held twice");
                }
                Action::Post { shard, letter } => self.letters.push_back((shard, letter)),
                Action::HandleParked { client } => self.handle_parked(client),
                Action::CloseRelay { key, family } => {
                    self.relays
                        .retain(|at, open| *open != key || Family::of(at.ip()) != family);
                }
                Action::HandBack { client } => self.hand_back(client),
                Action::OpenTcpRelay { key, local } => self.listen(key, local, self.bind),
                other => self.peers.act(other),
            }
        }
        self.response()
    }

    fn response(&mut self) -> Option<Out> {
        let (to, message) = self.server.poll_response()?;
        let message = message.to_vec();
        while let Some((to, message)) = self.server.poll_response() {
            self.later.push((to, Response(message.to_vec())));
        }
        Some(Out::ToClient { to, message })
    }

    /// The reserved sockets that are held.
    pub fn held(&self) -> MutexGuard<'_, BTreeSet<SocketAddr>> {
        self.held.lock().expect("no panic")
    }

    /// What binding a socket to `local` ends in.
    fn bind_to(&self, local: SocketAddr) -> Result<(), Retry> {
        if self.refused == Some(Family::of(local.ip())) {
            Err(false)
        } else if (self.others)(local.port()) {
            Err(true)
        } else {
            self.bind
        }
    }

    fn open(&mut self, key: AllocationKey, local: SocketAddr, bind: Result<(), Retry>) {
        let family = Family::of(local.ip());
        let event = match bind {
            Ok(()) => {
                assert!(
                    self.relays.insert(local, key).is_none(),
                    "{local} is bound twice"
                );
                Event::RelayOpened { key, family }
            }
            Err(retry) => Event::RelayFailed { key, family, retry },
        };
        self.server.handle_event(self.now, event);
    }

    pub fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(id)
    }

    /// An unsigned request with `attributes`.
    pub fn request(&mut self, method: Method, attributes: &[(AttributeType, Vec<u8>)]) -> Vec<u8> {
        let transaction = self.transaction();
        let mut buffer = Vec::new();
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, transaction);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        buffer
    }

    /// A request signed by `login` with a nonce that is fresh for `from`.
    pub fn signed(
        &mut self,
        login: &Login,
        from: FiveTuple,
        method: Method,
        attributes: &[(AttributeType, Vec<u8>)],
    ) -> Vec<u8> {
        let nonce = self.nonce(from);
        let transaction = self.transaction();
        login.sign(transaction, method, attributes, &nonce)
    }

    /// The nonce of a challenge to `from`.
    pub fn nonce(&mut self, from: FiveTuple) -> Vec<u8> {
        let request = self.request(Method::ALLOCATE, &[requested_transport(17)]);
        let response = self.send(from, &request).response();
        response.value(AttributeType::NONCE).expect("a nonce")
    }

    /// Sends a signed request; the response.
    pub fn ask(
        &mut self,
        login: &Login,
        from: FiveTuple,
        method: Method,
        attributes: &[(AttributeType, Vec<u8>)],
    ) -> Response {
        let request = self.signed(login, from, method, attributes);
        self.send(from, &request).response()
    }

    /// Allocates as alice; the relayed transport address.
    pub fn allocate(&mut self, from: FiveTuple) -> SocketAddr {
        self.allocate_family(from, None)
    }

    pub fn allocate_family(&mut self, from: FiveTuple, family: Option<u8>) -> SocketAddr {
        let mut attributes = vec![requested_transport(17)];
        attributes.extend(family.map(requested_family));
        let response = self.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        assert_eq!(response.code(), None, "allocation refused");
        response
            .xor_address(AttributeType::XOR_RELAYED_ADDRESS)
            .expect("a relayed address")
    }

    pub fn permit(&mut self, from: FiveTuple, peer: SocketAddr) -> Response {
        let peer = self.xor_peer(peer);
        self.ask(&Login::alice(), from, Method::CREATE_PERMISSION, &[peer])
    }

    pub fn bind_channel(&mut self, from: FiveTuple, number: u16, peer: SocketAddr) -> Response {
        let attributes = [channel_number(number), self.xor_peer(peer)];
        self.ask(&Login::alice(), from, Method::CHANNEL_BIND, &attributes)
    }

    /// XOR-PEER-ADDRESS for the next signed request. [`nonce`](Self::nonce) uses one transaction id
    /// before it, and an IPv6 address is XORed with the id of the message it stands in.
    pub fn xor_peer(&self, peer: SocketAddr) -> (AttributeType, Vec<u8>) {
        let mut id = [0; 12];
        id[4..].copy_from_slice(&(self.transactions + 2).to_be_bytes());
        xor_peer_address(peer, TransactionId(id))
    }
}

fn to_peer(relays: &BTreeMap<SocketAddr, AllocationKey>, verdict: Verdict<'_>) -> Out {
    let (from, peer, payload) = match verdict {
        Verdict::ToPeer {
            from,
            peer,
            payload,
        }
        | Verdict::ToPeerUnfragmented {
            from,
            peer,
            payload,
        } => (from, peer, payload),
        Verdict::ToRelay { hop, payload } => (hop.from.key, hop.peer, payload),
        _ => panic!("a client's packet went to a client"),
    };
    let relay = relays
        .iter()
        .find(|(address, key)| **key == from && address.is_ipv4() == peer.is_ipv4());
    Out::ToPeer {
        from: *relay.expect("an open relay socket").0,
        peer,
        payload: payload.to_vec(),
    }
}

fn to_client(verdict: Verdict<'_>) -> Out {
    match verdict {
        Verdict::ToClient {
            to,
            prefix,
            payload,
        } => {
            let mut message = prefix.as_bytes().to_vec();
            message.extend_from_slice(payload);
            message.resize(message.len() + prefix.padding(), 0);
            Out::ToClient { to, message }
        }
        Verdict::ToPeer { .. } | Verdict::ToPeerUnfragmented { .. } | Verdict::ToRelay { .. } => {
            panic!("a peer's packet went to a peer")
        }
        Verdict::Respond | Verdict::Park | Verdict::Discard(_) => Out::Nothing,
    }
}

impl Out {
    /// The response that must have come out.
    pub fn response(self) -> Response {
        match self {
            Self::ToClient { message, .. } => Response(message),
            other => panic!("no response but {other:?}"),
        }
    }
}
