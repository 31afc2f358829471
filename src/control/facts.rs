//! What the host is like, as far as the configuration's resolution and the operator care.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tracing::{debug, warn};

use crate::config::{Config, HostFacts};
use crate::net;
use crate::turn::{Family, Policy, RelaySource};

/// Descriptors that the process needs besides those of clients: standard streams, runtime, metrics.
const OWN_DESCRIPTORS: u64 = 32;
/// Descriptors of each shard besides those of clients: its poller, its waker and listening sockets.
const SHARD_DESCRIPTORS: u64 = 8;
/// Descriptors for clients without which the server is of no use.
const FEWEST_FOR_CLIENTS: u64 = 16;

/// The facts that a policy is made of; `listeners` as bound.
pub(super) fn host_facts(listeners: Vec<SocketAddr>) -> io::Result<HostFacts> {
    let interfaces = net::interfaces()?;
    let pair = |interface: &net::Interface| (interface.address, interface.prefix);
    Ok(HostFacts {
        interfaces: interfaces.iter().map(pair).collect(),
        default_v4: net::default_source(Family::V4),
        default_v6: net::default_source(Family::V6),
        listeners,
    })
}

/// How many files the process may open, and how many it needs.
#[derive(Debug)]
pub(super) struct TooFewDescriptors {
    pub(super) limit: u64,
    pub(super) least: u64,
}

/// Raises the limit on open files as far as it goes, and returns it.
pub(super) fn raise_descriptor_limit(config: &Config) -> Result<u64, TooFewDescriptors> {
    let limit = net::raise_descriptor_limit().unwrap_or_else(|error| {
        debug!("the limit on open files cannot be raised: {error}");
        net::descriptor_limit().0
    });
    let least = own_descriptors(config) + FEWEST_FOR_CLIENTS;
    if limit < least {
        return Err(TooFewDescriptors { limit, least });
    }
    Ok(limit)
}

/// Warns when `limit` is too low for all that `config` admits.
pub(super) fn warn_of_descriptor_limit(config: &Config, limit: u64) {
    let wanted = wanted_descriptors(config);
    if limit < wanted {
        let room = limit.saturating_sub(own_descriptors(config));
        warn!(
            "at most {limit} files may be open, enough for {room} allocations and TCP connections \
             together; for all that limits.allocations and streams.connections admit raise the hard \
             limit to {wanted} (under systemd: LimitNOFILE={wanted})"
        );
    }
}

/// How many TCP connections there may be: as many as configured, but half of the descriptors stay for
/// relay sockets, whatever strangers connect.
pub(super) fn connections(config: &Config, limit: u64) -> u32 {
    let half = limit.saturating_sub(own_descriptors(config)) / 2;
    let half = u32::try_from(half / of_connection(config)).unwrap_or(u32::MAX);
    config.streams.connections.min(half)
}

/// Descriptors of one connection at most: it may go on to an upstream.
fn of_connection(config: &Config) -> u64 {
    if config.upstreams.is_empty() { 1 } else { 2 }
}

fn wanted_descriptors(config: &Config) -> u64 {
    let connections = if config.tcp || !config.tls.listen.is_empty() {
        config.streams.connections
    } else {
        0
    };
    let connections = u64::from(connections) * of_connection(config);
    own_descriptors(config) + u64::from(config.limits.allocations) + connections
}

fn own_descriptors(config: &Config) -> u64 {
    let added = config.endpoints().len() - config.listen.len();
    let of_shard = SHARD_DESCRIPTORS + 2 * (added + config.tls.listen.len()) as u64;
    OWN_DESCRIPTORS + u64::from(config.workers.get()) * of_shard
}

/// How many relay ports `policy` has to give on the host of `facts` whose clients reach `listen`.
pub(super) fn relay_ports(policy: &Policy, facts: &HostFacts, listen: &[SocketAddr]) -> u64 {
    let addresses = Family::ALL.map(|family| match policy.relay.source(family) {
        RelaySource::Disabled => 0,
        RelaySource::Fixed(addresses) => addresses.len(),
        RelaySource::AsReached { otherwise } => {
            let reached = addresses_reached(facts, listen, family);
            reached.max(usize::from(otherwise.is_some()))
        }
    });
    let ports = policy.relay.ports.clone().count();
    addresses.iter().map(|count| (count * ports) as u64).sum()
}

/// How many local addresses of `family` clients can reach.
fn addresses_reached(facts: &HostFacts, listen: &[SocketAddr], family: Family) -> usize {
    let listen = listen.iter().map(SocketAddr::ip);
    let mut addresses: Vec<IpAddr> = listen.filter(|ip| Family::of(*ip) == family).collect();
    if addresses.iter().any(IpAddr::is_unspecified) {
        let local = facts.interfaces.iter().map(|(address, _)| *address);
        addresses = local.filter(|ip| Family::of(*ip) == family).collect();
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Upstream, UpstreamAddress, UpstreamTls};
    use std::time::Duration;

    fn config() -> Config {
        Config::load(None, &Overrides::default()).expect("defaults")
    }

    fn facts(listen: &[&str]) -> (HostFacts, Vec<SocketAddr>) {
        let listen: Vec<SocketAddr> = listen
            .iter()
            .map(|text| text.parse().expect("address"))
            .collect();
        let interface = |text: &str| (text.parse().expect("address"), 24);
        let facts = HostFacts {
            interfaces: ["127.0.0.1", "192.0.2.1", "::1"].map(interface).to_vec(),
            listeners: listen.clone(),
            ..HostFacts::default()
        };
        (facts, listen)
    }

    #[track_caller]
    fn check_relay_ports(config: &Config, listen: &[&str], addresses: u64) {
        let (facts, listen) = facts(listen);
        let found = relay_ports(&config.policy(&facts), &facts, &listen);
        assert_eq!(found, addresses * config.relay.ports.clone().count() as u64);
    }

    #[test]
    fn relay_ports_are_counted_for_each_address() {
        let mut config = config();
        check_relay_ports(&config, &["0.0.0.0:3478", "[::]:3478"], 3);
        check_relay_ports(&config, &["192.0.2.1:3478", "192.0.2.1:3479"], 1);
        config.relay.addresses = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        check_relay_ports(&config, &["0.0.0.0:3478"], 2);
    }

    #[test]
    fn connections_leave_half_of_the_descriptors_to_relays() {
        let mut config = config();
        config.streams.connections = 1000;
        let own = own_descriptors(&config);
        assert_eq!(connections(&config, own + 4000), 1000);
        assert_eq!(connections(&config, own + 400), 200);
        assert_eq!(connections(&config, 0), 0);
    }

    #[test]
    fn a_connection_that_may_go_on_needs_two() {
        let mut config = config();
        config.streams.connections = 1000;
        config.limits.allocations = 10;
        config.upstreams.push(Upstream {
            server_names: Vec::new(),
            to: UpstreamAddress::Unix("/run/web.sock".into()),
            tls: UpstreamTls::Off,
            plain: true,
            http2: false,
            proxy_protocol: false,
            connect_timeout: Duration::from_secs(1),
            idle_after: Duration::from_secs(1),
        });
        let own = own_descriptors(&config);
        assert_eq!(connections(&config, own + 400), 100);
        assert_eq!(wanted_descriptors(&config), own + 2010);
    }

    #[test]
    fn descriptors_are_wanted_for_all_that_is_admitted() {
        let mut config = config();
        config.limits.allocations = 10;
        config.streams.connections = 100;
        let own = own_descriptors(&config);
        assert_eq!(wanted_descriptors(&config), own + 110);
        config.tcp = false;
        assert_eq!(wanted_descriptors(&config), own + 10);
    }
}
