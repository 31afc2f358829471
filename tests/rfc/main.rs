//! The rules of the RFCs, one test each, named for the rule.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "../common/mod.rs"]
mod common;

mod allocate;
mod allocate_refused;
mod bearer;
mod binding;
mod channel_bind;
mod channel_data;
mod create_permission;
mod data;
mod dialogue;
mod dont_fragment;
mod dtls;
mod dual_allocation;
mod errors;
mod even_port;
mod fingerprint;
mod handover;
mod handover_bytes;
mod handover_moves;
mod handover_stays;
mod hop;
mod hop_differential;
mod icmp;
mod lifetime;
mod long_term;
mod mobility;
mod mobility_moves;
mod mobility_shards;
mod nat_discovery;
mod oauth;
mod oauth_life;
mod password_algorithms;
mod redirect;
mod refresh;
mod reservation;
mod retransmission;
mod rfc3489;
mod security;
mod security_amplification;
mod security_bandwidth;
mod security_encodings;
mod security_peers;
mod security_resources;
mod send;
mod smoke;
mod stun_attributes;
mod stun_header;
mod tcp_allocations;
mod tcp_connect;
mod tcp_connections;
mod tcp_dialogue;
mod tcp_handed_back;
mod vectors;
