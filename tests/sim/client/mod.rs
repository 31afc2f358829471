//! A TURN client as a small state machine: it allocates, permits, binds, sends, refreshes, and is not
//! always well-behaved.

mod requests;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::{AttributeType, Class, Message};
use turnstone::time::Instant;
use turnstone::turn::Lifetimes;

use crate::common::{Login, Response, channel_data, send_indication};
use crate::payload::Payload;
use crate::plan::{Ending, Plan, Whom};
use crate::properties::Property;
use crate::rng::Rng;
use crate::transaction::{Ask, Transaction};
use target::Target;

/// The relayed transport addresses that clients told each other outside of TURN.
pub(crate) type Book = BTreeMap<u16, SocketAddr>;

/// What a client puts on the network.
#[derive(Debug)]
pub(crate) enum Sent {
    /// A message from its present address.
    Message(Vec<u8>),
    /// The end of the connection from this address.
    End(SocketAddr),
}

/// The allocation, as far as the client knows.
#[derive(Clone, Copy, Debug)]
struct Held {
    relayed: SocketAddr,
    refresh: Instant,
}

/// A TURN client.
pub(crate) struct Client {
    pub(crate) id: u16,
    pub(crate) plan: Plan,
    /// Its present address, before any NAT.
    pub(crate) address: SocketAddr,
    login: Login,
    lifetimes: Lifetimes,
    rng: Rng,
    realm: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    /// How often it was challenged since its last success.
    challenges: u32,
    held: Option<Held>,
    transactions: Vec<Transaction>,
    targets: Vec<Target>,
    /// What it asked to be bound, ever; and the ports of its relayed addresses, ever.
    channels: BTreeSet<u16>,
    ports: BTreeSet<u16>,
    tick: Instant,
    send: Instant,
    retry: Instant,
    pub(crate) is_gone: bool,
    out: Vec<Sent>,
    /// A message that it sent before.
    old: Vec<u8>,
    pub(crate) sent: u32,
    pub(crate) sent_to_peers: u32,
    /// The numbers of its own payloads that came back, and how many came from other clients.
    pub(crate) echoed: BTreeSet<u32>,
    pub(crate) from_others: BTreeSet<(u16, u32)>,
}

impl Client {
    pub(crate) fn new(id: u16, plan: Plan, lifetimes: Lifetimes, rng: Rng) -> Self {
        Self {
            id,
            address: plan.address,
            login: plan.login.clone(),
            lifetimes,
            rng,
            realm: None,
            nonce: None,
            challenges: 0,
            held: None,
            transactions: Vec::new(),
            targets: plan.targets.iter().map(Target::new).collect(),
            channels: BTreeSet::new(),
            ports: BTreeSet::new(),
            tick: plan.start,
            send: plan.start,
            retry: plan.start,
            is_gone: false,
            out: Vec::new(),
            old: Vec::new(),
            sent: 0,
            sent_to_peers: 0,
            echoed: BTreeSet::new(),
            from_others: BTreeSet::new(),
            plan,
        }
    }

    /// When it wants to act next; never again once it is gone.
    pub(crate) fn next(&self) -> Option<Instant> {
        let due = self.transactions.iter().map(Transaction::due).min();
        let next = due.map_or(self.tick, |due| due.min(self.tick));
        (!self.is_gone).then_some(next)
    }

    /// The relayed transport address to tell the others.
    pub(crate) fn relayed(&self) -> Option<SocketAddr> {
        self.held.map(|held| held.relayed)
    }

    /// Takes what it wants to send.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.out)
    }

    /// Does what is due.
    pub(crate) fn act(&mut self, now: Instant, book: &Book) {
        if self.is_gone || now < self.plan.start {
            return;
        }
        self.retransmit(now);
        if now < self.tick {
            return;
        }
        self.tick = now + self.rng.millis(50..200);
        if now >= self.plan.end_at {
            return self.end(now);
        }
        if self.plan.moves.first().is_some_and(|at| *at <= now) {
            self.plan.moves.remove(0);
            self.change_address();
        }
        self.keep_allocation(now);
        self.keep_targets(now, book);
        if self.held.is_some() && now >= self.send {
            self.send = now + self.rng.millis(self.plan.send_every.clone());
            self.send_data(now);
            if self.rng.chance(self.plan.mischief) {
                self.misbehave();
            }
        }
    }

    /// Takes a message from the server.
    pub(crate) fn handle(&mut self, now: Instant, message: &[u8]) {
        if let [n0 @ 0x40..=0x4F, n1, l0, l1, rest @ ..] = message {
            let number = u16::from_be_bytes([*n0, *n1]);
            Property::ChannelsAreBound.holds(self.channels.contains(&number), || {
                format!("client {} never bound {number:#x}", self.id)
            });
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            return self.take_data(&rest[..length]);
        }
        let parsed = Message::parse(message).expect("a well-formed message");
        match parsed.class() {
            Class::Success | Class::Error => self.take_response(now, &Response(message.to_vec())),
            _ => {
                let data = parsed.attribute(AttributeType::DATA).expect("data");
                self.take_data(data.value);
            }
        }
    }

    fn take_data(&mut self, payload: &[u8]) {
        let read = Payload::decode(payload);
        Property::PayloadsArriveUnaltered.holds(read.is_some(), || {
            format!("client {} got {payload:02x?}", self.id)
        });
        let Some(read) = read else { return };
        Property::DataReachesItsClientAlone.holds(self.ports.contains(&read.through), || {
            format!("client {} got {read:?}", self.id)
        });
        if read.origin == self.id {
            self.echoed.insert(read.number);
        } else {
            self.from_others.insert((read.origin, read.number));
        }
    }

    fn take_response(&mut self, now: Instant, response: &Response) {
        let id = response.message().transaction();
        let is_it = |transaction: &Transaction| transaction.id == id;
        let Some(place) = self.transactions.iter().position(is_it) else {
            return;
        };
        let ask = self.transactions.remove(place).ask;
        match response.code() {
            None => self.take_success(now, ask, response),
            Some(401 | 438) => self.take_challenge(now, ask, response),
            Some(437) if ask != Ask::Allocate => self.lose_allocation(),
            Some(437) if self.held.is_none() => self.change_address(),
            Some(code) => self.take_refusal(now, ask, code),
        }
    }

    fn take_success(&mut self, now: Instant, ask: Ask, response: &Response) {
        let signed = ask == Ask::Binding || response.is_signed_by(&self.login);
        self.challenges = 0;
        Property::AnswersAreAuthentic.holds(signed, || format!("the answer to {ask:?}"));
        match ask {
            Ask::Binding => {}
            Ask::Allocate => {
                let relayed = response.xor_address(AttributeType::XOR_RELAYED_ADDRESS);
                let relayed = relayed.expect("a relayed address");
                self.lose_allocation();
                self.ports.insert(relayed.port());
                let refresh = now + half(response);
                self.held = Some(Held { relayed, refresh });
            }
            Ask::Refresh(0) => self.is_gone = true,
            Ask::Refresh(_) => {
                if let Some(held) = &mut self.held {
                    held.refresh = now + half(response);
                }
            }
            Ask::Permit(place) | Ask::Bind(place) => {
                // The channel lives longer; it is renewed with the permission.
                let lifetime = self.lifetimes.permission.min(self.lifetimes.channel);
                self.targets[place].until = now + lifetime;
                self.targets[place].renew = now + lifetime / 2;
            }
        }
    }

    fn take_challenge(&mut self, now: Instant, ask: Ask, response: &Response) {
        self.realm = response.value(AttributeType::REALM);
        self.nonce = response.value(AttributeType::NONCE);
        self.challenges += 1;
        if self.challenges < 5 {
            return self.ask(now, ask);
        }
        // The credential is good no more.
        self.challenges = 0;
        self.retry = now + self.rng.millis(1000..5000);
        self.lose_allocation();
    }

    fn take_refusal(&mut self, now: Instant, ask: Ask, code: u16) {
        match ask {
            Ask::Permit(place) | Ask::Bind(place) => {
                let target = &mut self.targets[place];
                // A channel that conflicts with an older one of ours: send without.
                target.wants_channel &= code != 400;
                target.channel = None;
                target.renew = now + self.rng.millis(500..1500);
            }
            Ask::Refresh(0) => self.is_gone = true,
            Ask::Allocate => self.retry = now + self.rng.millis(500..3000),
            Ask::Binding | Ask::Refresh(_) => {}
        }
    }

    fn retransmit(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        for transaction in &mut self.transactions {
            if transaction.due() > now {
                continue;
            }
            match transaction.again() {
                Some(message) => self.out.push(Sent::Message(message.to_vec())),
                None => given_up.push(transaction.id),
            }
        }
        self.transactions
            .retain(|transaction| !given_up.contains(&transaction.id));
    }

    fn keep_allocation(&mut self, now: Instant) {
        match self.held {
            None if now >= self.retry && !self.asks(|ask| ask == Ask::Allocate) => {
                self.ask(now, Ask::Allocate);
            }
            Some(held) if now >= held.refresh => {
                let is_refresh = |ask| matches!(ask, Ask::Refresh(_));
                if !self.asks(is_refresh) {
                    self.ask(now, Ask::Refresh(self.plan.lifetime));
                }
            }
            _ => {}
        }
    }

    fn keep_targets(&mut self, now: Instant, book: &Book) {
        for place in 0..self.targets.len() {
            self.targets[place].find(book);
            let target = &self.targets[place];
            let is_due = target.peer.is_some() && now >= target.renew;
            let asked = self.asks(|ask| ask == Ask::Permit(place) || ask == Ask::Bind(place));
            if self.held.is_none() || !is_due || asked {
                continue;
            }
            if target.wants_channel {
                let number = target.channel.unwrap_or_else(|| self.next_channel());
                self.channels.insert(number);
                self.targets[place].channel = Some(number);
                self.ask(now, Ask::Bind(place));
            } else {
                self.ask(now, Ask::Permit(place));
            }
        }
    }

    fn send_data(&mut self, now: Instant) {
        for place in 0..self.targets.len() {
            let Some(held) = self.held else { return };
            let target = &self.targets[place];
            // Who misbehaves also overstays.
            let until = target.until + Duration::from_secs(self.plan.mischief / 10);
            let Some(peer) = target.peer.filter(|_| now < until) else {
                continue;
            };
            let (through, is_echoed) = match target.whom {
                Whom::Peer(_) => (held.relayed.port(), true),
                Whom::Client(_) => (peer.port(), false),
            };
            let payload = Payload {
                origin: self.id,
                through,
                number: self.sent,
            };
            let message = match target.channel {
                Some(number) => channel_data(number, &payload.encode()),
                None => send_indication(peer, &payload.encode()),
            };
            self.sent += 1;
            self.sent_to_peers += u32::from(is_echoed);
            self.put(message);
        }
    }

    fn end(&mut self, now: Instant) {
        match self.plan.ending {
            Ending::Delete if self.held.is_some() => {
                if !self.asks(|ask| ask == Ask::Refresh(0)) {
                    self.ask(now, Ask::Refresh(0));
                }
            }
            Ending::Disconnect => {
                self.out.push(Sent::End(self.address));
                self.is_gone = true;
            }
            Ending::Delete | Ending::Crash => self.is_gone = true,
            Ending::Restart => {
                self.forget();
                self.plan.ending = Ending::Crash;
                self.plan.end_at = now + Duration::from_secs(20);
            }
        }
    }

    /// Goes on from another address. A datagram socket does not notice that the server will not know
    /// it there; a connection does.
    fn change_address(&mut self) {
        let before = self.address;
        self.address.set_port(before.port() + 1);
        if self.plan.transport.is_stream() {
            self.out.push(Sent::End(before));
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.transactions.clear();
        self.nonce = None;
        self.realm = None;
        self.lose_allocation();
    }

    fn lose_allocation(&mut self) {
        self.held = None;
        for target in &mut self.targets {
            target.lose();
        }
    }

    fn asks(&self, is_it: impl Fn(Ask) -> bool) -> bool {
        self.transactions.iter().any(|t| is_it(t.ask))
    }
}

/// Half of the lifetime in the response.
fn half(response: &Response) -> Duration {
    let seconds = response.lifetime().expect("a lifetime");
    Duration::from_secs(seconds.into()) / 2
}
