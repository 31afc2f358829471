//! Where the server listens, what it relays from and what it passes on to: addresses that have to agree
//! with each other.

use std::collections::HashSet;
use std::mem::take;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::address::{every_address, overlap};
use super::distinct::distinct;
use super::draft::DraftCertificate;
use super::draft::{Draft, Key, List, Located, or};
use super::dtls::check_dtls;
use super::nat_discovery::{DraftDiscovery, check_nat_discovery};
use super::redirect::check_redirect;
use super::report::Report;
use super::tls::check_tls;
use super::upstream::{Surroundings, check_upstreams};
use super::{Relay, Tls, Upstream};
use crate::turn::{Alternates, External, Family, NatDiscovery, Network};

/// The port of STUN and TURN (RFC 8656 §5).
const DEFAULT_PORT: u16 = 3478;
const DEFAULT_METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 9641);
const DEFAULT_PORTS: RangeInclusive<u16> = 49_152..=65_535;
/// An allocation needs a port, and its retry another.
const PORTS_PER_WORKER: u32 = 2;

/// What is listened on, relayed from and passed on to.
pub(super) struct Places {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) udp: bool,
    pub(super) tcp: bool,
    pub(super) tls: Tls,
    pub(super) relay: Relay,
    pub(super) external: Vec<External>,
    pub(super) nat_discovery: Option<NatDiscovery>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) proxy_protocol_from: Vec<Network>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) alternates: Option<Alternates>,
}

/// Takes all addresses out of `draft`, which have to agree with each other.
pub(super) fn resolve_places(draft: &mut Draft, workers: u16, report: &mut Report) -> Places {
    let (udp, tcp) = check_transports(draft, report);
    let listen = check_listen(draft.listen.take(), report);
    let discovery = DraftDiscovery {
        address: draft.alternate_address.take(),
        port: draft.alternate_port.take(),
    };
    let relay = resolve_relay(draft, workers, report);
    let discovers = discovery.address.is_some();
    let external = check_external(draft.external.take(), &relay, discovers, report);
    let nat_discovery = check_nat_discovery(&discovery, &listen, udp, &external, report);
    let mut endpoints = listen.clone();
    endpoints.extend(nat_discovery.iter().flat_map(NatDiscovery::addresses));
    let plain = if tcp { &endpoints[..] } else { &[] };
    let tls = resolve_tls(draft, plain, report);
    let over_tcp = [plain, &tls.listen].concat();
    let metrics = check_metrics(draft.metrics.take(), &over_tcp, report);
    let around = Surroundings {
        listen: &over_tcp,
        plain: tcp,
        tls: !tls.listen.is_empty(),
    };
    let upstreams = check_upstreams(take(&mut draft.upstreams), &around, report);
    let trusted = draft.proxy_protocol_from.take();
    endpoints.extend(&tls.listen);
    Places {
        proxy_protocol_from: distinct("streams.proxy_protocol_from", trusted, report),
        alternates: check_redirect(take(&mut draft.redirect), &endpoints, report),
        listen,
        udp,
        tcp,
        tls,
        relay,
        external,
        nat_discovery,
        metrics,
        upstreams,
    }
}

fn resolve_relay(draft: &mut Draft, workers: u16, report: &mut Report) -> Relay {
    let relay = Relay {
        addresses: distinct("relay.addresses", draft.relay_addresses.take(), report),
        ports: check_ports(draft.ports.take(), workers, report),
        ipv4: or(&draft.ipv4, true),
        ipv6: or(&draft.ipv6, true),
        tcp: or(&draft.relay_tcp, false),
    };
    check_families(&relay, &draft.ipv4, &draft.ipv6, report);
    relay
}

/// TLS and DTLS at addresses other than those of `plain`.
fn resolve_tls(draft: &mut Draft, plain: &[SocketAddr], report: &mut Report) -> Tls {
    let certificates = take(&mut draft.certificates);
    let first_key = certificates.first().and_then(DraftCertificate::key);
    let tls = check_tls(draft.tls_listen.take(), certificates, plain, report);
    check_dtls(draft.dtls.take(), first_key, tls, report)
}

fn check_transports(draft: &Draft, report: &mut Report) -> (bool, bool) {
    let (udp, tcp) = (or(&draft.udp, true), or(&draft.tcp, true));
    let with_tls = !draft.certificates.is_empty();
    if let (false, false, false, Some(written)) = (udp, tcp, with_tls, draft.udp.as_ref()) {
        report.error(
            &written.spot,
            "neither UDP nor TCP is served; set udp or tcp to true",
        );
    }
    (udp, tcp)
}

fn check_listen(listen: Option<List<SocketAddr>>, report: &mut Report) -> Vec<SocketAddr> {
    let Some(listen) = listen else {
        return every_address(DEFAULT_PORT);
    };
    let spot = listen.spot.clone();
    let is_written_empty = listen.value.is_empty() && !report.speaks_of(&spot);
    if is_written_empty {
        report.error(
            &spot,
            "no address to listen on; leave the key out for port 3478 of all addresses",
        );
    }
    distinct("server.listen", Some(listen), report)
}

fn check_metrics(
    metrics: Key<Option<SocketAddr>>,
    over_tcp: &[SocketAddr],
    report: &mut Report,
) -> Option<SocketAddr> {
    let default = Some(SocketAddr::from(DEFAULT_METRICS));
    let Some(Located { value, spot }) = metrics else {
        return default;
    };
    let endpoint = value?;
    if over_tcp.iter().any(|listen| overlap(*listen, endpoint)) {
        report.error(
            &spot,
            format_args!("{endpoint} is where clients are served over TCP; take another port"),
        );
    } else if !endpoint.ip().is_loopback() {
        report.warning(
            &spot,
            format_args!(
                "whoever reaches {endpoint} can read the metrics; keep it inside your network"
            ),
        );
    }
    Some(endpoint)
}

fn check_ports(
    ports: Key<RangeInclusive<u16>>,
    workers: u16,
    report: &mut Report,
) -> RangeInclusive<u16> {
    let Some(Located { value, spot }) = ports else {
        return DEFAULT_PORTS;
    };
    let count = u32::from(*value.end()) - u32::from(*value.start()) + 1;
    let needed = PORTS_PER_WORKER * u32::from(workers);
    if count < needed {
        report.error(
            &spot,
            format_args!("{count} ports for {workers} workers; widen the range to {needed} or set fewer workers"),
        );
    }
    value
}

/// At least one family must have relayed addresses.
fn check_families(relay: &Relay, ipv4: &Key<bool>, ipv6: &Key<bool>, report: &mut Report) {
    let Some(written) = ipv4.as_ref().or(ipv6.as_ref()) else {
        return;
    };
    if !relay.ipv4 && !relay.ipv6 {
        report.error(
            &written.spot,
            "neither IPv4 nor IPv6 is relayed; set ipv4 or ipv6 to true",
        );
    }
    let offered = |address: &IpAddr| match address {
        IpAddr::V4(_) => relay.ipv4,
        IpAddr::V6(_) => relay.ipv6,
    };
    for address in relay.addresses.iter().filter(|address| !offered(address)) {
        report.error(
            &written.spot,
            format_args!("switches off the family of {address} in relay.addresses; remove one"),
        );
    }
}

fn check_external(
    external: Option<List<External>>,
    relay: &Relay,
    discovers: bool,
    report: &mut Report,
) -> Vec<External> {
    let mut seen = HashSet::new();
    let mut values = Vec::new();
    for Located { value, spot } in external.map(|list| list.value).unwrap_or_default() {
        let family = Family::of(value.public);
        if !seen.insert((family, value.local)) {
            let whose = value
                .local
                .map_or("every local address".to_owned(), |local| local.to_string());
            report.error(
                &spot,
                format_args!("a second public address for {whose}; leave one"),
            );
        }
        // NAT discovery names the public faces of addresses that nothing is relayed from.
        let is_idle = |local: &IpAddr| !discovers && !can_relay_from(relay, *local);
        if let Some(local) = value.local.filter(is_idle) {
            report.warning(
                &spot,
                format_args!(
                    "{local} is not in relay.addresses, so {} is never used",
                    value.public
                ),
            );
        }
        values.push(value);
    }
    // The address that names its local one goes before the one that stands for all.
    values.sort_by_key(|external| external.local.is_none());
    values
}

fn can_relay_from(relay: &Relay, local: IpAddr) -> bool {
    relay.addresses.is_empty() || relay.addresses.contains(&local)
}
