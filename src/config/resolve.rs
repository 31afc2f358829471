//! From what was written to what it means: defaults, and checks across keys.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::address::{every_address, overlap};
use super::auth::{check_secrets, check_users};
use super::distinct::distinct;
use super::draft::DraftCertificate;
use super::draft::{Draft, Key, List, Located, or, or_else};
use super::dtls::check_dtls;
use super::limits::{check_bandwidth, check_lifetimes, check_limits};
use super::nat_discovery::{DraftDiscovery, check_nat_discovery};
use super::oauth::check_oauth;
use super::process::check_process;
use super::redirect::check_redirect;
use super::report::Report;
use super::security::check_security;
use super::tls::check_tls;
use super::upstream::{Surroundings, check_upstreams};
use super::{Buffers, Config, DEFAULT_REALM, Drain, Level, Log, LogFormat, Relay, Streams, Tls};
use crate::stun::ChannelRange;
use crate::turn::{External, Family, NatDiscovery};

/// The port of STUN and TURN (RFC 8656 §5).
const DEFAULT_PORT: u16 = 3478;
const DEFAULT_METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 9641);
const DEFAULT_PORTS: RangeInclusive<u16> = 49_152..=65_535;
const DEFAULT_SOFTWARE: &str = "turnstone";
/// The longest SOFTWARE in characters (RFC 8489 §14.14).
const MAX_SOFTWARE: usize = 127;
/// The longest REALM in characters (RFC 8489 §14.9).
const MAX_REALM: usize = 127;
/// An allocation needs a port, and its retry another.
const PORTS_PER_WORKER: u32 = 2;

/// The configuration that `draft` means. If `report` has errors afterwards, it must not be used.
pub(super) fn resolve(draft: Draft, report: &mut Report) -> Config {
    let workers = or_else(&draft.workers, available_cores);
    let (udp, tcp) = check_transports(&draft, report);
    let (streams, buffers, log) = (streams(&draft), buffers(&draft), log(&draft));
    let drain = drain(&draft);
    let listen = check_listen(draft.listen, report);
    let discovery = DraftDiscovery {
        address: draft.alternate_address,
        port: draft.alternate_port,
    };
    let with_secrets = !draft.secrets.is_empty();
    let relay = Relay {
        addresses: distinct("relay.addresses", draft.relay_addresses, report),
        ports: check_ports(draft.ports, workers, report),
        ipv4: or(&draft.ipv4, true),
        ipv6: or(&draft.ipv6, true),
        tcp: or(&draft.relay_tcp, false),
    };
    check_families(&relay, &draft.ipv4, &draft.ipv6, report);
    let discovers = discovery.address.is_some();
    let external = check_external(draft.external, &relay, discovers, report);
    let nat_discovery = check_nat_discovery(&discovery, &listen, udp, &external, report);
    let mut endpoints = listen.clone();
    endpoints.extend(nat_discovery.iter().flat_map(NatDiscovery::addresses));
    let plain = if tcp { &endpoints[..] } else { &[] };
    let first_key = draft.certificates.first().and_then(DraftCertificate::key);
    let tls = check_tls(draft.tls_listen, draft.certificates, plain, report);
    let tls = check_dtls(draft.dtls, first_key, tls, report);
    let over_tcp = [plain, &tls.listen].concat();
    let metrics = check_metrics(draft.metrics, &over_tcp, report);
    let around = Surroundings {
        listen: &over_tcp,
        plain: tcp,
        tls: !tls.listen.is_empty(),
    };
    let upstreams = check_upstreams(draft.upstreams, &around, report);
    let proxy_protocol_from = distinct(
        "streams.proxy_protocol_from",
        draft.proxy_protocol_from,
        report,
    );
    endpoints.extend(&tls.listen);
    let alternates = check_redirect(draft.redirect, &endpoints, report);
    let (users, zero_config_user) = check_users(draft.users, with_secrets, report);
    let security = check_security(
        draft.algorithms,
        draft.userhash,
        &users,
        with_secrets,
        report,
    );
    Config {
        listen,
        udp,
        tcp,
        files: files(draft.files, &tls),
        tls,
        workers: NonZeroU16::new(workers).unwrap_or(NonZeroU16::MIN),
        realm: check_realm(draft.realm, report),
        users,
        security,
        secrets: check_secrets(draft.secrets, report),
        oauth: check_oauth(draft.oauth_server_name, draft.oauth_keys, report),
        lifetimes: check_lifetimes(&draft.lifetimes, report),
        limits: check_limits(&draft.limits, report),
        bandwidth: check_bandwidth(&draft.bandwidth),
        relay,
        external,
        rules: draft.rules.into_iter().map(|rule| rule.value).collect(),
        drain,
        control: control(draft.control),
        process: check_process(draft.process, report),
        metrics,
        log,
        streams,
        proxy_protocol_from,
        upstreams,
        buffers,
        software: check_software(draft.software, report),
        nat_discovery,
        mobility: or(&draft.mobility, false),
        rfc3489: or(&draft.rfc3489, true),
        channels: channels(&draft.rfc5766_channels),
        alternates,
        zero_config_user,
        warnings: Vec::new(),
    }
}

fn available_cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(u16::MAX).min(1024)
}

fn drain(draft: &Draft) -> Drain {
    let default = Drain::default();
    Drain {
        limit: or(&draft.drain_limit, default.limit),
        stop_limit: or(&draft.stop_limit, default.stop_limit),
        upgrade_limit: or(&draft.upgrade_limit, default.upgrade_limit),
    }
}

/// Those that were `read`, and those of certificates.
fn files(mut read: Vec<PathBuf>, tls: &Tls) -> Vec<PathBuf> {
    for certificate in &tls.certificates {
        let files = &certificate.files;
        read.extend([files.chain.clone(), files.key.clone()]);
    }
    read
}

/// Under systemd the socket is in the directory that the unit made for us.
fn control(written: Key<String>) -> Option<PathBuf> {
    let directory = || std::env::var_os("RUNTIME_DIRECTORY").filter(|path| !path.is_empty());
    match written {
        Some(Located { value, .. }) if value == "off" => None,
        Some(Located { value, .. }) => Some(value.into()),
        None => directory().map(|path| Path::new(&path).join("control.sock")),
    }
}

fn streams(draft: &Draft) -> Streams {
    let default = Streams::default();
    Streams {
        connections: or(&draft.connections, default.connections),
        connections_per_source: or(
            &draft.connections_per_source,
            default.connections_per_source,
        ),
        handshakes: or(&draft.handshakes, default.handshakes),
        backlog_bytes: or(&draft.backlog_bytes, default.backlog_bytes),
        media_age: or(&draft.media_age, default.media_age),
        pipe_bytes: or(&draft.pipe_bytes, default.pipe_bytes),
        silent_after: or(&draft.silent_after, default.silent_after),
        idle_after: or(&draft.idle_after, default.idle_after),
    }
}

fn buffers(draft: &Draft) -> Buffers {
    let default = Buffers::default();
    Buffers {
        listener: or(&draft.listener_buffer, default.listener),
        relay: or(&draft.relay_buffer, default.relay),
    }
}

fn log(draft: &Draft) -> Log {
    Log {
        level: or(&draft.level, Level::INFO),
        format: or(&draft.format, LogFormat::Human),
    }
}

fn channels(rfc5766: &Key<bool>) -> ChannelRange {
    match or(rfc5766, false) {
        true => ChannelRange::Rfc5766,
        false => ChannelRange::Rfc8656,
    }
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

fn check_realm(realm: Key<String>, report: &mut Report) -> String {
    let Some(Located { value, spot }) = realm else {
        return DEFAULT_REALM.to_owned();
    };
    let length = value.chars().count();
    if length == 0 || length > MAX_REALM {
        report.error(
            &spot,
            format_args!(
                "the realm has {length} characters; write 1 to {MAX_REALM} (RFC 8489 §14.9)"
            ),
        );
    } else if value.chars().any(char::is_control) {
        report.error(
            &spot,
            "the realm contains a control character; leave it out",
        );
    }
    value
}

fn check_software(software: Key<String>, report: &mut Report) -> Option<String> {
    let Some(Located { value, spot }) = software else {
        return Some(DEFAULT_SOFTWARE.to_owned());
    };
    let length = value.chars().count();
    if length > MAX_SOFTWARE {
        report.error(
            &spot,
            format_args!("{length} characters; {MAX_SOFTWARE} are the most (RFC 8489 §14.14)"),
        );
    }
    (length > 0).then_some(value)
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
