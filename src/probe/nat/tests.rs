//! Every combination of NAT behaviours, on virtual time, against a made-up server.

use std::collections::HashMap;

use super::*;
use crate::stun::{AttributeType, MessageBuilder, Method};

const SERVER: &str = "192.0.2.10:3478";
const OTHER: &str = "192.0.2.11:3479";
const INSIDE: &str = "10.0.0.2:4000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A network with a NAT (or none) and a server of RFC 5780.
struct Network {
    mapping: Option<Behaviour>,
    filtering: Behaviour,
    hairpins: bool,
    /// What the server says of itself.
    other: Option<SocketAddr>,
    is_deaf: bool,
    refuses_change: bool,
    /// Outside ports by what the NAT looks at.
    ports: HashMap<(Via, String), u16>,
    /// Whom the main socket has sent to.
    contacted: Vec<SocketAddr>,
}

impl Network {
    fn new(mapping: Option<Behaviour>, filtering: Behaviour) -> Self {
        Self {
            mapping,
            filtering,
            hairpins: false,
            other: Some(at(OTHER)),
            is_deaf: false,
            refuses_change: false,
            ports: HashMap::new(),
            contacted: Vec::new(),
        }
    }

    fn mapped(&mut self, via: Via, to: SocketAddr) -> SocketAddr {
        let seen = match self.mapping {
            None => return at(INSIDE),
            Some(Behaviour::EndpointIndependent) => String::new(),
            Some(Behaviour::AddressDependent) => to.ip().to_string(),
            Some(Behaviour::AddressAndPortDependent) => to.to_string(),
        };
        let next = 40_000 + u16::try_from(self.ports.len()).unwrap();
        let port = *self.ports.entry((via, seen)).or_insert(next);
        SocketAddr::new(at("203.0.113.1:0").ip(), port)
    }

    fn lets_in(&self, from: SocketAddr) -> bool {
        self.contacted.iter().any(|contacted| match self.filtering {
            Behaviour::EndpointIndependent => true,
            Behaviour::AddressDependent => contacted.ip() == from.ip(),
            Behaviour::AddressAndPortDependent => *contacted == from,
        })
    }

    /// What comes back for `sent`: to which socket, from where, which bytes.
    fn carry(&mut self, sent: &Transmit) -> Option<(Via, SocketAddr, Vec<u8>)> {
        let mapped = self.mapped(sent.via, sent.to);
        if sent.via == Via::Second {
            return self
                .hairpins
                .then(|| (Via::Main, mapped, sent.bytes.clone()));
        }
        self.contacted.push(sent.to);
        let (from, bytes) = self.answer(sent, mapped)?;
        self.lets_in(from).then_some((Via::Main, from, bytes))
    }

    fn answer(&self, sent: &Transmit, mapped: SocketAddr) -> Option<(SocketAddr, Vec<u8>)> {
        if self.is_deaf {
            return None;
        }
        let request = Message::parse(&sent.bytes).unwrap();
        let change = request.attribute(AttributeType::CHANGE_REQUEST);
        let flags = change.map(|attribute| attribute.u32().unwrap());
        let mut bytes = Vec::new();
        let id = request.transaction();
        if flags.is_some() && self.refuses_change {
            MessageBuilder::new(&mut bytes, Class::Error, Method::BINDING, id).error_code(420, "");
            return Some((sent.to, bytes));
        }
        let from = match flags.unwrap_or(0) {
            CHANGE_BOTH => at(OTHER),
            CHANGE_PORT => SocketAddr::new(sent.to.ip(), at(OTHER).port()),
            _ => sent.to,
        };
        let mut response = MessageBuilder::new(&mut bytes, Class::Success, Method::BINDING, id);
        response.xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped);
        if let Some(other) = self.other {
            response.address(AttributeType::OTHER_ADDRESS, other);
        }
        Some((from, bytes))
    }
}

/// The outcome, and after how long.
fn probe(network: &mut Network) -> (Result<Findings, ProbeError>, Duration) {
    let setup = Setup {
        server: at(SERVER),
        local: at(INSIDE),
        seed: *b"a seed 12345",
        patience: Duration::from_secs(60),
    };
    let mut now = Instant::ZERO;
    let mut probe = NatProbe::new(setup, now);
    loop {
        while let Some(sent) = probe.poll_transmit(now) {
            if let Some((via, from, bytes)) = network.carry(&sent) {
                probe.handle_packet(now, via, from, b"noise");
                probe.handle_packet(now, via, at("198.51.100.9:9"), &bytes);
                probe.handle_packet(now, via, from, &bytes);
            }
        }
        if let Some(outcome) = probe.outcome() {
            return (outcome, now.since(Instant::ZERO));
        }
        now = probe.poll_timeout().expect("something is due");
    }
}

fn findings(network: &mut Network) -> Findings {
    probe(network).0.expect("findings")
}

const ALL: [Behaviour; 3] = [
    Behaviour::EndpointIndependent,
    Behaviour::AddressDependent,
    Behaviour::AddressAndPortDependent,
];

#[test]
fn every_nat_is_told_from_every_other() {
    for (mapping, filtering) in ALL.into_iter().flat_map(|m| ALL.map(|f| (m, f))) {
        for hairpins in [false, true] {
            let mut network = Network::new(Some(mapping), filtering);
            network.hairpins = hairpins;
            let found = findings(&mut network);
            assert!(found.is_behind_nat());
            assert_eq!(found.mapping, Some(mapping), "{mapping} {filtering}");
            assert_eq!(found.filtering, Some(filtering), "{mapping} {filtering}");
            assert_eq!(found.hairpinning, Some(hairpins));
        }
    }
}

#[test]
fn without_a_nat_a_firewall_still_filters() {
    for filtering in ALL {
        let found = findings(&mut Network::new(None, filtering));
        assert!(!found.is_behind_nat());
        assert_eq!(found.mapping, Some(Behaviour::EndpointIndependent));
        assert_eq!(
            (found.filtering, found.hairpinning),
            (Some(filtering), None)
        );
    }
}

/// RFC 5780 §4.3: without OTHER-ADDRESS the tests cannot be run.
#[test]
fn without_an_alternate_address_only_the_mapped_one_is_known() {
    for other in [
        None,
        Some(at("192.0.2.10:3479")),
        Some(at("192.0.2.11:3478")),
    ] {
        let mut network = Network::new(Some(ALL[0]), ALL[0]);
        network.other = other;
        let found = findings(&mut network);
        assert_eq!(
            (found.other, found.mapping, found.filtering),
            (None, None, None)
        );
        assert_eq!(found.mapped, at("203.0.113.1:40000"));
    }
}

/// RFC 5780 §4.2, with the retransmissions of RFC 8489 §6.2.1.
#[test]
fn silence_means_that_udp_is_blocked() {
    let mut network = Network::new(Some(ALL[0]), ALL[0]);
    network.is_deaf = true;
    let (outcome, after) = probe(&mut network);
    assert_eq!(outcome, Err(ProbeError::Silent));
    assert_eq!(after, Duration::from_millis(39_500));
    assert_eq!(network.contacted.len(), 7);
}

/// RFC 5780 §5: prepared to receive a 420.
#[test]
fn a_server_that_refuses_change_request_leaves_filtering_open() {
    let mut network = Network::new(Some(ALL[2]), ALL[0]);
    network.refuses_change = true;
    let found = findings(&mut network);
    assert_eq!((found.mapping, found.filtering), (Some(ALL[2]), None));
}

/// RFC 5780 §3.2: nothing goes to the alternate address before filtering is known; §5: not more than
/// ten new transactions a second.
#[test]
fn the_alternate_address_is_contacted_last() {
    let mut network = Network::new(Some(ALL[2]), ALL[2]);
    let (_, after) = probe(&mut network);
    let first = network.contacted.iter().position(|to| *to != at(SERVER));
    assert!(
        network.contacted[first.expect("contacted")..]
            .iter()
            .all(|to| *to != at(SERVER))
    );
    assert!(after < Duration::from_secs(10), "{after:?}");
}
