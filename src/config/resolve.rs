//! From what was written to what it means: defaults, and checks across keys.

use std::mem::take;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::auth::{check_secrets, check_users};
use super::draft::{Draft, Key, Located, or, or_else};
use super::limits::{check_bandwidth, check_lifetimes, check_limits};
use super::oauth::check_oauth;
use super::places::resolve_places;
use super::process::check_process;
use super::report::Report;
use super::security::check_security;
use super::{
    Buffers, Config, DEFAULT_REALM, Drain, Level, Log, LogFormat, PlainUser, Streams, Tls, User,
};
use crate::stun::ChannelRange;
use crate::turn::Security;

const DEFAULT_SOFTWARE: &str = "turnstone";
/// The longest SOFTWARE in characters (RFC 8489 §14.14).
const MAX_SOFTWARE: usize = 127;
/// The longest REALM in characters (RFC 8489 §14.9).
const MAX_REALM: usize = 127;

/// The configuration that `draft` means. If `report` has errors afterwards, it must not be used.
pub(super) fn resolve(mut draft: Draft, report: &mut Report) -> Config {
    let workers = or_else(&draft.workers, available_cores);
    let (streams, buffers, log) = (streams(&draft), buffers(&draft), log(&draft));
    let drain = drain(&draft);
    let places = resolve_places(&mut draft, workers, report);
    let (users, zero_config_user, security) = resolve_users(&mut draft, report);
    Config {
        listen: places.listen,
        udp: places.udp,
        tcp: places.tcp,
        files: files(draft.files, &places.tls),
        tls: places.tls,
        workers: NonZeroU16::new(workers).unwrap_or(NonZeroU16::MIN),
        realm: check_realm(draft.realm, report),
        users,
        security,
        secrets: check_secrets(draft.secrets, report),
        oauth: check_oauth(draft.oauth_server_name, draft.oauth_keys, report),
        lifetimes: check_lifetimes(&draft.lifetimes, report),
        limits: check_limits(&draft.limits, report),
        bandwidth: check_bandwidth(&draft.bandwidth),
        relay: places.relay,
        external: places.external,
        rules: draft.rules.into_iter().map(|rule| rule.value).collect(),
        drain,
        control: control(draft.control),
        process: check_process(draft.process, report),
        metrics: places.metrics,
        log,
        streams,
        proxy_protocol_from: places.proxy_protocol_from,
        upstreams: places.upstreams,
        buffers,
        software: check_software(draft.software, report),
        nat_discovery: places.nat_discovery,
        mobility: or(&draft.mobility, false),
        rfc3489: or(&draft.rfc3489, true),
        channels: channels(&draft.rfc5766_channels),
        alternates: places.alternates,
        zero_config_user,
        warnings: Vec::new(),
    }
}

/// The users, the one that there is when nothing is configured, and how passwords are used.
fn resolve_users(
    draft: &mut Draft,
    report: &mut Report,
) -> (Vec<User>, Option<PlainUser>, Security) {
    let with_secrets = !draft.secrets.is_empty();
    let (users, zero_config_user) = check_users(take(&mut draft.users), with_secrets, report);
    let algorithms = draft.algorithms.take();
    let userhash = draft.userhash.take();
    let security = check_security(algorithms, userhash, &users, with_secrets, report);
    (users, zero_config_user, security)
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
