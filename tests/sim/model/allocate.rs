//! What an Allocate request gets (RFC 8656 §7.2): relays, a reservation, or why not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turnstone::stun::AttributeType;
use turnstone::time::Instant;
use turnstone::turn::{Family, FiveTuple};

use super::PORTS;
use super::extra::Extra;
use super::request::{Request, Value, family_of};
use super::table::{Answer, Entry, Relay, Table, check, is};
use crate::common::Response;

/// How long a reservation is held.
const HELD: Duration = Duration::from_secs(30);
pub(super) const FIRST_PORT: u16 = 50_000;

/// What becomes of the sockets that are bound for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sockets {
    pub(super) bind: Result<(), bool>,
    /// The family that the host refuses.
    pub(super) refused: Option<Family>,
}

/// A port that waits for its token.
#[derive(Debug)]
pub(super) struct Reservation {
    token: Vec<u8>,
    address: SocketAddr,
    account: Account,
    pub(super) expires: Instant,
}

/// Whose quota it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    person: String,
    source: IpAddr,
}

/// What the response to an Allocate must say beside the lifetime.
#[derive(Clone, Debug, Default)]
pub(super) struct Granted {
    families: BTreeSet<Family>,
    is_even: bool,
    pub(super) reserves: bool,
    pub(super) missing: Option<Family>,
    /// The very address, if it was reserved.
    pub(super) redeemed: Option<SocketAddr>,
}

impl Account {
    pub(super) fn new(username: &str, client: &FiveTuple) -> Self {
        let person = username
            .split_once(':')
            .map_or(username, |(_, person)| person);
        Self {
            person: person.to_owned(),
            source: client.client.ip(),
        }
    }
}

impl Table {
    pub(super) fn answer_allocate(
        &mut self,
        now: Instant,
        request: &Request,
        (transport, family, lifetime): (Value<u8>, Value<u8>, Value<u32>),
        extra: &Extra,
        sockets: Sockets,
    ) -> Answer {
        check(is(transport)? == 17, 442)?;
        if let Some(token) = &extra.token {
            let alone = (family, extra.additional, extra.even_port);
            check(
                alone == (Value::Missing, Value::Missing, Value::Missing),
                400,
            )?;
            check(token.len() == 8, 400)?;
            let seconds = self.lifetime(lifetime)?;
            return self.redeem(now, request, token, seconds);
        }
        let families = families(family, extra)?;
        let seconds = self.lifetime(lifetime)?;
        let reserves = extra.even_port == Value::Is(true);
        let account = Account::new(&request.login.username, &request.from);
        self.check_quota(&account, if reserves { 2 } else { 1 })?;
        let is_even = extra.even_port != Value::Missing;
        let (had, missing): (Vec<_>, Vec<_>) = families.into_iter().partition(|family| {
            let is_bound = sockets.bind.is_ok() && sockets.refused != Some(*family);
            is_bound && self.has_port(*family, is_even, reserves)
        });
        check(!had.is_empty(), 508)?;
        let granted = Granted {
            families: had.into_iter().collect(),
            is_even,
            reserves,
            missing: missing.first().copied(),
            redeemed: None,
        };
        self.begin(now, request, granted, seconds);
        Ok(Some(seconds))
    }

    fn redeem(&mut self, now: Instant, request: &Request, token: &[u8], seconds: u32) -> Answer {
        let mut held = self.reservations.iter();
        let place = held.position(|held| held.token == token).ok_or(508_u16)?;
        let account = Account::new(&request.login.username, &request.from);
        // Whoever reserved it has paid for it.
        if self.reservations[place].account != account {
            self.check_quota(&account, 1)?;
        }
        let address = self.reservations.remove(place).address;
        let granted = Granted {
            families: [Family::of(address.ip())].into(),
            redeemed: Some(address),
            ..Granted::default()
        };
        self.begin(now, request, granted, seconds);
        Ok(Some(seconds))
    }

    fn begin(&mut self, now: Instant, request: &Request, granted: Granted, seconds: u32) {
        let expires = now + Duration::from_secs(seconds.into());
        let relay = Relay {
            address: None,
            expires,
        };
        let relays = granted.families.iter().map(|family| (*family, relay));
        let entry = Entry {
            username: request.login.username.clone(),
            algorithm: request.dialect.algorithm(),
            relays: relays.collect(),
            granted,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        self.entries.push((request.from, entry));
    }

    /// Each share of a request is taken as if it were alone: 508 for the server's, 486 for the others'.
    fn check_quota(&self, account: &Account, shares: u32) -> Result<(), u16> {
        let of_entry = |(from, entry): &(FiveTuple, Entry)| Account::new(&entry.username, from);
        let entries = self.entries.iter().map(of_entry);
        let held = self.reservations.iter().map(|held| held.account.clone());
        let all: Vec<Account> = entries.chain(held).collect();
        let count = |is_like: &dyn Fn(&Account) -> bool| {
            let like = all.iter().filter(|other| is_like(other)).count();
            u32::try_from(like).expect("few")
        };
        let of_user = count(&|other| other.person == account.person);
        let of_source = count(&|other| source(other.source) == source(account.source));
        let limits = self.limits;
        for taken in 0..shares {
            check(count(&|_| true) + taken < limits.allocations, 508)?;
            let within = of_user + taken < limits.allocations_per_user;
            check(
                within && of_source + taken < limits.allocations_per_source,
                486,
            )?;
        }
        Ok(())
    }

    fn has_port(&self, family: Family, is_even: bool, is_pair: bool) -> bool {
        let held = self.reservations.iter().map(|held| held.address);
        let taken = self.relays().into_iter().chain(held);
        let taken = taken.filter(|address| Family::of(address.ip()) == family);
        let taken: BTreeSet<u16> = taken.map(|address| address.port()).collect();
        (FIRST_PORT..FIRST_PORT + PORTS).any(|port| {
            let will_do = !is_even || port % 2 == 0;
            will_do && !taken.contains(&port) && (!is_pair || !taken.contains(&(port + 1)))
        })
    }

    /// Learns from the success `response` what `client` got, which must be what was granted.
    pub(super) fn granted(
        &mut self,
        now: Instant,
        client: &FiveTuple,
        response: &Response,
    ) -> Granted {
        let addresses = relayed(response);
        let held = self.reservations.iter().map(|held| held.address);
        let taken: Vec<SocketAddr> = self.relays().into_iter().chain(held).collect();
        assert!(
            addresses.iter().all(|new| !taken.contains(new)),
            "given twice"
        );
        self.seen.extend(addresses.iter().map(SocketAddr::ip));
        let entry = self.entry(client).expect("it was predicted");
        let granted = entry.granted.clone();
        for address in &addresses {
            let relay = entry.relays.get_mut(&Family::of(address.ip()));
            relay.expect("a family that was asked for").address = Some(*address);
            assert!(!granted.is_even || address.port() % 2 == 0, "an odd port");
        }
        assert_eq!(addresses.len(), granted.families.len(), "relayed addresses");
        if let Some(redeemed) = granted.redeemed {
            assert_eq!(addresses, [redeemed], "another port than was reserved");
        }
        let account = Account::new(&entry.username, client);
        let missing = response.value(AttributeType::ADDRESS_ERROR_CODE);
        let missing = missing.map(|value| (value[0], value[2], value[3]));
        let predicted = granted.missing.map(|family| (family as u8 + 1, 5, 8));
        assert_eq!(missing, predicted, "ADDRESS-ERROR-CODE");
        let token = response.value(AttributeType::RESERVATION_TOKEN);
        assert_eq!(token.is_some(), granted.reserves, "RESERVATION-TOKEN");
        if let Some(token) = token {
            let [address] = addresses[..] else {
                panic!("one relay goes with a token");
            };
            let address = SocketAddr::new(address.ip(), address.port() + 1);
            assert!(!taken.contains(&address), "reserved twice");
            self.tokens.push(token.clone());
            self.reservations.push(Reservation {
                token,
                address,
                account,
                expires: now + HELD,
            });
        }
        granted
    }
}

/// The relayed transport addresses of a response.
pub(super) fn relayed(response: &Response) -> Vec<SocketAddr> {
    let message = response.message();
    let attributes = message.attributes();
    let relayed = attributes.filter(|a| a.kind == AttributeType::XOR_RELAYED_ADDRESS);
    relayed
        .map(|attribute| message.xor_address(&attribute).expect("an address"))
        .collect()
}

fn families(family: Value<u8>, extra: &Extra) -> Result<Vec<Family>, u16> {
    check(family != Value::Malformed, 400)?;
    let is_alone = family == Value::Missing || extra.additional == Value::Missing;
    check(is_alone, 400)?;
    let family = match family {
        Value::Is(value) => family_of(value).ok_or(440_u16)?,
        Value::Missing | Value::Malformed => Family::V4,
    };
    check(extra.even_port != Value::Malformed, 400)?;
    match extra.additional {
        Value::Missing => Ok(vec![family]),
        Value::Is(2) if extra.even_port != Value::Is(true) => Ok(vec![Family::V4, Family::V6]),
        _ => Err(400),
    }
}

/// What counts as one source: an IPv4 address or a /64.
fn source(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets()[..8].into(),
    }
}
