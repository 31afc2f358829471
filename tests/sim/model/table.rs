//! The rules as a table: five-tuple, user, expiry, permissions, channels; and the code of each answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turnstone::time::{Instant, Now, UnixTime};
use turnstone::turn::{Family, FiveTuple, Lifetimes, Limits, expiry_of};

use super::request::{Body, Request, Signature, Value, family_of};

/// The lifetime in a success response, if it has one; or the error code.
pub(super) type Answer = Result<Option<u32>, u16>;

/// What binding a relay socket would end in.
pub(super) type Bind = Result<(), bool>;

#[derive(Debug)]
struct Entry {
    username: String,
    family: Family,
    relayed: Option<SocketAddr>,
    expires: Instant,
    permissions: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

/// All allocations.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<(FiveTuple, Entry)>,
    lifetimes: Lifetimes,
    limits: Limits,
    ports: usize,
    /// Addresses of relays, now or earlier; none of another family is on them.
    seen: BTreeSet<IpAddr>,
}

impl Table {
    pub(super) fn new(lifetimes: Lifetimes, limits: Limits, ports: usize) -> Self {
        Self {
            entries: Vec::new(),
            lifetimes,
            limits,
            ports,
            seen: BTreeSet::new(),
        }
    }

    /// Forgets what has expired at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        self.entries.retain(|(_, entry)| entry.expires > now);
        for (_, entry) in &mut self.entries {
            entry.permissions.retain(|_, until| *until > now);
            entry.channels.retain(|_, (_, until)| *until > now);
        }
    }

    pub(super) fn remove(&mut self, client: &FiveTuple) {
        self.entries.retain(|(known, _)| known != client);
    }

    /// Learns which relayed address `client` got.
    pub(super) fn relayed(&mut self, client: &FiveTuple, relayed: SocketAddr) {
        assert!(
            !self.relays().contains(&relayed),
            "{relayed} is given twice"
        );
        self.seen.insert(relayed.ip());
        if let Some(entry) = self.entry(client) {
            assert_eq!(Family::of(relayed.ip()), entry.family, "as requested");
            entry.relayed = Some(relayed);
        }
    }

    pub(super) fn relays(&self) -> Vec<SocketAddr> {
        let entries = self.entries.iter();
        entries.filter_map(|(_, entry)| entry.relayed).collect()
    }

    pub(super) fn relay_of(&self, client: &FiveTuple) -> Option<SocketAddr> {
        self.get(client)?.relayed
    }

    pub(super) fn owner_of(&self, client: &FiveTuple) -> Option<&str> {
        self.get(client).map(|entry| &*entry.username)
    }

    /// How many allocations, permissions and channels there are.
    pub(super) fn census(&self) -> (usize, usize, usize) {
        let entries = || self.entries.iter().map(|(_, entry)| entry);
        (
            self.entries.len(),
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
        bind: Bind,
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
            } => {
                check(self.entry(&request.from).is_none(), 437)?;
                let family = allocate_family(*transport, *family)?;
                let seconds = self.lifetime(*lifetime)?;
                self.allocate(now.instant, request, family, seconds, bind)
            }
            Body::Refresh { family, lifetime } => self.refresh(now, request, *family, *lifetime),
            Body::CreatePermission(peers) => self.permit(now.instant, request, peers),
            Body::ChannelBind { number, peer } => self.bind(now.instant, request, *number, *peer),
        }
    }

    fn authenticate(&mut self, unix: UnixTime, request: &Request, nonce: bool) -> Result<(), u16> {
        match request.signature {
            Signature::Incomplete => return Err(400),
            Signature::Missing
            | Signature::WrongPassword
            | Signature::UnknownUser
            | Signature::OtherRealm => return Err(401),
            _ => {}
        }
        // The owner of an allocation goes on with the key that made it.
        let username = &request.login.username;
        let is_owner = self
            .entry(&request.from)
            .is_some_and(|entry| entry.username == *username);
        check(is_owner || !is_over(username, unix), 401)?;
        check(nonce, 438)
    }

    fn allocate(
        &mut self,
        now: Instant,
        request: &Request,
        family: Family,
        seconds: u32,
        bind: Bind,
    ) -> Answer {
        let limits = self.limits;
        let (from, username) = (request.from, &request.login.username);
        let count = |is_like: &dyn Fn(&FiveTuple, &Entry) -> bool| {
            let like = self.entries.iter().filter(|(c, entry)| is_like(c, entry));
            u32::try_from(like.count()).expect("few")
        };
        let person = |name: &str| name.split_once(':').map_or(name, |(_, p)| p).to_owned();
        check(count(&|_, _| true) < limits.allocations, 508)?;
        let of_user = count(&|_, entry| person(&entry.username) == person(username));
        let of_source = count(&|c, _| source(c.client.ip()) == source(from.client.ip()));
        let within = of_user < limits.allocations_per_user;
        check(within && of_source < limits.allocations_per_source, 486)?;
        let taken = count(&|_, entry| entry.family == family);
        check((taken as usize) < self.ports && bind.is_ok(), 508)?;
        let entry = Entry {
            username: username.clone(),
            family,
            relayed: None,
            expires: now + Duration::from_secs(seconds.into()),
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        self.entries.push((from, entry));
        Ok(Some(seconds))
    }

    fn refresh(
        &mut self,
        now: Now,
        request: &Request,
        family: Value<u8>,
        lifetime: Value<u32>,
    ) -> Answer {
        let own = self.own(request)?.family;
        match family {
            Value::Missing => {}
            Value::Malformed => return Err(400),
            Value::Is(value) => check(family_of(value) == Some(own), 443)?,
        }
        if lifetime == Value::Is(0) {
            self.remove(&request.from);
            return Ok(Some(0));
        }
        let seconds = self.lifetime(lifetime)?;
        check(!is_over(&request.login.username, now.unix), 401)?;
        let entry = self.own(request)?;
        entry.expires = now.instant + Duration::from_secs(seconds.into());
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
        let family = self.own(request)?.family;
        let mut ips = peers.iter().map(SocketAddr::ip);
        check(ips.clone().all(|ip| Family::of(ip) == family), 443)?;
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

    fn entry(&mut self, client: &FiveTuple) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        let (_, entry) = entries.find(|(known, _)| known == client)?;
        Some(entry)
    }

    /// Between default and maximum (RFC 8656 §7.2).
    fn lifetime(&self, asked: Value<u32>) -> Result<u32, u16> {
        let seconds = |lifetime: Duration| u32::try_from(lifetime.as_secs()).expect("short");
        let least = seconds(self.lifetimes.allocation);
        match asked {
            Value::Malformed => Err(400),
            Value::Missing => Ok(least),
            Value::Is(asked) => Ok(asked.clamp(least, seconds(self.lifetimes.allocation_max))),
        }
    }
}

fn check(condition: bool, code: u16) -> Result<(), u16> {
    if condition { Ok(()) } else { Err(code) }
}

fn is<T>(value: Value<T>) -> Result<T, u16> {
    match value {
        Value::Is(value) => Ok(value),
        Value::Missing | Value::Malformed => Err(400),
    }
}

fn allocate_family(transport: Value<u8>, family: Value<u8>) -> Result<Family, u16> {
    check(is(transport)? == 17, 442)?;
    match family {
        Value::Malformed => Err(400),
        Value::Missing => Ok(Family::V4),
        Value::Is(value) => family_of(value).ok_or(440),
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

/// What counts as one source: an IPv4 address or a /64.
fn source(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets()[..8].into(),
    }
}
