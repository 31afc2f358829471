//! Tells how a NAT maps and filters (RFC 5780 §4.3, §4.4) and whether it hairpins (§3.4).

use std::net::SocketAddr;
use std::time::Duration;

use super::findings::{Behaviour, Findings, ProbeError};
use super::transaction::{Answer, Pace, State, Transaction};
use crate::stun::{Class, Message, TransactionId};
use crate::time::Instant;

/// RTO before anything is known of the path (RFC 8489 §6.2.1).
const FIRST_RTO: Duration = Duration::from_millis(500);
/// The least RTO that is made of a measured round trip.
const LEAST_RTO: Duration = Duration::from_millis(100);
/// Between two new transactions: not more than ten a second (RFC 5780 §5).
const SPACING: Duration = Duration::from_millis(100);
/// The flags of CHANGE-REQUEST (RFC 5780 §7.2).
const CHANGE_PORT: u32 = 0x2;
const CHANGE_BOTH: u32 = 0x6;

/// One of the two sockets of a probe, on one local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The one whose mapping is looked at.
    Main,
    /// The one that knocks from inside.
    Second,
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which socket.
    pub via: Via,
    /// Where it goes.
    pub to: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// What a probe starts with.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The server, at its primary address.
    pub server: SocketAddr,
    /// Where the main socket is bound: a single address and its port.
    pub local: SocketAddr,
    /// Random; the transaction ids are made of it.
    pub seed: [u8; 12],
    /// How long one request is waited for at most; RFC 8489 §6.2.1 waits 39.5 s.
    pub patience: Duration,
}

/// The tests of RFC 5780, by their order in time. None changes what a later one looks at: whatever
/// comes from the alternate address must be unasked for until filtering is known.
#[derive(Debug)]
pub struct NatProbe {
    setup: Setup,
    started: u8,
    /// Test I (RFC 5780 §4.2).
    reach: Transaction,
    /// Filtering tests II and III (§4.4).
    change_both: Option<Transaction>,
    change_port: Option<Transaction>,
    hairpin: Option<Transaction>,
    hairpinned: bool,
    /// Mapping tests II and III (§4.3).
    other_ip: Option<Transaction>,
    other_both: Option<Transaction>,
}

impl NatProbe {
    /// A probe that begins at `now`.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let pace = Pace {
            start: now,
            rto: FIRST_RTO,
            patience: setup.patience,
        };
        let id = TransactionId(setup.seed);
        Self {
            setup,
            started: 1,
            reach: Transaction::new(id, Via::Main, setup.server, pace),
            change_both: None,
            change_port: None,
            hairpin: None,
            hairpinned: false,
            other_ip: None,
            other_both: None,
        }
    }

    /// Handles a datagram that came from `from` to the socket `via`; anything else than an answer is
    /// ignored.
    pub fn handle_packet(&mut self, now: Instant, via: Via, from: SocketAddr, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else {
            return;
        };
        if message.class() == Class::Request {
            let knock = self.hairpin.as_ref();
            self.hairpinned |= via == Via::Main && knock.is_some_and(|own| own.owns(&message));
        } else if let Some(own) = self
            .transactions()
            .find(|own| own.via == via && own.owns(&message))
        {
            own.handle_response(now, from, &message);
        }
        self.advance(now);
    }

    /// The next request to send at `now`, until none.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let sent = self
            .transactions()
            .find_map(|own| own.is_to_be_sent(now).then(|| transmit(own)));
        if sent.is_none() {
            self.advance(now);
        }
        sent
    }

    /// When to call [`poll_transmit`](Self::poll_transmit) again.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.transactions().filter_map(|own| own.due()).min()
    }

    /// What was found out, once everything is.
    pub fn outcome(&self) -> Option<Result<Findings, ProbeError>> {
        let first = match self.reach.state {
            State::Waiting => return None,
            State::Silent => return Some(Err(ProbeError::Silent)),
            State::Refused(code) => return Some(Err(ProbeError::Refused(code))),
            State::Answered(answer) => answer,
        };
        let other = self.other(&first);
        let is_done = other.is_none() || self.has_filtering() && self.has_mapping(&first);
        is_done.then(|| {
            Ok(Findings {
                server: self.setup.server,
                other,
                local: self.setup.local,
                mapped: first.mapped,
                mapping: other.and_then(|_| self.mapping(&first)),
                filtering: self.filtering(),
                hairpinning: self.hairpin.as_ref().map(|_| self.hairpinned),
            })
        })
    }

    fn transactions(&mut self) -> impl Iterator<Item = &mut Transaction> {
        let later = [
            &mut self.change_both,
            &mut self.change_port,
            &mut self.hairpin,
            &mut self.other_ip,
            &mut self.other_both,
        ];
        std::iter::once(&mut self.reach).chain(later.into_iter().flatten())
    }

    /// The server's alternate address, if it can be used: another address and another port.
    fn other(&self, first: &Answer) -> Option<SocketAddr> {
        let server = self.setup.server;
        first.other.filter(|other| {
            other.ip() != server.ip()
                && other.port() != server.port()
                && other.is_ipv4() == server.is_ipv4()
        })
    }

    /// Starts the tests whose time has come.
    fn advance(&mut self, now: Instant) {
        let State::Answered(first) = self.reach.state else {
            return;
        };
        let Some(other) = self.other(&first) else {
            return;
        };
        if self.change_both.is_none() {
            self.start_filtering(now, &first, other);
        }
        if answered(self.change_both.as_ref()).is_some() {
            // The less demanding one has nothing left to tell.
            if let Some(test) = &mut self.change_port {
                test.state = State::Silent;
            }
        }
        let is_behind_nat = first.mapped != self.setup.local;
        if self.has_filtering() && is_behind_nat {
            self.start_mapping(now, &first, other);
        }
    }

    fn start_filtering(&mut self, now: Instant, first: &Answer, other: SocketAddr) {
        let server = self.setup.server;
        let port = SocketAddr::new(server.ip(), other.port());
        let both = self.begin(now, Via::Main, server, first);
        self.change_both = Some(both.changed(CHANGE_BOTH, other));
        let one = self.begin(now + SPACING, Via::Main, server, first);
        self.change_port = Some(one.changed(CHANGE_PORT, port));
        if first.mapped != self.setup.local {
            let start = now + 2 * SPACING;
            self.hairpin = Some(self.begin(start, Via::Second, first.mapped, first));
        }
    }

    fn start_mapping(&mut self, now: Instant, first: &Answer, other: SocketAddr) {
        if self.other_ip.is_none() {
            let to = SocketAddr::new(other.ip(), self.setup.server.port());
            self.other_ip = Some(self.begin(now + SPACING, Via::Main, to, first));
        }
        let second = answered(self.other_ip.as_ref());
        let moved = second.is_some_and(|second| second.mapped != first.mapped);
        if moved && self.other_both.is_none() {
            self.other_both = Some(self.begin(now + SPACING, Via::Main, other, first));
        }
    }

    fn begin(&mut self, start: Instant, via: Via, to: SocketAddr, first: &Answer) -> Transaction {
        let mut id = self.setup.seed;
        id[11] ^= self.started;
        self.started += 1;
        // RFC 6298 §2.2: SRTT and four times half of it.
        let measured = first.round_trip.map(|time| (time * 3).max(LEAST_RTO));
        let pace = Pace {
            start,
            rto: measured.unwrap_or(FIRST_RTO),
            patience: self.setup.patience,
        };
        Transaction::new(TransactionId(id), via, to, pace)
    }

    fn has_filtering(&self) -> bool {
        let has_ended = |own: &Option<Transaction>| own.as_ref().is_some_and(ended);
        let is_told = answered(self.change_both.as_ref()).is_some();
        is_told || has_ended(&self.change_both) && has_ended(&self.change_port)
    }

    fn filtering(&self) -> Option<Behaviour> {
        let state = |own: &Option<Transaction>| own.as_ref().map(|own| own.state);
        match (state(&self.change_both)?, state(&self.change_port)?) {
            (State::Answered(_), _) => Some(Behaviour::EndpointIndependent),
            (State::Silent, State::Answered(_)) => Some(Behaviour::AddressDependent),
            (State::Silent, State::Silent) => Some(Behaviour::AddressAndPortDependent),
            _ => None,
        }
    }

    fn has_mapping(&self, first: &Answer) -> bool {
        let knock = self.hairpin.as_ref();
        let has_knocked = self.hairpinned || knock.is_none_or(ended);
        let second = self.other_ip.as_ref();
        let is_told = match second.map(|second| second.state) {
            Some(State::Answered(answer)) if answer.mapped != first.mapped => {
                self.other_both.as_ref().is_some_and(ended)
            }
            Some(_) => second.is_some_and(ended),
            None => first.mapped == self.setup.local,
        };
        has_knocked && is_told
    }

    fn mapping(&self, first: &Answer) -> Option<Behaviour> {
        if first.mapped == self.setup.local {
            return Some(Behaviour::EndpointIndependent);
        }
        let second = answered(self.other_ip.as_ref())?;
        if second.mapped == first.mapped {
            return Some(Behaviour::EndpointIndependent);
        }
        let third = answered(self.other_both.as_ref())?;
        Some(if third.mapped == second.mapped {
            Behaviour::AddressDependent
        } else {
            Behaviour::AddressAndPortDependent
        })
    }
}

fn transmit(transaction: &Transaction) -> Transmit {
    Transmit {
        via: transaction.via,
        to: transaction.to,
        bytes: transaction.request.clone(),
    }
}

fn ended(transaction: &Transaction) -> bool {
    transaction.state != State::Waiting
}

fn answered(transaction: Option<&Transaction>) -> Option<Answer> {
    match transaction?.state {
        State::Answered(answer) => Some(answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
