//! Shards over loopback: real sockets, real threads, a hand-made client.

mod client;
mod datagrams;
mod harness;
mod mobility;
mod streams;
