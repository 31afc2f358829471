//! The same dialogue with both servers: the same classes, the same error codes, the same data.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method};
use turnstone::turn::Icmp;

use crate::common::random::Random;
use crate::common::{
    Login, Response, additional_family, address, channel_data, channel_number, even_port, lifetime,
    requested_family, requested_transport, send_indication, xor_peer_address,
};
use crate::other_server::{Ours, Outcome, Theirs, TurnParty, transaction};

type Attribute = (AttributeType, Vec<u8>);

/// One server and what its client remembers.
struct Conversation<S> {
    server: S,
    nonce: Vec<u8>,
    transactions: u64,
}

impl<S: TurnParty> Conversation<S> {
    fn new(server: S) -> Self {
        Self {
            server,
            nonce: Vec::new(),
            transactions: 0,
        }
    }

    fn unsigned(
        &mut self,
        client: SocketAddr,
        method: Method,
        attributes: &[Attribute],
    ) -> Outcome {
        self.transactions += 1;
        let id = transaction(self.transactions);
        let mut request = Vec::new();
        let mut builder = MessageBuilder::new(&mut request, Class::Request, method, id);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        let (outcome, response) = self.server.client_sends(client, &request);
        self.learn(response.as_ref());
        outcome
    }

    /// Remembers the nonce of a challenge.
    fn learn(&mut self, response: Option<&Response>) {
        if let Some(nonce) = response.and_then(|response| response.value(AttributeType::NONCE)) {
            self.nonce = nonce;
        }
    }

    fn signed(
        &mut self,
        login: &Login,
        client: SocketAddr,
        method: Method,
        attributes: impl FnOnce(turnstone::stun::TransactionId) -> Vec<Attribute>,
    ) -> Outcome {
        self.transactions += 1;
        let id = transaction(self.transactions);
        let request = login.sign(id, method, &attributes(id), &self.nonce);
        let (outcome, response) = self.server.client_sends(client, &request);
        self.learn(response.as_ref());
        outcome
    }
}

/// What a client or a peer does.
#[derive(Clone, Debug)]
enum Step {
    Unsigned(Method, Vec<Attribute>),
    Signed(Method, Vec<Attribute>),
    SignedBy(Login, Method, Vec<Attribute>),
    Permit(Vec<&'static str>),
    Bind(u16, &'static str),
    Send(&'static str, &'static [u8]),
    Channel(u16, &'static [u8]),
    Peer(&'static str, &'static [u8]),
    /// An ICMP error of this type and code, with an MTU, about a datagram to the peer.
    Icmp(&'static str, u8, u8, u32),
    Pass(u64),
}

fn client() -> SocketAddr {
    address("203.0.113.7:4000")
}

impl Step {
    fn play<S: TurnParty>(&self, with: &mut Conversation<S>) -> Outcome {
        let alice = Login::alice();
        match self {
            Self::Unsigned(method, attributes) => with.unsigned(client(), *method, attributes),
            Self::Signed(method, attributes) => {
                with.signed(&alice, client(), *method, |_| attributes.clone())
            }
            Self::SignedBy(login, method, attributes) => {
                with.signed(login, client(), *method, |_| attributes.clone())
            }
            Self::Permit(peers) => with.signed(&alice, client(), Method::CREATE_PERMISSION, |id| {
                peers
                    .iter()
                    .map(|peer| xor_peer_address(address(peer), id))
                    .collect()
            }),
            Self::Bind(number, peer) => with.signed(&alice, client(), Method::CHANNEL_BIND, |id| {
                vec![channel_number(*number), xor_peer_address(address(peer), id)]
            }),
            Self::Send(peer, data) => {
                with.server
                    .client_sends(client(), &send_indication(address(peer), data))
                    .0
            }
            Self::Channel(number, data) => {
                let packet = channel_data(*number, data);
                with.server
                    .client_sends(client(), &packet[..4 + data.len()])
                    .0
            }
            Self::Peer(peer, data) => with.server.peer_sends(client(), address(peer), data),
            Self::Icmp(peer, kind, code, mtu) => {
                let error = Icmp {
                    kind: *kind,
                    code: *code,
                    mtu: *mtu,
                };
                with.server.meets_icmp(client(), address(peer), error)
            }
            Self::Pass(seconds) => {
                // Not whole seconds: at the very end of a lifetime the two may differ.
                with.server
                    .pass(Duration::from_millis(seconds * 1000 + 137));
                Outcome::Nothing
            }
        }
    }
}

/// Plays the steps with both; where they differ, it is as `exceptions` say: which step, what theirs
/// does, and why ours does not.
fn play(steps: &[Step], exceptions: &[(usize, Outcome, &str)]) {
    let mut ours = Conversation::new(Ours::new());
    let mut theirs = Conversation::new(Theirs::new());
    for (place, step) in steps.iter().enumerate() {
        let outcomes = (step.play(&mut ours), step.play(&mut theirs));
        let exception = exceptions.iter().find(|(at, ..)| *at == place);
        match exception {
            None => assert_eq!(outcomes.0, outcomes.1, "step {place}: {step:?}"),
            Some((_, theirs, why)) => {
                assert_ne!(outcomes.0, *theirs, "step {place}, no exception: {why}");
                assert_eq!(outcomes.1, *theirs, "step {place}: {step:?}");
            }
        }
    }
}

fn allocate() -> Vec<Step> {
    let transport = vec![requested_transport(17)];
    vec![
        Step::Unsigned(Method::ALLOCATE, transport.clone()),
        Step::Signed(Method::ALLOCATE, transport),
    ]
}

const PEER: &str = "198.51.100.1:9000";
const OTHER: &str = "198.51.100.2:9000";

#[test]
fn a_client_comes_relays_and_leaves() {
    let mut steps = allocate();
    steps.extend([
        Step::Send(PEER, b"too early"),
        Step::Peer(PEER, b"too early"),
        Step::Permit(vec![PEER]),
        Step::Send(PEER, b"hello"),
        Step::Send(OTHER, b"no permission"),
        Step::Peer(PEER, b"hello back"),
        Step::Peer(OTHER, b"no permission"),
        Step::Bind(0x4000, PEER),
        Step::Channel(0x4000, b"ping"),
        Step::Channel(0x4001, b"unbound"),
        Step::Peer(PEER, b"pong"),
        Step::Peer("198.51.100.1:9001", b"other port"),
        Step::Signed(Method::REFRESH, vec![lifetime(1000)]),
        Step::Signed(Method::REFRESH, vec![lifetime(0)]),
        Step::Channel(0x4000, b"too late"),
        Step::Signed(Method::REFRESH, vec![]),
    ]);
    play(&steps, &[]);
}

#[test]
fn requests_are_refused_with_the_same_codes() {
    let method = Method::ALLOCATE;
    let unknown = (AttributeType(0x7FFE), vec![]);
    let bob = Login::bob();
    let mallory = Login::new("mallory", "x");
    let wrong = Login::new("alice", "x");
    let steps = [
        Step::Unsigned(Method::BINDING, vec![]),
        Step::Unsigned(Method::BINDING, vec![unknown.clone()]),
        Step::Unsigned(method, vec![requested_transport(17)]),
        Step::SignedBy(mallory, method, vec![requested_transport(17)]),
        Step::SignedBy(wrong, method, vec![requested_transport(17)]),
        Step::Signed(method, vec![]),
        Step::Signed(method, vec![requested_transport(1)]),
        Step::Signed(method, vec![requested_transport(17), unknown]),
        Step::Signed(Method::REFRESH, vec![]),
        Step::Permit(vec![PEER]),
        Step::Bind(0x4000, PEER),
        Step::Signed(method, vec![requested_transport(17)]),
        Step::Signed(method, vec![requested_transport(17)]),
        Step::SignedBy(bob.clone(), Method::REFRESH, vec![]),
        Step::SignedBy(bob, Method::CREATE_PERMISSION, vec![]),
        Step::Signed(Method::CREATE_PERMISSION, vec![]),
        Step::Signed(Method::CHANNEL_BIND, vec![]),
        Step::Signed(Method::CHANNEL_BIND, vec![channel_number(0x4000)]),
        Step::Bind(0x3FFF, PEER),
        Step::Bind(0x4000, PEER),
        Step::Bind(0x4001, PEER),
        Step::Bind(0x4000, PEER),
        Step::Permit(vec!["[2001:db8:1::1]:1"]),
        Step::Bind(0x4002, "[2001:db8:1::1]:1"),
        Step::Signed(Method::REFRESH, vec![requested_family(2)]),
        Step::Signed(Method::REFRESH, vec![requested_family(1)]),
    ];
    play(&steps, &[]);
}

#[test]
fn things_live_equally_long() {
    let mut steps = allocate();
    steps.extend([
        Step::Permit(vec![PEER]),
        Step::Pass(299),
        Step::Send(PEER, b"in time"),
        Step::Pass(2),
        Step::Send(PEER, b"too late"),
        Step::Peer(PEER, b"too late"),
        Step::Signed(Method::REFRESH, vec![lifetime(3600)]),
        Step::Bind(0x4000, PEER),
        Step::Pass(301),
        Step::Channel(0x4000, b"no permission"),
        Step::Permit(vec![PEER]),
        Step::Channel(0x4000, b"in time"),
        Step::Signed(Method::REFRESH, vec![]),
        Step::Pass(1800),
        Step::Channel(0x4000, b"long gone"),
        Step::Signed(Method::REFRESH, vec![]),
    ]);
    play(&steps, &[]);
}

const V6_PEER: &str = "[2001:db8:1::1]:9000";

/// RFC 8656 §7.2, §8: both families in one allocation, refreshed and ended each by itself.
#[test]
fn a_dual_allocation_goes_alike() {
    let transport = vec![requested_transport(17)];
    let both = vec![requested_transport(17), additional_family(2)];
    let end = |family| vec![requested_family(family), lifetime(0)];
    let steps = [
        Step::Unsigned(Method::ALLOCATE, transport),
        Step::Signed(Method::ALLOCATE, both.clone()),
        Step::Signed(Method::ALLOCATE, both),
        Step::Permit(vec![PEER, V6_PEER]),
        Step::Send(PEER, b"to IPv4"),
        Step::Send(V6_PEER, b"to IPv6"),
        Step::Bind(0x4000, PEER),
        Step::Bind(0x4001, V6_PEER),
        Step::Channel(0x4000, b"to IPv4"),
        Step::Channel(0x4001, b"to IPv6"),
        Step::Peer(PEER, b"from IPv4"),
        Step::Peer(V6_PEER, b"from IPv6"),
        Step::Signed(Method::REFRESH, vec![requested_family(1), lifetime(1200)]),
        Step::Signed(Method::REFRESH, end(2)),
        Step::Channel(0x4000, b"IPv4 is left"),
        Step::Channel(0x4001, b"IPv6 is not"),
        Step::Permit(vec![V6_PEER]),
        Step::Signed(Method::REFRESH, vec![requested_family(2)]),
        Step::Signed(Method::REFRESH, vec![]),
        Step::Signed(Method::REFRESH, vec![lifetime(0)]),
        Step::Signed(Method::REFRESH, vec![]),
    ];
    play(&steps, &[]);
}

/// RFC 8656 §7.2: attributes that do not go together.
#[test]
fn contradictions_in_an_allocate_are_refused_alike() {
    let token = (AttributeType::RESERVATION_TOKEN, vec![7; 8]);
    let cases = [
        vec![requested_family(1), additional_family(2)],
        vec![additional_family(1)],
        vec![even_port(true), additional_family(2)],
        vec![token.clone(), requested_family(2)],
        vec![token.clone(), additional_family(2)],
        vec![token, even_port(false)],
        vec![requested_family(3)],
    ];
    let mut steps = allocate();
    steps.pop();
    for mut attributes in cases {
        attributes.insert(0, requested_transport(17));
        steps.push(Step::Signed(Method::ALLOCATE, attributes));
    }
    let why = "RFC 8656 §7.2 step 7: an unknown family is not supported";
    play(&steps, &[(7, Outcome::Answer(Some(400)), why)]);
}

/// RFC 8656 §11.5, §18.13: which ICMP errors are told, and how.
#[test]
fn icmp_errors_are_told_alike() {
    let mut steps = allocate();
    steps.push(Step::Icmp(PEER, 3, 3, 0));
    steps.push(Step::Permit(vec![PEER]));
    for kind in [0, 3, 4, 5, 8, 11, 12] {
        for code in [0, 1, 3, 4, 13] {
            steps.push(Step::Icmp(PEER, kind, code, 0));
            // The rate of reports is bounded; theirs is not.
            steps.push(Step::Pass(1));
        }
    }
    steps.push(Step::Icmp(PEER, 3, 4, 1300));
    steps.push(Step::Icmp("198.51.100.1:1", 3, 3, 0));
    steps.push(Step::Icmp(OTHER, 3, 3, 0));
    steps.push(Step::Pass(300));
    steps.push(Step::Icmp(PEER, 3, 3, 0));
    play(&steps, &[]);
}

/// What a client of any mind may do next. A number is bound to one peer only, see
/// `theirs_binds_a_number_twice`.
fn any_step(random: &mut Random) -> Step {
    let peers = [PEER, OTHER, "198.51.100.1:9001", "[2001:db8:1::1]:1"];
    let which = u16::from(random.byte() % 4);
    let peer = peers[usize::from(which)];
    let number = random.pick(&[0x4000, 0x4010]) + which;
    let login = random.pick(&[Login::alice(), Login::bob()]).clone();
    match random.below(16) {
        0 => Step::Unsigned(Method::ALLOCATE, vec![requested_transport(17)]),
        1 | 2 => Step::Signed(Method::ALLOCATE, vec![requested_transport(17)]),
        3 => Step::SignedBy(login, Method::REFRESH, vec![]),
        4 => Step::Signed(
            Method::REFRESH,
            vec![lifetime(*random.pick(&[0, 1, 900, 9000]))],
        ),
        5 => Step::Permit(vec![peer]),
        6 => Step::Permit(vec![OTHER, PEER]),
        7 | 8 => Step::Bind(number, peer),
        9 | 10 => Step::Send(peer, b"data"),
        11 | 12 => Step::Channel(number, b"data"),
        13 | 14 => Step::Peer(peer, b"data"),
        _ => Step::Pass(*random.pick(&[1, 31, 97, 211])),
    }
}

#[test]
fn any_dialogue_goes_alike() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut steps = allocate();
        steps.extend((0..100).map(|_| any_step(&mut random)));
        play(&steps, &[]);
    }
}

/// RFC 8656 §12 leaves 0x5000 and above to others; theirs keeps the numbers of RFC 5766.
#[test]
fn theirs_has_the_channel_numbers_of_rfc_5766() {
    let mut steps = allocate();
    steps.push(Step::Bind(0x5000, PEER));
    let why = "RFC 8656 ends at 0x4FFF";
    play(&steps, &[(2, Outcome::Answer(None), why)]);
}

/// RFC 8656 §12.2: a number that is bound to one peer cannot be bound to another; theirs lets it.
#[test]
fn theirs_binds_a_number_twice() {
    let mut steps = allocate();
    steps.extend([Step::Bind(0x4000, PEER), Step::Bind(0x4000, OTHER)]);
    let why = "the number is bound to another transport address";
    play(&steps, &[(3, Outcome::Answer(None), why)]);
}

/// RFC 8656 §10.2: a request that is refused installs nothing; theirs installs the peers before the
/// one that is wrong.
#[test]
fn theirs_installs_a_part_of_a_refused_request() {
    let mut steps = allocate();
    steps.push(Step::Permit(vec![PEER, "[2001:db8:1::1]:1"]));
    steps.push(Step::Send(PEER, b"data"));
    let sent = Outcome::ToPeer(address(PEER), b"data".to_vec());
    play(&steps, &[(3, sent, "the request was refused with 443")]);
}
