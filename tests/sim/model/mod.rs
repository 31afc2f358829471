//! Requirement S16: whatever sequence of requests, time and events comes, each answer is the one that a
//! simple table predicts, and in the end all is back where it began.

mod allocate;
mod extra;
mod request;
mod signing;
mod succession;
mod table;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::{HEADER_LENGTH, Method, PasswordAlgorithm};
use turnstone::time::Instant;
use turnstone::turn::{
    Counter, Family, FiveTuple, Lifetimes, Limits, Policy, RequestMethod, Security, Stats,
    Transport,
};

use crate::common::{
    Login, Out, Response, World, address, lifetime, policy, requested_transport, udp,
};
use crate::coverage::{Coverage, answers};
use crate::properties::Property;
use crate::rng::Rng;
use crate::seeds::each_seed;
use allocate::{FIRST_PORT, Granted, Sockets};
use request::{Body, Request, Signature, Value, clients};
use table::{Answer, Table};

const PORTS: u16 = 4;
const NONCE: Duration = Duration::from_secs(12);
/// Ways to sign and things to get, each of which must succeed in some run.
const SUCCESSES: usize = 10;

#[test]
fn every_answer_is_the_one_that_the_table_predicts() {
    let coverage = Coverage::new();
    let seen = RefCell::new(BTreeSet::new());
    let runs = each_seed(400, |rng| {
        let mut run = Run::new();
        for _ in 0..250 {
            run.step(rng);
        }
        run.end();
        coverage.add(run.world.server.stats());
        run.retired.iter().for_each(|stats| coverage.add(stats));
        seen.borrow_mut().extend(run.seen);
    });
    if runs >= 400 {
        assert_eq!(seen.borrow().len(), SUCCESSES, "{seen:?}");
        coverage.check(&every_answer());
    }
}

/// A shard wakes some milliseconds after it wanted to; its answers must not tell.
#[test]
fn a_request_finds_nothing_that_has_expired_however_late_the_shard_wakes() {
    let mut world = World::new(short_policy());
    let (client, peer) = (udp("5.5.5.1:4000"), address("198.51.100.1:7"));
    world.allocate(client);
    world.now.instant = world.now.instant + Duration::from_secs(10);
    let late = world.ask(&Login::alice(), client, Method::REFRESH, &[lifetime(40)]);
    assert_eq!(late.code(), Some(437), "the allocation is over");
    world.allocate(client);
    let late = world.ask(&Login::alice(), client, Method::REFRESH, &[lifetime(40)]);
    assert_eq!(late.code(), None);
    assert_eq!(world.bind_channel(client, 0x4000, peer).code(), None);
    world.now.instant = world.now.instant + Duration::from_secs(7);
    assert_eq!(world.bind_channel(client, 0x4001, peer).code(), None);
}

/// Allocations made, by transport and family.
fn created() -> impl Iterator<Item = Counter> {
    let transports = Transport::ALL.into_iter();
    transports.flat_map(|transport| {
        Family::ALL.map(|family| Counter::AllocationsCreated(transport, family))
    })
}

fn every_answer() -> Vec<Counter> {
    let all = [400, 401, 420, 437, 438];
    [
        answers(RequestMethod::Binding, &[420]),
        answers(RequestMethod::Allocate, &all),
        answers(RequestMethod::Allocate, &[440, 442, 486, 508]),
        answers(RequestMethod::Refresh, &all),
        answers(RequestMethod::Refresh, &[441, 443]),
        answers(RequestMethod::CreatePermission, &all),
        answers(RequestMethod::CreatePermission, &[403, 441, 443, 508]),
        answers(RequestMethod::ChannelBind, &all),
        answers(RequestMethod::ChannelBind, &[403, 441, 443, 508]),
    ]
    .concat()
}

/// The server, the table, and what the clients remember.
struct Run {
    world: World,
    table: Table,
    /// Each client's first nonce, and since when it has it.
    nonces: BTreeMap<SocketAddr, (Instant, Vec<u8>)>,
    /// The Allocate requests that succeeded, with their answers and the age of their nonce.
    allocated: Vec<(FiveTuple, Vec<u8>, Response, Instant)>,
    /// What succeeded.
    seen: BTreeSet<&'static str>,
    /// The counters of the processes whose place others took.
    retired: Vec<Stats>,
}

impl Run {
    fn new() -> Self {
        let policy = short_policy();
        Self {
            table: Table::new(policy.lifetimes, policy.limits),
            world: World::new(policy),
            nonces: BTreeMap::new(),
            allocated: Vec::new(),
            seen: BTreeSet::new(),
            retired: Vec::new(),
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0 | 1 => self.pass(rng.millis(1..5_000)),
            2 if rng.chance(30) => self.client_gone(rng.pick(&clients())),
            2 if rng.chance(20) => self.succeed(),
            3 => self.retransmit(rng),
            _ => self.request(rng),
        }
        self.check_gauges();
    }

    fn client_gone(&mut self, client: FiveTuple) {
        self.world.client_gone(client);
        self.table.remove(&client);
        self.allocated.retain(|(from, ..)| *from != client);
    }

    /// Milliseconds are what nonces count.
    fn pass(&mut self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).expect("a short while");
        self.world.pass(Duration::from_millis(millis));
        self.table.expire(self.world.now.instant);
    }

    fn request(&mut self, rng: &mut Rng) {
        let request = Request::random(rng, &self.table.relays(), &self.table.tokens);
        let (since, nonce) = self.nonce(&request);
        let id = self.world.transaction();
        let message = request.encode(id, &nonce);
        self.world.bind = match rng.below(20) {
            0 => Err(true),
            1 => Err(false),
            _ => Ok(()),
        };
        self.world.refused = match rng.below(20) {
            0 => Some(Family::V4),
            1 => Some(Family::V6),
            _ => None,
        };
        let is_bare = message.len() == HEADER_LENGTH && request.body != Body::Binding;
        if is_bare && !request.from.transport.is_stream() {
            // No client sends that; answering only helps a reflector (S7).
            return assert_eq!(self.world.send(request.from, &message), Out::Nothing);
        }
        let now = self.world.now;
        let sockets = Sockets {
            bind: self.world.bind,
            refused: self.world.refused,
        };
        let is_good = now.instant.since(since) < NONCE
            && !matches!(
                request.signature,
                Signature::ForgedNonce | Signature::ForeignNonce
            );
        let expected = self.table.answer(now, &request, is_good, sockets);
        let response = self.world.send(request.from, &message).response();
        let answer = answer_in(&response);
        Property::AnswersArePredicted.holds(answer == expected, || {
            format!("{answer:?} instead of {expected:?} to {request:?}")
        });
        if answer.is_ok() && request.body != Body::Binding {
            self.check_integrity(&request, &response);
        }
        if matches!(request.body, Body::Allocate { .. }) && answer.is_ok() {
            let granted = self.table.granted(now.instant, &request.from, &response);
            self.note(&granted, &request.body);
            self.allocated.retain(|(from, ..)| *from != request.from);
            let entry = (request.from, message, response, since);
            self.allocated.push(entry);
        }
    }

    /// A response is signed as its request was.
    fn check_integrity(&mut self, request: &Request, response: &Response) {
        let (dialect, message) = (request.dialect, response.message());
        let key = dialect.key(&request.login);
        let checked = message.check_integrity(dialect.response_integrity(), key.as_bytes());
        Property::AnswersArePredicted.holds(checked.is_ok(), || {
            format!("{request:?} is answered without its integrity")
        });
        if dialect.hides_name {
            self.seen.insert("a hidden name");
        }
        self.seen.insert(match dialect.choice {
            None => "a client of RFC 5389",
            Some(PasswordAlgorithm::Md5) => "MD5 by choice",
            Some(PasswordAlgorithm::Sha256) => "SHA-256",
        });
    }

    fn note(&mut self, granted: &Granted, body: &Body) {
        let Body::Allocate { extra, .. } = body else {
            return;
        };
        if extra.additional != Value::Missing {
            self.seen.insert(match granted.missing {
                None => "both families",
                Some(Family::V4) => "IPv6 of both",
                Some(Family::V6) => "IPv4 of both",
            });
        }
        if granted.reserves {
            self.seen.insert("a reservation");
        }
        if granted.redeemed.is_some() {
            self.seen.insert("a token redeemed");
        }
    }

    /// The nonce that the request is signed with, and when it was made.
    fn nonce(&mut self, request: &Request) -> (Instant, Vec<u8>) {
        let from = request.from;
        let now = self.world.now.instant;
        match request.signature {
            Signature::OldNonce => {
                let fresh = self.world.nonce(from);
                let first = self.nonces.entry(from.client).or_insert((now, fresh));
                first.clone()
            }
            Signature::ForgedNonce => (now, b"AAAAAAAAAAAAAAAAAAAAAAAA".to_vec()),
            Signature::ForeignNonce => {
                let mut other = from;
                other.client.set_port(4999);
                (now, self.world.nonce(other))
            }
            _ => (now, self.world.nonce(from)),
        }
    }

    /// A request that made a live allocation gets the same answer again (S14), and nobody else does.
    fn retransmit(&mut self, rng: &mut Rng) {
        let table = &self.table;
        self.allocated
            .retain(|(from, _, response, _)| table.relays_of(from) == allocate::relayed(response));
        if self.allocated.is_empty() {
            return;
        }
        let place = rng.below(self.allocated.len());
        let (from, message, first, since) = self.allocated[place].clone();
        if rng.chance(30) {
            return self.imitate(from, &first);
        }
        let is_fresh = self.world.now.instant.since(since) < NONCE;
        let again = self.world.send(from, &message).response();
        let right = if is_fresh {
            again == first
        } else {
            again.code() == Some(438)
        };
        Property::AnswersArePredicted.holds(right, || {
            format!("a retransmission of {from:?} got {:?}", again.code())
        });
    }

    /// Another user sends an Allocate request with the transaction id of the first.
    fn imitate(&mut self, from: FiveTuple, first: &Response) {
        let owner = self.table.owner_of(&from);
        let logins = [Login::alice(), Login::bob()];
        let mut others = logins.into_iter();
        let other = others.find(|login| Some(&*login.username) != owner);
        let other = other.expect("two users");
        let nonce = self.world.nonce(from);
        let id = first.message().transaction();
        let request = other.sign(id, Method::ALLOCATE, &[requested_transport(17)], &nonce);
        let code = self.world.send(from, &request).response().code();
        Property::AnswersArePredicted.holds(code == Some(437), || {
            format!("an imitation of {from:?} got {code:?}")
        });
    }

    fn check_gauges(&self) {
        let stats = self.world.server.stats();
        let get = |counter| usize::try_from(stats.get(counter)).expect("few");
        let allocations = |transport: &Transport| {
            let of = |family| get(Counter::Allocations(*transport, family));
            Family::ALL.map(of).iter().sum::<usize>()
        };
        let gauges = (
            Transport::ALL.iter().map(allocations).sum::<usize>(),
            get(Counter::Permissions),
            get(Counter::Channels),
        );
        let census = self.table.census();
        Property::GaugesTellTheTruth.holds(gauges == census, || {
            format!("gauges {gauges:?}, table {census:?}")
        });
        let idle = self.world.shared.is_idle();
        Property::GaugesTellTheTruth.holds(idle == self.table.is_idle(), || "the quota".into());
    }

    /// Everything expires, and every port can be taken again.
    fn end(&mut self) {
        self.pass(Duration::from_secs(60));
        self.check_gauges();
        let world = &mut self.world;
        let hold = |condition, what: &str| {
            Property::EverythingReturns.holds(condition, || what.to_owned());
        };
        hold(world.relays.is_empty(), "relay sockets are open");
        hold(world.shared.is_idle(), "quota is taken");
        hold(world.server.poll_timeout().is_none(), "deadlines are left");
        world.bind = Ok(());
        world.refused = None;
        let mut generous = short_policy();
        generous.limits = Limits::default();
        world.swap_policy(generous);
        for family in [1, 2] {
            for port in 0..PORTS {
                let client = udp(&format!("5.5.7.{family}:{}", 5000 + port));
                world.allocate_family(client, Some(family));
            }
        }
        hold(
            world.relays.len() == 2 * usize::from(PORTS),
            "a port is missing",
        );
    }
}

/// The lifetime or the error code that a response carries.
fn answer_in(response: &Response) -> Answer {
    match response.code() {
        Some(code) => Err(code),
        None => Ok(response.lifetime()),
    }
}

fn short_policy() -> Policy {
    let seconds = Duration::from_secs;
    let mut policy = policy();
    policy.lifetimes = Lifetimes {
        allocation: seconds(10),
        allocation_max: seconds(40),
        permission: seconds(5),
        channel: seconds(7),
        nonce: NONCE,
    };
    policy.limits = Limits {
        allocations: 6,
        allocations_per_user: 3,
        allocations_per_source: 2,
        permissions_per_allocation: 2,
        channels_per_allocation: 2,
        ..Limits::default()
    };
    policy.relay.ports = FIRST_PORT..=FIRST_PORT + PORTS - 1;
    let both = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
    policy.security = Security::new(&both, true);
    for login in [Login::alice(), Login::bob()] {
        let key = signing::Dialect {
            choice: Some(PasswordAlgorithm::Sha256),
            ..signing::Dialect::RFC_5389
        };
        let key = key.key(&login);
        policy.credentials.add_user(&login.username, key);
    }
    policy
}
