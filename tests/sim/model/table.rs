//! The rules as a table: five-tuple, user, expiry, permissions, channels; and the code of each answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turnstone::stun::PasswordAlgorithm;
use turnstone::time::{Instant, Now, UnixTime};
use turnstone::turn::{Family, FiveTuple, Lifetimes, Limits, expiry_of};

use super::allocate::{Granted, Reservation, Sockets};
use super::request::{Body, Request, Signature, Value, family_of};

/// The lifetime in a success response, if it has one; or the error code.
pub(super) type Answer = Result<Option<u32>, u16>;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) username: String,
    /// Of the key that made it.
    pub(super) algorithm: PasswordAlgorithm,
    pub(super) relays: BTreeMap<Family, Relay>,
    pub(super) granted: Granted,
    pub(super) permissions: BTreeMap<IpAddr, Instant>,
    pub(super) channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    pub(super) address: Option<SocketAddr>,
    pub(super) expires: Instant,
}

impl Entry {
    /// Forgets the families of which `is_over` holds, with what belongs to them.
    fn end(&mut self, is_over: impl Fn(Family, &Relay) -> bool) {
        self.relays.retain(|family, relay| !is_over(*family, relay));
        let relays = &self.relays;
        let stays = |ip: IpAddr| relays.contains_key(&Family::of(ip));
        self.permissions.retain(|ip, _| stays(*ip));
        self.channels.retain(|_, (peer, _)| stays(peer.ip()));
    }
}

/// All allocations.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: Vec<(FiveTuple, Entry)>,
    pub(super) reservations: Vec<Reservation>,
    /// All that were ever given out.
    pub(super) tokens: Vec<Vec<u8>>,
    lifetimes: Lifetimes,
    pub(super) limits: Limits,
    /// Addresses of relays, now or earlier; none of another family is on them.
    pub(super) seen: BTreeSet<IpAddr>,
}

impl Table {
    pub(super) fn new(lifetimes: Lifetimes, limits: Limits) -> Self {
        Self {
            entries: Vec::new(),
            reservations: Vec::new(),
            tokens: Vec::new(),
            lifetimes,
            limits,
            seen: BTreeSet::new(),
        }
    }

    /// Forgets what has expired at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        self.reservations.retain(|held| held.expires > now);
        for (_, entry) in &mut self.entries {
            entry.end(|_, relay| relay.expires <= now);
            entry.permissions.retain(|_, until| *until > now);
            entry.channels.retain(|_, (_, until)| *until > now);
        }
        self.entries.retain(|(_, entry)| !entry.relays.is_empty());
    }

    pub(super) fn remove(&mut self, client: &FiveTuple) {
        self.entries.retain(|(known, _)| known != client);
    }

    pub(super) fn relays(&self) -> Vec<SocketAddr> {
        let entries = self.entries.iter();
        let relays = entries.flat_map(|(_, entry)| entry.relays.values());
        relays.filter_map(|relay| relay.address).collect()
    }

    /// The relayed addresses of `client`, IPv4 first.
    pub(super) fn relays_of(&self, client: &FiveTuple) -> Vec<SocketAddr> {
        let entry = self.get(client).into_iter();
        let relays = entry.flat_map(|entry| entry.relays.values());
        relays.filter_map(|relay| relay.address).collect()
    }

    /// Whether nothing is counted against any quota.
    pub(super) fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.reservations.is_empty()
    }

    pub(super) fn owner_of(&self, client: &FiveTuple) -> Option<&str> {
        self.get(client).map(|entry| &*entry.username)
    }

    /// How many relays, permissions and channels there are.
    pub(super) fn census(&self) -> (usize, usize, usize) {
        let entries = || self.entries.iter().map(|(_, entry)| entry);
        (
            entries().map(|entry| entry.relays.len()).sum(),
            entries().map(|entry| entry.permissions.len()).sum(),
            entries().map(|entry| entry.channels.len()).sum(),
        )
    }

    /// The answer to `request`, whose nonce is good or not; what it changes is changed.
    pub(super) fn answer(
        &mut self,
        now: Now,
        request: &Request,
        nonce_is_good: bool,
        sockets: Sockets,
    ) -> Answer {
        if request.body != Body::Binding {
            self.authenticate(now.unix, request, nonce_is_good)?;
        }
        check(!request.has_unknown, 420)?;
        match &request.body {
            Body::Binding => Ok(None),
            Body::Allocate {
                transport,
                family,
                lifetime,
                extra,
            } => {
                check(self.entry(&request.from).is_none(), 437)?;
                let basics = (*transport, *family, *lifetime);
                self.answer_allocate(now.instant, request, basics, extra, sockets)
            }
            Body::Refresh { family, lifetime } => self.refresh(now, request, *family, *lifetime),
            Body::CreatePermission(peers) => self.permit(now.instant, request, peers),
            Body::ChannelBind { number, peer } => self.bind(now.instant, request, *number, *peer),
        }
    }

    fn authenticate(&mut self, unix: UnixTime, request: &Request, nonce: bool) -> Result<(), u16> {
        match request.signature {
            Signature::Incomplete | Signature::ShortList => return Err(400),
            Signature::Missing
            | Signature::WrongPassword
            | Signature::UnknownUser
            | Signature::OtherRealm => return Err(401),
            _ => {}
        }
        let dialect = request.dialect;
        let is_found = !dialect.hides_name || expiry_of(&request.login.username).is_none();
        check(is_found, 401)?;
        // Behind a nonce that is not ours there is no list of ours, and MD5 is what everybody knows.
        let is_forged = request.signature == Signature::ForgedNonce;
        check(
            !is_forged || dialect.algorithm() == PasswordAlgorithm::Md5,
            401,
        )?;
        // The owner of an allocation goes on with the key that made it.
        let username = &request.login.username;
        let is_owner = self.entry(&request.from).is_some_and(|entry| {
            entry.username == *username && entry.algorithm == dialect.algorithm()
        });
        check(is_owner || !is_over(username, unix), 401)?;
        check(nonce, 438)
    }

    fn refresh(
        &mut self,
        now: Now,
        request: &Request,
        family: Value<u8>,
        lifetime: Value<u32>,
    ) -> Answer {
        let own = &self.own(request)?.relays;
        let family = match family {
            Value::Missing => None,
            Value::Malformed => return Err(400),
            Value::Is(value) => {
                let family = family_of(value).filter(|family| own.contains_key(family));
                Some(family.ok_or(443_u16)?)
            }
        };
        let is_meant = |other: Family| family.is_none_or(|family| family == other);
        if lifetime == Value::Is(0) {
            self.own(request)?.end(|family, _| is_meant(family));
            self.entries.retain(|(_, entry)| !entry.relays.is_empty());
            return Ok(Some(0));
        }
        let seconds = self.lifetime(lifetime)?;
        check(!is_over(&request.login.username, now.unix), 401)?;
        let relays = &mut self.own(request)?.relays;
        for (_, relay) in relays.iter_mut().filter(|(family, _)| is_meant(**family)) {
            relay.expires = now.instant + Duration::from_secs(seconds.into());
        }
        Ok(Some(seconds))
    }

    fn permit(&mut self, now: Instant, request: &Request, peers: &[Value<SocketAddr>]) -> Answer {
        self.own(request)?;
        let peers: Result<Vec<SocketAddr>, u16> = peers.iter().map(|peer| is(*peer)).collect();
        let peers = peers?;
        check(!peers.is_empty(), 400)?;
        self.check_peers(request, &peers)?;
        let until = now + self.lifetimes.permission;
        let permissions = &mut self.own(request)?.permissions;
        permissions.extend(peers.iter().map(|peer| (peer.ip(), until)));
        Ok(None)
    }

    fn bind(
        &mut self,
        now: Instant,
        request: &Request,
        number: Value<u16>,
        peer: Value<SocketAddr>,
    ) -> Answer {
        let channels = &self.own(request)?.channels;
        let (number, peer) = (is(number)?, is(peer)?);
        check((0x4000..=0x4FFF).contains(&number), 400)?;
        let conflicts =
            |(n, (p, _)): (&u16, &(SocketAddr, Instant))| (*n == number) != (*p == peer);
        check(!channels.iter().any(conflicts), 400)?;
        let is_new = !channels.contains_key(&number);
        let room = channels.len() < usize::from(self.limits.channels_per_allocation);
        self.check_peers_allowed(request, &[peer])?;
        let is_relay = self.seen.contains(&peer.ip());
        check(!is_relay || self.relays().contains(&peer), 403)?;
        self.check_room(request, &[peer])?;
        check(!is_new || room, 508)?;
        let Lifetimes {
            permission,
            channel,
            ..
        } = self.lifetimes;
        let entry = self.own(request)?;
        entry.permissions.insert(peer.ip(), now + permission);
        entry.channels.insert(number, (peer, now + channel));
        Ok(None)
    }

    fn check_peers(&mut self, request: &Request, peers: &[SocketAddr]) -> Result<(), u16> {
        self.check_peers_allowed(request, peers)?;
        self.check_room(request, peers)
    }

    fn check_peers_allowed(&mut self, request: &Request, peers: &[SocketAddr]) -> Result<(), u16> {
        let relays = &self.own(request)?.relays;
        let mut ips = peers.iter().map(SocketAddr::ip);
        let is_served = |ip| relays.contains_key(&Family::of(ip));
        check(ips.clone().all(is_served), 443)?;
        check(ips.all(|ip| is_allowed(ip) || self.seen.contains(&ip)), 403)
    }

    fn check_room(&mut self, request: &Request, peers: &[SocketAddr]) -> Result<(), u16> {
        let limit = usize::from(self.limits.permissions_per_allocation);
        let permissions = &self.own(request)?.permissions;
        let mut all: BTreeSet<IpAddr> = permissions.keys().copied().collect();
        all.extend(peers.iter().map(SocketAddr::ip));
        check(all.len() <= limit, 508)
    }

    /// The allocation of the client, when the user is the one who made it.
    fn own(&mut self, request: &Request) -> Result<&mut Entry, u16> {
        let entry = self.entry(&request.from).ok_or(437_u16)?;
        check(entry.username == request.login.username, 441)?;
        Ok(entry)
    }

    fn get(&self, client: &FiveTuple) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        let (_, entry) = entries.find(|(known, _)| known == client)?;
        Some(entry)
    }

    pub(super) fn entry(&mut self, client: &FiveTuple) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        let (_, entry) = entries.find(|(known, _)| known == client)?;
        Some(entry)
    }

    /// Between default and maximum (RFC 8656 §7.2).
    pub(super) fn lifetime(&self, asked: Value<u32>) -> Result<u32, u16> {
        let seconds = |lifetime: Duration| u32::try_from(lifetime.as_secs()).expect("short");
        let least = seconds(self.lifetimes.allocation);
        match asked {
            Value::Malformed => Err(400),
            Value::Missing => Ok(least),
            Value::Is(asked) => Ok(asked.clamp(least, seconds(self.lifetimes.allocation_max))),
        }
    }
}

pub(super) fn check(condition: bool, code: u16) -> Result<(), u16> {
    if condition { Ok(()) } else { Err(code) }
}

pub(super) fn is<T>(value: Value<T>) -> Result<T, u16> {
    match value {
        Value::Is(value) => Ok(value),
        Value::Missing | Value::Malformed => Err(400),
    }
}

fn is_over(username: &str, unix: UnixTime) -> bool {
    expiry_of(username).is_some_and(|expiry| expiry <= unix)
}

/// What the tests' policy allows beside relays.
fn is_allowed(ip: IpAddr) -> bool {
    let text = ip.to_string();
    text.starts_with("198.51.100.") || text.starts_with("2001:db8:1:")
}
