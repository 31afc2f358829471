//! The one gate for peers (requirements S1 to S4).

use std::net::{IpAddr, SocketAddr};

/// A block of addresses in CIDR notation: `10.0.0.0/8`, `fe80::/10`, or one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Not an IP address before the slash.
    Address,
    /// Not a number from 0 to 32 (IPv6: 128) after the slash.
    Prefix,
    /// Bits are set behind the prefix: `10.1.2.3/8` names no network.
    HostBits,
}

impl std::str::FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = text.parse().map_err(|_| NetworkError::Address)?;
        Ok(Self { address, prefix: 0 })
    }
}

/// What a rule does with the peers of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Relay to them.
    Allow,
    /// Refuse them with 403.
    Deny,
}

/// An operator's rule: the most specific one that matches wins, deny wins a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The peers it speaks of.
    pub network: Network,
    /// What becomes of them.
    pub action: Action,
}

/// What the filter knows of the machine it runs on.
#[derive(Clone, Debug, Default)]
pub struct OwnHost {
    /// Every address of its interfaces, and their public faces behind a 1:1 NAT.
    pub addresses: Vec<IpAddr>,
    /// The networks of its interfaces, refused unless a rule allows them.
    pub networks: Vec<Network>,
    /// Where it listens (clients, metrics); never relayed to, whatever a rule says. An unspecified
    /// address stands for every one of `addresses`.
    pub listeners: Vec<SocketAddr>,
}

/// Decides whether a peer may be relayed to.
#[derive(Debug)]
pub struct PeerFilter {}

impl PeerFilter {
    /// The special-purpose ranges (S1), the host's own places and the operator's `rules`.
    pub fn new(_rules: &[Rule], _own: &OwnHost) -> Self {
        Self {}
    }
}
