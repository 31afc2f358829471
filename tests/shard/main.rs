//! Shards over loopback: real sockets, real threads, a hand-made client.

mod certificates;
mod client;
mod datagrams;
mod harness;
mod streams;
mod tls;
