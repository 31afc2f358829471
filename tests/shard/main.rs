//! Shards over loopback: real sockets, real threads, a hand-made client.

mod certificates;
mod client;
mod datagrams;
mod handshakes;
mod harness;
mod one_port;
mod proxy_protocol;
mod streams;
mod tls;
