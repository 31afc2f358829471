//! The rules of the house, each a function from a source file to what breaks it.

use std::fmt;

use super::source::{Path, Source};

/// Every room and its rung; a room imports from lower rungs only.
const LADDER: &[(&str, u8)] = &[
    ("stun", 0),
    ("time", 0),
    ("turn", 1),
    ("transport", 2),
    ("net", 2),
    ("metrics", 2),
    ("credentials", 2),
    ("config", 2),
    ("probe", 2),
    ("shard", 3),
    ("load", 3),
    ("control", 4),
    ("cli", 5),
    ("main", 5),
];

/// Imports within one rung: from, to, why.
pub(crate) const WITHIN_RUNG: [(&str, &str, &str); 2] = [
    ("main", "cli", "main does nothing but hand over to cli"),
    (
        "config",
        "transport",
        "a configuration exists only if its certificates are good, and all problems are told at once",
    ),
];

/// Rooms that own no socket, clock, thread, file or random source.
const PURE: [&str; 4] = ["stun", "turn", "time", "probe"];

const ANYWHERE: &[&str] = &["*"];
const WAITING: &[&str] = &["control", "credentials"];

/// Every dependency and the rooms that may use it.
const HOMES: &[(&str, &[&str])] = &[
    ("aes_gcm", &["turn", "credentials"]),
    ("axum", WAITING),
    ("base64", &["turn", "credentials"]),
    ("clap", &["cli"]),
    ("crc32fast", &["stun"]),
    ("dimpl", &["transport"]),
    ("foldhash", &["turn", "transport", "net", "shard"]),
    ("getrandom", &["config", "credentials", "control", "cli"]),
    ("hdrhistogram", &["load"]),
    ("hmac", &["stun", "turn"]),
    ("hyper", WAITING),
    ("hyper_util", WAITING),
    ("indicatif", &["cli"]),
    ("landlock", &["control"]),
    ("libc", &["net"]),
    ("md5", &["turn"]),
    ("plotters", &["load"]),
    ("precis_profiles", &["turn"]),
    ("prometheus", &["metrics"]),
    ("rand_chacha", &["turn"]),
    ("rtrb", &["shard"]),
    ("rustls", &["transport", "load"]),
    ("rustls_pki_types", &["transport"]),
    ("seccompiler", &["net"]),
    ("serde", &["turn", "control"]),
    (
        "serde_json",
        &["turn", "config", "credentials", "control", "load", "cli"],
    ),
    ("sha1", &["stun", "turn"]),
    ("sha2", &["stun", "turn"]),
    ("socket2", &["net"]),
    ("strsim", &["config"]),
    ("stun", &["load"]),
    ("subtle", &["stun", "turn", "transport", "control"]),
    ("tokio", WAITING),
    ("toml", &["config"]),
    ("tracing", ANYWHERE),
    ("tracing_subscriber", &["control"]),
    ("turn", &["load"]),
    ("x509_cert", &["transport"]),
];

/// What a pure room may take from the modules of `std` that otherwise reach outside.
const PURE_STD: [&str; 8] = [
    "std::net::AddrParseError",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
    "std::time::Duration",
];

/// Modules of `std` that reach outside the process, or ask it the time.
const OUTSIDE: [&str; 8] = ["env", "fs", "io", "net", "os", "process", "thread", "time"];

/// The one place that may hold `unsafe`.
const UNSAFE_PLACE: &str = "net/linux/";

/// The most lines of a file.
pub(crate) const MOST_LINES: usize = 500;

/// A broken rule, as `src/turn/auth.rs:12: …`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Everything in `source` that breaks a rule.
pub(crate) fn violations(source: &Source) -> Vec<Violation> {
    let mut found = of_file(source);
    for path in &source.paths {
        let broken = [
            ladder(source, path),
            purity(source, path),
            home(source, path),
        ];
        found.extend(broken.into_iter().flatten().map(|what| Violation {
            file: source.path.clone(),
            line: path.line,
            what,
        }));
    }
    found.dedup();
    found
}

/// The room of a file: its first directory, or its own name.
fn room(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn rung(room: &str) -> Option<u8> {
    LADDER
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, rung)| *rung)
}

fn of_file(source: &Source) -> Vec<Violation> {
    let violation = |line, what: String| Violation {
        file: source.path.clone(),
        line,
        what,
    };
    let mut found = Vec::new();
    if source.lines > MOST_LINES {
        let what = format!("{} lines; split it by subject", source.lines);
        found.push(violation(MOST_LINES + 1, what));
    }
    if source.path != "lib.rs" && rung(room(&source.path)).is_none() {
        found.push(violation(
            1,
            format!("room {} is not on the ladder", room(&source.path)),
        ));
    }
    if !source.path.starts_with(UNSAFE_PLACE) {
        let lines = source.unsafe_lines.iter();
        found.extend(lines.map(|line| violation(*line, format!("unsafe outside {UNSAFE_PLACE}"))));
    }
    found
}

/// A room imports only from lower rungs.
fn ladder(source: &Source, path: &Path) -> Option<String> {
    let from = room(&source.path);
    if reaches_root_by_super(source, path) {
        return Some("leaves the room by super; write crate::".into());
    }
    let to = imported_room(from, path)?;
    if from == "lib" || from == to {
        return None;
    }
    let Some(to_rung) = rung(to) else {
        return Some(format!("crate::{to} is no room of the ladder"));
    };
    let excepted = WITHIN_RUNG.iter().any(|(a, b, _)| (*a, *b) == (from, to));
    let allowed = excepted || rung(from).is_some_and(|from_rung| to_rung < from_rung);
    (!allowed).then(|| format!("{from} may not import from {to}: it stands no lower on the ladder"))
}

/// The room that a path of this crate leads to.
fn imported_room<'p>(from: &str, path: &'p Path) -> Option<&'p str> {
    let own = if from == "main" { "turnstone" } else { "crate" };
    (path.segments[0] == own).then(|| path.segments.get(1).map_or("itself", String::as_str))
}

fn reaches_root_by_super(source: &Source, path: &Path) -> bool {
    let supers = path
        .segments
        .iter()
        .take_while(|segment| *segment == "super");
    let parts = source.path.split('/').filter(|part| *part != "mod.rs");
    supers.count() >= parts.count() + usize::from(path.in_tests)
}

/// A pure room is told what it needs; a transport is handed bytes.
fn purity(source: &Source, path: &Path) -> Option<String> {
    let room = room(&source.path);
    let outside: &[&str] = match room {
        "transport" => &["net", "os"],
        pure if PURE.contains(&pure) => &OUTSIDE,
        _ => return None,
    };
    let std = matches!(path.segments[0].as_str(), "std" | "core");
    let module = path.segments.get(1)?.as_str();
    if path.in_tests || !std || !outside.contains(&module) {
        return None;
    }
    let item = format!("std::{}", path.segments[1..].join("::"));
    let allowed = PURE_STD.iter().any(|pure| {
        item == *pure
            || item
                .strip_prefix(pure)
                .is_some_and(|rest| rest.starts_with("::"))
    });
    (!allowed).then(|| format!("{room} is pure and may not use {item}"))
}

/// A crate serves in its own rooms.
fn home(source: &Source, path: &Path) -> Option<String> {
    let room = room(&source.path);
    let (name, rooms) = HOMES.iter().find(|(name, _)| *name == path.segments[0])?;
    if !path.global && imports_room(source, name) {
        return None;
    }
    let at_home = *rooms == ANYWHERE || rooms.contains(&room);
    (!at_home && !path.in_tests).then(|| {
        format!(
            "{room} may not use the crate {name}; its home: {}",
            rooms.join(", ")
        )
    })
}

/// Whether `name`, a crate's and a room's too, stands for the room in this file.
fn imports_room(source: &Source, name: &str) -> bool {
    let room = ["crate", name];
    source.paths.iter().any(|path| path.segments == room)
}

/// Whether it is said where the dependency `name` lives.
pub(crate) fn has_home(name: &str) -> bool {
    // The one crate whose library is not named for its package.
    let library = if name == "md-5" {
        "md5".into()
    } else {
        name.replace('-', "_")
    };
    HOMES.iter().any(|(known, _)| *known == library)
}
