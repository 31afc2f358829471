//! Sessions with the library as client, on virtual time.

mod attacks;
mod client;
mod events;
mod handshakes;
mod limits;
mod link;
mod world;
