//! The real binary with real clients: the `turn` crate, Debian's coturn tools, Chromium, and hostile
//! ones. A test whose programs are not installed says `SKIPPED`; with `CI=true` it fails.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test helper fails by panicking and says why"
)]

mod bench;
mod bench_refusals;
mod browsers;
mod certificates;
mod chaos;
mod client;
mod clock;
mod confined;
mod coturn_tools;
mod dialogue;
mod dtls;
#[path = "../shard/dtls_link.rs"]
mod dtls_link;
mod dual_allocation;
mod fairness;
mod families;
mod fragments;
mod hostile;
mod http;
mod icmp;
mod ip_headers;
mod machine;
mod metrics;
mod mobility;
mod mutation;
mod namespace;
mod nat_discovery;
mod oauth;
mod one_port;
mod operator;
mod own_host;
mod process;
mod relaying;
mod reload;
mod reservations;
mod server;
mod signalling;
mod sizes;
mod succession;
mod tcp_relays;
mod tls;
mod tls_reload;
mod upgrade;
mod upgrade_container;
mod upgrade_deed;
mod upgrade_line;
mod upgrade_service;
mod upgrade_tcp_relays;
mod upgrade_versions;
mod upgrade_whole;
mod web;
