//! Shards over loopback: real sockets, real threads, a hand-made client.

mod client;
mod datagrams;
mod dtls;
mod dtls_link;
mod harness;
mod streams;
