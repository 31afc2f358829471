//! Shards over loopback: real sockets, real threads, a hand-made client.

mod certificates;
mod client;
mod conversation;
mod datagrams;
mod dtls;
mod dtls_link;
mod freeze;
mod handed_back;
mod handshakes;
mod harness;
mod hops;
mod mobility;
mod one_port;
mod one_port_limits;
mod proxy_protocol;
mod publishing;
mod streams;
mod tcp_over_tls;
mod tcp_placement;
mod tcp_relays;
mod tcp_scene;
mod tls;
mod trains;
mod web;
