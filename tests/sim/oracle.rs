//! An independent little model of who may talk to whom, made of what the server answered.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turnstone::stun::{AttributeType, Class, Message, Method, TransactionId};
use turnstone::time::Instant;
use turnstone::turn::{FiveTuple, Lifetimes};

use crate::properties::Property::AnswersTellTheTruth;

/// What one client was granted.
#[derive(Debug)]
struct Grant {
    shard: usize,
    client: FiveTuple,
    transaction: TransactionId,
    /// The relayed transport address as peers see it.
    relayed: SocketAddr,
    expires: Instant,
    permissions: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

/// The gauges that a shard should show.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) allocations: u64,
    pub(crate) permissions: u64,
    pub(crate) channels: u64,
}

/// A datagram that has to leave for a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToPeer {
    /// The local address of the relay socket.
    pub(crate) relay: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// Application data that has to reach a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToClient {
    pub(crate) client: FiveTuple,
    pub(crate) by: By,
    pub(crate) payload: Vec<u8>,
}

/// What tells a client which peer sent the data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum By {
    Channel(u16),
    /// A Data indication with the peer as the client knows it.
    Indication(SocketAddr),
}

/// Where relayed transport addresses come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    /// As peers see them.
    pub(crate) public: Vec<IpAddr>,
    /// A 1:1 NAT: public address and the local one behind it.
    pub(crate) external: Option<(IpAddr, IpAddr)>,
}

impl Addresses {
    pub(crate) fn to_local(&self, address: SocketAddr) -> SocketAddr {
        match self.external {
            Some((public, local)) if address.ip() == public => {
                SocketAddr::new(local, address.port())
            }
            _ => address,
        }
    }

    pub(crate) fn to_public(&self, address: SocketAddr) -> SocketAddr {
        match self.external {
            Some((public, local)) if address.ip() == local => {
                SocketAddr::new(public, address.port())
            }
            _ => address,
        }
    }
}

/// Who may talk to whom.
#[derive(Debug)]
pub(crate) struct Oracle {
    permission: Duration,
    channel: Duration,
    addresses: Addresses,
    /// Addresses that no permission may ever be for.
    forbidden: Vec<IpAddr>,
    grants: Vec<Grant>,
}

impl Oracle {
    pub(crate) fn new(lifetimes: &Lifetimes, addresses: Addresses, forbidden: &[IpAddr]) -> Self {
        Self {
            permission: lifetimes.permission,
            channel: lifetimes.channel,
            addresses,
            forbidden: forbidden.to_vec(),
            grants: Vec::new(),
        }
    }

    /// What has to become of application data that `client` sends: the datagram to a peer, or nothing.
    pub(crate) fn to_peer(
        &self,
        now: Instant,
        client: &FiveTuple,
        message: &[u8],
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Option<ToPeer> {
        let grant = self.grant(now, client)?;
        let (peer, payload) = match message {
            [0x40..=0x4F, ..] => grant.channel_data(now, message)?,
            _ => send_indication(message)?,
        };
        let may = grant.permits(now, peer) && self.is_reachable(peer, is_open);
        may.then(|| ToPeer {
            relay: self.addresses.to_local(grant.relayed),
            peer: self.addresses.to_local(peer),
            payload,
        })
    }

    /// What has to become of a datagram that arrives at the relay socket bound at `relay`.
    pub(crate) fn to_client(
        &self,
        now: Instant,
        relay: SocketAddr,
        peer: SocketAddr,
        payload: &[u8],
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Option<ToClient> {
        let relayed = self.addresses.to_public(relay);
        let grant = self.live(now).find(|grant| grant.relayed == relayed)?;
        let peer = self.addresses.to_public(peer);
        let may = grant.permits(now, peer) && self.is_reachable(peer, is_open);
        may.then(|| ToClient {
            client: grant.client,
            by: grant
                .channel_of(now, peer)
                .map_or(By::Indication(peer), By::Channel),
            payload: payload.to_vec(),
        })
    }

    /// Learns from a response, and from the `request` that it answers.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        shard: usize,
        to: FiveTuple,
        request: &[u8],
        response: &[u8],
    ) {
        let response = Message::parse(response).expect("a well-formed response");
        let mapped = address(&response, AttributeType::XOR_MAPPED_ADDRESS);
        AnswersTellTheTruth.holds(mapped.is_none_or(|mapped| mapped == to.client), || {
            format!("{to:?} was told {mapped:?}")
        });
        if response.class() != Class::Success {
            return;
        }
        match response.method() {
            Method::ALLOCATE => self.allocated(now, shard, to, &response),
            Method::REFRESH => self.refreshed(now, &to, lifetime(&response)),
            Method::CREATE_PERMISSION => self.permitted(now, &to, request),
            Method::CHANNEL_BIND => self.bound(now, &to, request),
            _ => {}
        }
    }

    /// The connection of `client` is gone.
    pub(crate) fn gone(&mut self, client: &FiveTuple) {
        self.grants.retain(|grant| grant.client != *client);
    }

    /// What the gauges of `shard` should show.
    pub(crate) fn census(&mut self, now: Instant, shard: usize) -> Census {
        self.grants.retain(|grant| grant.expires > now);
        let mut census = Census::default();
        for grant in self.grants.iter().filter(|grant| grant.shard == shard) {
            let permissions = grant.permissions.values().filter(|until| **until > now);
            let channels = grant.channels.values().filter(|(_, until)| *until > now);
            census.allocations += 1;
            census.permissions += permissions.count() as u64;
            census.channels += channels.count() as u64;
        }
        census
    }

    fn allocated(&mut self, now: Instant, shard: usize, client: FiveTuple, response: &Message<'_>) {
        let relayed = address(response, AttributeType::XOR_RELAYED_ADDRESS).expect("an address");
        let transaction = response.transaction();
        if let Some(grant) = self.grant(now, &client) {
            let same = (grant.transaction, grant.relayed) == (transaction, relayed);
            return AnswersTellTheTruth.holds(same, || format!("{client:?} got {relayed} beside"));
        }
        let taken = self.live(now).any(|grant| grant.relayed == relayed);
        AnswersTellTheTruth.holds(!taken, || format!("{relayed} is another client's"));
        self.grants.push(Grant {
            shard,
            client,
            transaction,
            relayed,
            expires: now + lifetime(response),
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
        });
    }

    fn refreshed(&mut self, now: Instant, client: &FiveTuple, lifetime: Duration) {
        self.grant_mut(now, client).expires = now + lifetime;
    }

    fn permitted(&mut self, now: Instant, client: &FiveTuple, request: &[u8]) {
        let request = Message::parse(request).expect("a well-formed request");
        let until = now + self.permission;
        for peer in peers(&request) {
            let allowed = !self.forbidden.contains(&peer.ip());
            AnswersTellTheTruth.holds(allowed, || format!("a permission for {peer}"));
            let grant = self.grant_mut(now, client);
            grant.permissions.insert(peer.ip(), until);
        }
    }

    fn bound(&mut self, now: Instant, client: &FiveTuple, request: &[u8]) {
        self.permitted(now, client, request);
        let until = now + self.channel;
        let request = Message::parse(request).expect("a well-formed request");
        let number = request
            .attribute(AttributeType::CHANNEL_NUMBER)
            .expect("a channel number");
        let number = u16::from_be_bytes([number.value[0], number.value[1]]);
        let peer = peers(&request)[0];
        let grant = self.grant_mut(now, client);
        grant.channels.retain(|_, (_, until)| *until > now);
        let conflict = grant
            .channels
            .iter()
            .any(|(n, (p, _))| (*n == number) != (*p == peer));
        AnswersTellTheTruth.holds(!conflict, || format!("{number:#x} to {peer} conflicts"));
        grant.channels.insert(number, (peer, until));
    }

    /// A relayed address of this very server can be reached while its socket is open; any other always.
    fn is_reachable(&self, peer: SocketAddr, is_open: impl Fn(SocketAddr) -> bool) -> bool {
        let is_ours = self.addresses.public.contains(&peer.ip());
        !is_ours || is_open(self.addresses.to_local(peer))
    }

    fn live(&self, now: Instant) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| grant.expires > now)
    }

    fn grant(&self, now: Instant, client: &FiveTuple) -> Option<&Grant> {
        self.live(now).find(|grant| grant.client == *client)
    }

    fn grant_mut(&mut self, now: Instant, client: &FiveTuple) -> &mut Grant {
        let mut grants = self.grants.iter_mut();
        let grant = grants.find(|grant| grant.client == *client && grant.expires > now);
        AnswersTellTheTruth.holds(grant.is_some(), || {
            format!("{client:?} has no allocation and got success")
        });
        grant.expect("just checked")
    }
}

impl Grant {
    fn permits(&self, now: Instant, peer: SocketAddr) -> bool {
        let until = self.permissions.get(&peer.ip());
        until.is_some_and(|until| *until > now)
    }

    fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let mut channels = self.channels.iter();
        let channel = channels.find(|(_, (bound, until))| *bound == peer && *until > now);
        channel.map(|(number, _)| *number)
    }

    /// The peer and the application data of a ChannelData message (RFC 8656 §12.4).
    fn channel_data(&self, now: Instant, message: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let [n0, n1, l0, l1, rest @ ..] = message else {
            return None;
        };
        let number = u16::from_be_bytes([*n0, *n1]);
        let (peer, until) = self.channels.get(&number)?;
        let payload = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1])))?;
        (*until > now).then(|| (*peer, payload.to_vec()))
    }
}

/// The peer and the application data of a Send indication.
fn send_indication(message: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let message = Message::parse(message).ok()?;
    let is_send = (message.class(), message.method()) == (Class::Indication, Method::SEND);
    let data = message.attribute(AttributeType::DATA)?.value.to_vec();
    let peer = address(&message, AttributeType::XOR_PEER_ADDRESS)?;
    is_send.then_some((peer, data))
}

fn peers(message: &Message<'_>) -> Vec<SocketAddr> {
    let is_peer = |kind| kind == AttributeType::XOR_PEER_ADDRESS;
    let peers = message.attributes().filter(|a| is_peer(a.kind));
    peers.filter_map(|a| message.xor_address(&a).ok()).collect()
}

fn address(message: &Message<'_>, kind: AttributeType) -> Option<SocketAddr> {
    let attribute = message.attribute(kind)?;
    message.xor_address(&attribute).ok()
}

fn lifetime(response: &Message<'_>) -> Duration {
    let lifetime = response
        .attribute(AttributeType::LIFETIME)
        .expect("a lifetime");
    Duration::from_secs(lifetime.u32().expect("four bytes").into())
}
