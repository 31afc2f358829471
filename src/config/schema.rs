//! The sections and keys of `turnserver.toml`, and which value each key becomes.

use std::path::Path;

use super::address::{
    parse_alternate_address, parse_endpoint, parse_external, parse_format, parse_level,
    parse_metrics, parse_network, parse_relay_address, parse_rule,
};
use super::auth;
use super::draft::{
    Draft, DraftBandwidth, DraftLifetimes, DraftLimits, DraftOauthKey, DraftProcess, DraftRedirect,
    DraftUser, List, Located,
};
use super::draft::{DraftCertificate, DraftUpstream};
use super::file::Source;
use super::oauth::parse_token_algorithm;
use super::reader::Section;
use super::redirect::{parse_alternate_server, parse_domain};
use super::report::Report;
use super::security::parse_algorithm;
use super::units::parse_ports;
use super::upstream::{parse_server_name, parse_tls, parse_to};
use crate::turn::{Rule, RuleAction};

/// Every section with its keys; `tls.certificates`, `auth.users`, `auth.oauth_keys` and `upstream` are
/// arrays of tables.
const SECTIONS: &[(&str, &[&str])] = &[
    ("server", &["listen", "udp", "tcp", "workers", "software"]),
    ("tls", &["listen", "dtls", "certificates"]),
    ("tls.certificates", &["chain", "key"]),
    (
        "auth",
        &[
            "realm",
            "secrets",
            "secrets_files",
            "algorithms",
            "userhash",
            "users",
            "oauth_server_name",
            "oauth_keys",
        ],
    ),
    ("auth.users", &["name", "password", "key", "key_sha256"]),
    ("auth.oauth_keys", &["id", "key", "algorithm"]),
    (
        "relay",
        &["addresses", "external", "ports", "ipv4", "ipv6", "tcp"],
    ),
    ("peers", &["allow", "deny"]),
    (
        "lifetimes",
        &[
            "allocation",
            "allocation_max",
            "permission",
            "channel",
            "nonce",
        ],
    ),
    (
        "limits",
        &[
            "allocations",
            "allocations_per_user",
            "allocations_per_source",
            "permissions_per_allocation",
            "channels_per_allocation",
            "peer_connections_per_allocation",
            "reflection_bytes_per_second",
        ],
    ),
    ("bandwidth", &["per_allocation", "per_user", "total"]),
    (
        "streams",
        &[
            "connections",
            "connections_per_source",
            "handshakes",
            "backlog_bytes",
            "media_age",
            "pipe_bytes",
            "silent_after",
            "idle_after",
            "proxy_protocol_from",
        ],
    ),
    (
        "upstream",
        &[
            "server_names",
            "to",
            "tls",
            "plain",
            "http2",
            "proxy_protocol",
            "connect_timeout",
            "idle_after",
        ],
    ),
    ("buffers", &["listener", "relay"]),
    ("nat_discovery", &["alternate_address", "alternate_port"]),
    ("mobility", &["enabled"]),
    ("redirect", &["servers", "tls_servers", "domain"]),
    ("compatibility", &["rfc3489", "rfc5766_channels"]),
    ("drain", &["limit", "stop_limit", "upgrade_limit"]),
    ("process", &["user", "landlock", "seccomp"]),
    ("control", &["socket"]),
    ("metrics", &["listen"]),
    ("log", &["level", "format"]),
];

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;
const KIB: u64 = 1 << 10;
const LEAST_BANDWIDTH: u64 = 8000;
const MOST_BANDWIDTH: u64 = 1_000_000_000_000;
const MIB: u64 = 1 << 20;

/// Every key as a dotted path, like `auth.users.name`, in the order of the annotated default file.
pub fn keys() -> impl Iterator<Item = String> {
    let of_section = |(section, keys): (&'static str, &'static [&'static str])| {
        keys.iter().map(move |key| format!("{section}.{key}"))
    };
    SECTIONS.iter().copied().flat_map(of_section)
}

/// Reads the file `path` into `draft`; what is wrong with it goes into `report`.
pub(super) fn read(path: &Path, draft: &mut Draft, report: &mut Report) {
    draft.files.push(path.to_owned());
    match Source::read(path) {
        Ok(source) => read_source(&source, path.parent(), draft, report),
        Err((spot, why)) => report.error(&spot, why),
    }
}

fn read_source(source: &Source, directory: Option<&Path>, draft: &mut Draft, report: &mut Report) {
    let (table, broken_lines) = source.parse_toml(report);
    let root = Section::root(source, &table);
    let mut found = Report::default();
    refuse_unknown_sections(&root, &mut found);
    read_server(&open(&root, "server", &mut found), draft, &mut found);
    read_tls(
        &open(&root, "tls", &mut found),
        directory,
        draft,
        &mut found,
    );
    read_auth(
        &open(&root, "auth", &mut found),
        directory,
        draft,
        &mut found,
    );
    read_relay(&open(&root, "relay", &mut found), draft, &mut found);
    read_peers(&open(&root, "peers", &mut found), draft, &mut found);
    draft.lifetimes = read_lifetimes(&open(&root, "lifetimes", &mut found), &mut found);
    draft.limits = read_limits(&open(&root, "limits", &mut found), &mut found);
    draft.bandwidth = read_bandwidth(&open(&root, "bandwidth", &mut found), &mut found);
    read_streams(&open(&root, "streams", &mut found), draft, &mut found);
    read_upstreams(&root, draft, &mut found);
    read_rest(&root, draft, &mut found);
    report.append_except(found, &broken_lines);
}

fn read_server(section: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    draft.listen = section.list("listen", parse_endpoint, report);
    draft.udp = section.boolean("udp", report);
    draft.tcp = section.boolean("tcp", report);
    draft.workers = section.number("workers", 1..=1024, report);
    draft.software = section.string("software", report);
}

fn read_tls(
    section: &Section<'_>,
    directory: Option<&Path>,
    draft: &mut Draft,
    report: &mut Report,
) {
    draft.tls_listen = section.list("listen", parse_endpoint, report);
    draft.dtls = section.boolean("dtls", report);
    for (spot, certificate) in section.sections("certificates", report) {
        refuse_unknown_keys(&certificate, "tls.certificates", report);
        draft.certificates.push(DraftCertificate {
            spot,
            chain: certificate.string("chain", report),
            key: certificate.string("key", report),
            directory: directory.unwrap_or(Path::new("")).to_owned(),
        });
    }
}

fn read_auth(
    section: &Section<'_>,
    directory: Option<&Path>,
    draft: &mut Draft,
    report: &mut Report,
) {
    draft.realm = section.string("realm", report);
    let text = |text: &str| Ok(text.to_owned());
    draft.secrets = elements(section.list("secrets", text, report));
    for file in elements(section.list("secrets_files", text, report)) {
        let path = directory.unwrap_or(Path::new("")).join(&file.value);
        let secrets = auth::read_secrets(&path, &file.spot, report);
        draft.secrets.extend(secrets);
        draft.files.push(path);
    }
    draft.algorithms = section.list("algorithms", parse_algorithm, report);
    draft.userhash = section.boolean("userhash", report);
    for (spot, user) in section.sections("users", report) {
        refuse_unknown_keys(&user, "auth.users", report);
        draft.users.push(DraftUser {
            spot,
            name: user.string("name", report),
            password: user.string("password", report),
            key: user.string("key", report),
            key_sha256: user.string("key_sha256", report),
            generated: false,
        });
    }
    read_oauth(section, draft, report);
}

fn read_oauth(section: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    draft.oauth_server_name = section.string("oauth_server_name", report);
    for (spot, key) in section.sections("oauth_keys", report) {
        refuse_unknown_keys(&key, "auth.oauth_keys", report);
        draft.oauth_keys.push(DraftOauthKey {
            spot,
            id: key.string("id", report),
            key: key.string("key", report),
            algorithm: key.parsed("algorithm", parse_token_algorithm, report),
        });
    }
}

fn read_relay(section: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    draft.relay_addresses = section.list("addresses", parse_relay_address, report);
    draft.external = section.list("external", parse_external, report);
    draft.ports = section.parsed("ports", parse_ports, report);
    draft.ipv4 = section.boolean("ipv4", report);
    draft.ipv6 = section.boolean("ipv6", report);
    draft.relay_tcp = section.boolean("tcp", report);
}

fn read_peers(section: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    let mut rules = |key, action| -> Vec<Located<Rule>> {
        elements(section.list(key, |text| parse_rule(text, action), report))
    };
    draft.rules = rules("allow", RuleAction::Allow);
    draft.rules.extend(rules("deny", RuleAction::Deny));
}

fn read_lifetimes(section: &Section<'_>, report: &mut Report) -> DraftLifetimes {
    DraftLifetimes {
        allocation: section.duration("allocation", 1..=DAY, report),
        allocation_max: section.duration("allocation_max", 1..=DAY, report),
        permission: section.duration("permission", 1..=HOUR, report),
        channel: section.duration("channel", 1..=HOUR, report),
        nonce: section.duration("nonce", 1..=HOUR, report),
    }
}

fn read_limits(section: &Section<'_>, report: &mut Report) -> DraftLimits {
    DraftLimits {
        allocations: section.number("allocations", 0..=U32, report),
        allocations_per_user: section.number("allocations_per_user", 1..=U32, report),
        allocations_per_source: section.number("allocations_per_source", 1..=U32, report),
        permissions_per_allocation: section.number("permissions_per_allocation", 1..=U16, report),
        channels_per_allocation: section.number("channels_per_allocation", 1..=U16, report),
        peer_connections_per_allocation: section.number(
            "peer_connections_per_allocation",
            1..=U16,
            report,
        ),
        reflection_bytes_per_second: section.size(
            "reflection_bytes_per_second",
            KIB..=1024 * MIB,
            report,
        ),
    }
}

fn read_bandwidth(section: &Section<'_>, report: &mut Report) -> DraftBandwidth {
    let mut limit = |key| section.bandwidth(key, LEAST_BANDWIDTH..=MOST_BANDWIDTH, report);
    DraftBandwidth {
        per_allocation: limit("per_allocation"),
        per_user: limit("per_user"),
        total: limit("total"),
    }
}

fn read_streams(section: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    draft.connections = section.number("connections", 1..=U32, report);
    draft.connections_per_source = section.number("connections_per_source", 1..=U32, report);
    draft.handshakes = section.number("handshakes", 1..=U32, report);
    draft.backlog_bytes = section.size("backlog_bytes", 64 * KIB..=64 * MIB, report);
    draft.media_age = section.short_duration("media_age", 10..=10_000, report);
    draft.pipe_bytes = section.size("pipe_bytes", 4 * KIB..=16 * MIB, report);
    draft.silent_after = section.duration("silent_after", 1..=HOUR, report);
    draft.idle_after = section.duration("idle_after", 1..=DAY, report);
    draft.proxy_protocol_from = section.list("proxy_protocol_from", parse_network, report);
}

fn read_upstreams(root: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    for (spot, section) in root.sections("upstream", report) {
        refuse_unknown_keys(&section, "upstream", report);
        draft.upstreams.push(DraftUpstream {
            spot,
            server_names: section.list("server_names", parse_server_name, report),
            to: section.parsed("to", parse_to, report),
            tls: section.parsed("tls", parse_tls, report),
            plain: section.boolean("plain", report),
            http2: section.boolean("http2", report),
            proxy_protocol: section.boolean("proxy_protocol", report),
            connect_timeout: section.duration("connect_timeout", 1..=60, report),
            idle_after: section.duration("idle_after", 1..=7 * DAY, report),
        });
    }
}

fn read_rest(root: &Section<'_>, draft: &mut Draft, report: &mut Report) {
    let buffers = open(root, "buffers", report);
    draft.listener_buffer = buffers.size("listener", 64 * KIB..=64 * MIB, report);
    draft.relay_buffer = buffers.size("relay", 64 * KIB..=64 * MIB, report);
    let discovery = open(root, "nat_discovery", report);
    draft.alternate_address =
        discovery.parsed("alternate_address", parse_alternate_address, report);
    draft.alternate_port = discovery.number("alternate_port", 1..=U16, report);
    draft.mobility = open(root, "mobility", report).boolean("enabled", report);
    draft.redirect = read_redirect(&open(root, "redirect", report), report);
    let compatibility = open(root, "compatibility", report);
    draft.rfc3489 = compatibility.boolean("rfc3489", report);
    draft.rfc5766_channels = compatibility.boolean("rfc5766_channels", report);
    let drain = open(root, "drain", report);
    draft.drain_limit = drain.duration("limit", 0..=7 * DAY, report);
    draft.stop_limit = drain.duration("stop_limit", 0..=HOUR, report);
    draft.upgrade_limit = drain.duration("upgrade_limit", 0..=7 * DAY, report);
    draft.process = read_process(&open(root, "process", report), report);
    draft.control = open(root, "control", report).string("socket", report);
    draft.metrics = open(root, "metrics", report).parsed("listen", parse_metrics, report);
    let log = open(root, "log", report);
    draft.level = log.parsed("level", parse_level, report);
    draft.format = log.parsed("format", parse_format, report);
}

fn read_redirect(section: &Section<'_>, report: &mut Report) -> DraftRedirect {
    DraftRedirect {
        servers: section.list("servers", parse_alternate_server, report),
        tls_servers: section.list("tls_servers", parse_alternate_server, report),
        domain: section.parsed("domain", parse_domain, report),
    }
}

fn read_process(section: &Section<'_>, report: &mut Report) -> DraftProcess {
    DraftProcess {
        user: section.string("user", report),
        landlock: section.boolean("landlock", report),
        seccomp: section.boolean("seccomp", report),
    }
}

/// The section `name`, its unknown keys reported.
fn open<'t>(root: &Section<'t>, name: &'static str, report: &mut Report) -> Section<'t> {
    let section = root.section(name, report);
    refuse_unknown_keys(&section, name, report);
    section
}

fn elements<T>(list: Option<List<T>>) -> Vec<Located<T>> {
    list.map(|list| list.value).unwrap_or_default()
}

fn refuse_unknown_sections(root: &Section<'_>, report: &mut Report) {
    let names: Vec<_> = SECTIONS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !name.contains('.'))
        .collect();
    for (name, spot, value) in root.keys().filter(|(name, ..)| !names.contains(name)) {
        let message = if value.is_table() || value.is_array() && home_of(name).is_none() {
            let remedy = similar(name, &names).map_or_else(
                || format!("the sections are {}", names.join(", ")),
                |similar| format!("did you mean [{similar}]?"),
            );
            format!("unknown section {name:?}; {remedy}")
        } else {
            let remedy = home_of(name).map_or_else(
                || "every key stands in a section".to_owned(),
                |section| format!("it belongs in [{section}]"),
            );
            format!("key {name:?} stands outside of all sections; {remedy}")
        };
        report.error_in_full(&spot, message);
    }
}

fn refuse_unknown_keys(section: &Section<'_>, name: &str, report: &mut Report) {
    let known = keys_of(name);
    for (key, spot, _) in section.keys().filter(|(key, ..)| !known.contains(key)) {
        report.error_in_full(&spot, unknown_key(key, name, known));
    }
}

fn unknown_key(key: &str, section: &str, known: &[&str]) -> String {
    let near = format!("{section}.");
    let part = SECTIONS.iter().map(|(name, _)| *name);
    let mut parts = part.filter(|name| name.starts_with(&near) && keys_of(name).contains(&key));
    let home = parts.next().or_else(|| home_of(key));
    let remedy = match (similar(key, known), home) {
        (_, Some(home)) => format!("it belongs in [{home}]"),
        (Some(similar), None) => format!("did you mean {similar:?}?"),
        (None, None) => format!("the keys here are {}", known.join(", ")),
    };
    format!("unknown key {key:?} in [{section}]; {remedy}")
}

fn keys_of(section: &str) -> &'static [&'static str] {
    let entry = SECTIONS.iter().find(|(name, _)| *name == section);
    entry.map_or(&[], |(_, keys)| keys)
}

/// The section that has `key`.
fn home_of(key: &str) -> Option<&'static str> {
    let has_key = |(_, keys): &&(&str, &[&str])| keys.contains(&key);
    SECTIONS.iter().find(has_key).map(|(name, _)| *name)
}

/// The one of `known` that `word` is most likely a slip for.
fn similar<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    known
        .iter()
        .copied()
        .min_by_key(|known| distance(known))
        .filter(|known| distance(known) <= 1 + known.len() / 4)
}
