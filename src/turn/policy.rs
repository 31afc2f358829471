//! What the operator decided, as one immutable snapshot that a shard can swap whole.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::bandwidth::Bandwidth;
use super::five_tuple::Family;
use super::keys::Credentials;
use super::nat_discovery::NatDiscovery;
use super::oauth::OAuth;
use super::peer_filter::PeerFilter;
use super::redirect::{Admission, Alternates};
use super::security::Security;
use crate::stun::ChannelRange;

/// Everything that decides how requests are answered. Built by the `config` room.
#[derive(Debug)]
pub struct Policy {
    /// REALM of every challenge (RFC 8489 §9.2), 1 to 127 characters.
    pub realm: Box<str>,
    /// SOFTWARE of Allocate and Refresh responses (RFC 8656 §5); none to keep it to ourselves.
    pub software: Option<Box<str>>,
    /// Who may allocate.
    pub credentials: Credentials,
    /// Which access tokens are believed (RFC 7635), if any.
    pub oauth: Option<OAuth>,
    /// What is offered beyond RFC 5389.
    pub security: Security,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// Where relayed transport addresses come from.
    pub relay: RelayAddresses,
    /// Which peers may be relayed to.
    pub peers: PeerFilter,
    /// How much of everything there may be.
    pub limits: Limits,
    /// How many bits a second are relayed at most.
    pub bandwidth: Bandwidth,
    /// Whether allocations may move with their clients (RFC 8016).
    pub mobility: bool,
    /// NAT behaviour discovery (RFC 5780), if the server has a second address.
    pub nat_discovery: Option<NatDiscovery>,
    /// Whether Binding requests without the magic cookie are answered (RFC 3489, RFC 5389 §12.2).
    pub rfc3489: bool,
    /// The channel numbers that clients may bind.
    pub channels: ChannelRange,
    /// Whether new allocations are made here.
    pub admission: Admission,
    /// The servers that clients are sent to when they are not.
    pub alternates: Alternates,
}

/// How long things live. All in whole seconds, at least one.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// An allocation whose request names no LIFETIME (RFC 8656 §7.2), default 600 s.
    pub allocation: Duration,
    /// The most that a request may ask for, default 3600 s; not under `allocation`.
    pub allocation_max: Duration,
    /// A permission (RFC 8656 §9), 300 s.
    pub permission: Duration,
    /// A channel binding (RFC 8656 §12), 600 s.
    pub channel: Duration,
    /// A nonce, default 600 s; at most an hour (RFC 8656 §5).
    pub nonce: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            allocation: Duration::from_secs(600),
            allocation_max: Duration::from_secs(3600),
            permission: Duration::from_secs(300),
            channel: Duration::from_secs(600),
            nonce: Duration::from_secs(600),
        }
    }
}

/// Where the relayed transport addresses of one family come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelaySource {
    /// The family is not offered: 440 (RFC 8656 §7.2).
    Disabled,
    /// The local address that the client reached; `otherwise` for a client of the other family.
    AsReached {
        /// The host's usual address of this family, if it has one.
        otherwise: Option<IpAddr>,
    },
    /// One of these local addresses, at random; never empty.
    Fixed(Vec<IpAddr>),
}

/// Relayed transport addresses: local addresses, their public faces and the ports.
#[derive(Clone, Debug)]
pub struct RelayAddresses {
    /// IPv4.
    pub v4: RelaySource,
    /// IPv6.
    pub v6: RelaySource,
    /// Behind a 1:1 NAT: local address and the public address that stands for it.
    pub external: Vec<External>,
    /// Ports to draw from, default 49152 to 65535 (RFC 8656 §7.2).
    pub ports: RangeInclusive<u16>,
    /// Whether TCP allocations are offered (RFC 6062), default no; without them 442.
    pub tcp: bool,
}

/// The public address under which a 1:1 NAT shows a local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// The address the relay socket binds; none stands for every local address of the family.
    pub local: Option<IpAddr>,
    /// The address in XOR-RELAYED-ADDRESS.
    pub public: IpAddr,
}

impl External {
    /// Whether it is the public face of the local address `local`.
    pub fn stands_for(&self, local: IpAddr) -> bool {
        match self.local {
            Some(address) => address == local,
            None => Family::of(self.public) == Family::of(local) && !local.is_loopback(),
        }
    }

    /// The address under which the NATs `all` show `local`; itself where there is none.
    pub fn public_of(local: IpAddr, all: &[Self]) -> IpAddr {
        all.iter()
            .find(|external| external.stands_for(local))
            .map_or(local, |external| external.public)
    }
}

impl RelayAddresses {
    /// Where addresses of `family` come from.
    pub fn source(&self, family: Family) -> &RelaySource {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The address that peers see for the relay address `local`.
    pub fn public(&self, local: IpAddr) -> IpAddr {
        External::public_of(local, &self.external)
    }
}

/// How much of everything there may be (requirement S15); zero means none, not unlimited.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Allocations of the whole server; beyond it 508.
    pub allocations: u32,
    /// Allocations of one user at a time; beyond it 486 (RFC 8656 §7.2).
    pub allocations_per_user: u32,
    /// Allocations of one source address (IPv6: one /64) at a time; beyond it 486.
    pub allocations_per_source: u32,
    /// Permissions of one allocation; beyond it 508 (RFC 8656 §10.2).
    pub permissions_per_allocation: u16,
    /// Channels of one allocation; beyond it 508 (RFC 8656 §12.2).
    pub channels_per_allocation: u16,
    /// Peer data connections of one TCP allocation, those being opened among them; beyond it a Connect
    /// is answered with 508, and a peer that connects is turned away (RFC 6062 §5.2, §5.3).
    pub peer_connections_per_allocation: u16,
    /// Bytes per second that unauthenticated requests of one source prefix (IPv4 /24, IPv6 /48) may
    /// draw from the server (requirement S7); loopback is exempt, nobody can forge it.
    pub reflection_bytes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 100_000,
            allocations_per_user: 10_000,
            allocations_per_source: 10_000,
            permissions_per_allocation: 256,
            channels_per_allocation: 256,
            peer_connections_per_allocation: 64,
            reflection_bytes_per_second: 262_144,
        }
    }
}
