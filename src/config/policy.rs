//! From the configuration and the facts of the host to the snapshot that the shards decide by.

use std::net::{IpAddr, SocketAddr};

use super::{Config, UpstreamAddress};
use crate::turn::{
    Admission, Credentials, External, Family, Network, OwnHost, PeerFilter, Policy, RelayAddresses,
    RelaySource,
};

/// What a policy must know of the machine it runs on.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Every address of its interfaces, with the prefix length of its network in bits.
    pub interfaces: Vec<(IpAddr, u8)>,
    /// The source address of its IPv4 default route.
    pub default_v4: Option<IpAddr>,
    /// The source address of its IPv6 default route.
    pub default_v6: Option<IpAddr>,
    /// Where it listens, as bound: for clients and for metrics.
    pub listeners: Vec<SocketAddr>,
}

impl Config {
    /// The snapshot that the shards decide by on the host that `host` describes.
    pub fn policy(&self, host: &HostFacts) -> Policy {
        Policy {
            realm: self.realm.as_str().into(),
            software: self.software.as_deref().map(Into::into),
            credentials: self.credentials(),
            oauth: self.oauth.clone(),
            security: self.security.clone(),
            lifetimes: self.lifetimes,
            relay: self.relay_addresses(host),
            peers: PeerFilter::new(&self.rules, &self.own_host(host)),
            limits: self.limits,
            bandwidth: self.bandwidth,
            nat_discovery: self.nat_discovery,
            mobility: self.mobility,
            rfc3489: self.rfc3489,
            channels: self.channels,
            admission: match self.alternates {
                Some(_) => Admission::Elsewhere,
                None => Admission::Open,
            },
            alternates: self.alternates.clone().unwrap_or_default(),
        }
    }

    fn credentials(&self) -> Credentials {
        let mut credentials = Credentials::new(&self.realm);
        for user in &self.users {
            for key in user.keys(&self.realm) {
                credentials.add_user(&user.name, key);
            }
        }
        for secret in &self.secrets {
            credentials.add_secret(secret.clone());
        }
        credentials
    }

    fn relay_addresses(&self, host: &HostFacts) -> RelayAddresses {
        RelayAddresses {
            v4: self.relay_source(Family::V4, self.relay.ipv4, host.default_v4),
            v6: self.relay_source(Family::V6, self.relay.ipv6, host.default_v6),
            external: self.external.clone(),
            ports: self.relay.ports.clone(),
            tcp: self.relay.tcp,
        }
    }

    /// Addresses that are named are the only ones: the family that has none of them is not offered.
    fn relay_source(&self, family: Family, offered: bool, default: Option<IpAddr>) -> RelaySource {
        let named = &self.relay.addresses;
        let of_family = named
            .iter()
            .copied()
            .filter(|address| Family::of(*address) == family);
        match of_family.collect::<Vec<_>>() {
            _ if !offered => RelaySource::Disabled,
            _ if named.is_empty() => RelaySource::AsReached { otherwise: default },
            addresses if addresses.is_empty() => RelaySource::Disabled,
            addresses => RelaySource::Fixed(addresses),
        }
    }

    fn own_host(&self, host: &HostFacts) -> OwnHost {
        let local = host.interfaces.iter().map(|(address, _)| *address);
        let public = self.external.iter().map(|external| external.public);
        let networks = host.interfaces.iter();
        OwnHost {
            addresses: local.chain(public).collect(),
            networks: networks
                .filter_map(|(address, prefix)| Network::new(*address, *prefix))
                .collect(),
            listeners: self.no_peers(host),
        }
    }

    /// What no client may reach whatever a rule says: the listeners, also as the world sees them through a
    /// 1:1 NAT, and the web servers behind, which trust this host.
    fn no_peers(&self, host: &HostFacts) -> Vec<SocketAddr> {
        let outside = |listener: &SocketAddr| {
            let public = External::public_of(listener.ip(), &self.external);
            SocketAddr::new(public, listener.port())
        };
        let upstreams = self
            .upstreams
            .iter()
            .filter_map(|upstream| match upstream.to {
                UpstreamAddress::Tcp(address) => Some(address),
                UpstreamAddress::Unix(_) => None,
            });
        let inside = host.listeners.iter().copied();
        let mut all: Vec<SocketAddr> = inside.chain(upstreams).collect();
        all.extend(host.listeners.iter().map(outside));
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Upstream, UpstreamTls};
    use std::time::Duration;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn upstream(to: UpstreamAddress) -> Upstream {
        Upstream {
            server_names: Vec::new(),
            to,
            tls: UpstreamTls::Off,
            plain: true,
            http2: false,
            proxy_protocol: true,
            connect_timeout: Duration::from_secs(1),
            idle_after: Duration::from_secs(1),
        }
    }

    /// Requirement S1: as the world sees them through a 1:1 NAT too, and what trusts this host.
    #[test]
    fn s1_listeners_are_no_peers_in_front_of_a_nat_nor_are_upstreams() {
        let mut config = Config::load(None, &Overrides::default()).expect("defaults");
        config.external.push(External {
            local: Some(address("10.0.0.1:0").ip()),
            public: address("203.0.113.5:0").ip(),
        });
        let web = UpstreamAddress::Tcp(address("10.0.0.7:8080"));
        let unix = UpstreamAddress::Unix("/run/web.sock".into());
        config.upstreams.extend([upstream(web), upstream(unix)]);
        let host = HostFacts {
            listeners: vec![address("10.0.0.1:3478"), address("127.0.0.1:9641")],
            ..HostFacts::default()
        };
        let expected = [
            "10.0.0.1:3478",
            "10.0.0.7:8080",
            "127.0.0.1:9641",
            "203.0.113.5:3478",
        ];
        assert_eq!(config.own_host(&host).listeners, expected.map(address));
    }
}
