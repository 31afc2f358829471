//! The house stands as it was drawn: rooms import downwards, pure rooms touch nothing outside, each
//! crate stays in its rooms, `unsafe` in its file, and files stay short.

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use rules::{MOST_LINES, Violation, WITHIN_RUNG, has_home, violations};
use source::Source;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("directory");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn list(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(|violation| format!("\n  {violation}"))
        .collect()
}

#[test]
fn every_file_keeps_the_rules() {
    let source_root = root().join("src");
    let files = rust_files(&source_root);
    assert!(files.len() > 10, "found only {} files", files.len());
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&source_root).expect("below src");
        let text = fs::read_to_string(&file).expect("source text");
        let source = Source::parse(&name.to_string_lossy(), &text);
        found.extend(violations(&source));
    }
    assert!(found.is_empty(), "broken rules:{}", list(&found));
}

#[test]
fn every_dependency_has_a_home() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("manifest");
    let homeless: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .filter(|name| !has_home(name))
        .collect();
    assert!(
        homeless.is_empty(),
        "say in rules.rs where they live: {homeless:?}"
    );
}

#[test]
fn exceptions_form_no_circle() {
    for (from, to, _) in WITHIN_RUNG {
        let mut reached = vec![to];
        let mut next = 0;
        while let Some(room) = reached.get(next).copied() {
            assert_ne!(room, from, "a circle through {from}");
            next += 1;
            let further = WITHIN_RUNG.iter().filter(|(a, _, _)| *a == room);
            let new: Vec<&str> = further
                .map(|(_, b, _)| *b)
                .filter(|b| !reached.contains(b))
                .collect();
            reached.extend(new);
        }
    }
}

/// What the rules say of a made-up file.
fn judge(file: &str, text: &str) -> Vec<String> {
    let found = violations(&Source::parse(file, text));
    found.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(file: &str, text: &str, place: &str) {
    let found = judge(file, text);
    assert_eq!(found.len(), 1, "{file}: {text}\n{found:?}");
    assert!(
        found[0].starts_with(&format!("src/{file}:{place}: ")),
        "{found:?}"
    );
}

#[track_caller]
fn accepted(file: &str, text: &str) {
    assert_eq!(judge(file, text), Vec::<String>::new(), "{file}: {text}");
}

#[test]
fn imports_go_down_the_ladder() {
    refused("turn/server.rs", "use crate::shard::Shard;", "1");
    refused("turn/mod.rs", "\n\nfn f() { crate::net::bind() }", "3");
    refused("stun/mod.rs", "use crate::time::Instant;", "1");
    refused(
        "net/tcp.rs",
        "use crate::{\n    time::Instant,\n    metrics::{self, Page},\n};",
        "3",
    );
    refused(
        "shard/mod.rs",
        "use crate::control::http::{A, B as C};",
        "1",
    );
    refused("turn/auth.rs", "use super::super::net::X;", "1");
    refused("turn/mod.rs", "use super::net::X;", "1");
    refused("main.rs", "fn main() { turnstone::office::run() }", "1");
    accepted("main.rs", "fn main() { turnstone::cli::run() }");
    accepted(
        "shard/mod.rs",
        "use crate::{net, turn::{Server, self}, time::Instant};",
    );
    accepted(
        "turn/auth.rs",
        "use super::keys::Credentials; pub(in crate::turn) fn f() {}",
    );
    accepted("turn/mod.rs", "#[cfg(test)]\nmod tests { use super::*; }");
}

#[test]
fn rooms_stand_on_the_ladder() {
    refused("attic/mod.rs", "//! Things.", "1");
    refused("turn/mod.rs", "use crate::attic::Thing;", "1");
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    refused("turn/server.rs", "use std::net::{IpAddr, UdpSocket};", "1");
    refused(
        "turn/server.rs",
        "let now = std::time::Instant::now();",
        "1",
    );
    refused("stun/mod.rs", "use std::{fmt, time::SystemTime};", "1");
    refused("time.rs", "use std::time;", "1");
    refused("turn/mod.rs", "use std::net::*;", "1");
    refused("turn/mod.rs", "fn f() { ::std::thread::spawn(g); }", "1");
    refused("stun/mod.rs", "use core::net::TcpStream as S;", "1");
    refused("turn/mod.rs", "use std::fs::{self};", "1");
    refused(
        "turn/mod.rs",
        "fn seed() { getrandom::fill(&mut seed) }",
        "1",
    );
    refused("transport/tls.rs", "use std::net::TcpStream;", "1");
    accepted("transport/tls.rs", "use std::io::Read;");
    accepted(
        "turn/server.rs",
        "use std::net::{IpAddr, Ipv4Addr}; use std::time::Duration;",
    );
    accepted(
        "turn/server.rs",
        "fn f() { std::net::Ipv4Addr::new(0, 0, 0, 0) }",
    );
    accepted(
        "turn/server.rs",
        "#[cfg(test)] mod tests { use std::time::Instant; }",
    );
    accepted("turn/tests/flow.rs", "use std::thread;");
}

#[test]
fn crates_stay_at_home() {
    refused("shard/mod.rs", "use tokio::time::sleep;", "1");
    refused(
        "control/mod.rs",
        "use prometheus::{Encoder, TextEncoder};",
        "1",
    );
    refused("cli/mod.rs", "fn f() { libc::getpid(); }", "1");
    refused("config/mod.rs", "#[derive(clap::Parser)]\nstruct A;", "1");
    accepted("control/mod.rs", "use tokio::{net::TcpListener, signal};");
    accepted("shard/mod.rs", "fn f() { tracing::debug!(\"up\") }");
    accepted("shard/mod.rs", "#[cfg(test)] mod tests { use tokio::net; }");
}

#[test]
fn crates_named_like_rooms_are_told_from_them() {
    refused("shard/mod.rs", "use turn::proto::PROTO_UDP;", "1");
    refused(
        "shard/mod.rs",
        "use crate::turn;\nfn f() { ::turn::x() }",
        "2",
    );
    refused(
        "shard/mod.rs",
        "use crate::turn;\nuse ::turn::{proto};",
        "2",
    );
    accepted("shard/mod.rs", "use crate::turn; fn f(a: turn::Setup) {}");
    accepted(
        "load/wire.rs",
        "use ::stun::message::Message; use crate::stun;",
    );
}

#[test]
fn unsafe_stays_in_its_file() {
    refused("net/udp.rs", "fn f() {\n    unsafe { g() }\n}", "2");
    accepted("net/linux/epoll.rs", "unsafe fn f() {}");
    accepted("net/udp.rs", "#![deny(unsafe_code)]");
}

#[test]
fn files_stay_short() {
    let short = "// line\n".repeat(MOST_LINES);
    accepted("turn/server.rs", &short);
    refused("turn/server.rs", &format!("{short}// one more\n"), "501");
}

#[test]
fn comments_and_literals_are_not_code() {
    accepted(
        "turn/mod.rs",
        "//! Uses [`crate::shard`] unsafe\n/* /* use crate::net; */ unsafe */",
    );
    accepted(
        "turn/mod.rs",
        r###"const A: &str = "\"use crate::net;"; const B: &str = r#"" unsafe"#;"###,
    );
    accepted(
        "turn/mod.rs",
        r"const A: [char; 3] = ['\'', '\u{41}', '\x20']; const B: &[u8] = b'x' as _;",
    );
    refused(
        "turn/mod.rs",
        "fn f<'a>(x: &'a str) -> char { 'a' } use crate::net::X;",
        "1",
    );
    refused(
        "turn/mod.rs",
        "const A: &str = \"two\nlines\";\nuse crate::net::X;",
        "3",
    );
    refused(
        "turn/mod.rs",
        "const A: char = '\"'; use crate::net::X; // '\"'",
        "1",
    );
}

/// SECURITY.md names the tests that show what it promises.
#[test]
fn every_test_that_the_promises_name_exists() {
    let promises = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let is_test = |name: &&str| {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        name.bytes().all(letters) && name.matches('_').count() >= 3
    };
    let named: Vec<&str> = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(is_test)
        .collect();
    assert!(named.len() > 20, "only {named:?}");
    let files = ["src", "tests"].map(|directory| rust_files(&root().join(directory)));
    let texts: Vec<String> = files
        .iter()
        .flatten()
        .map(|file| fs::read_to_string(file).expect("source text"))
        .collect();
    for name in named {
        let function = format!("fn {name}(");
        assert!(
            texts.iter().any(|text| text.contains(&function)),
            "no test {name}"
        );
    }
}
