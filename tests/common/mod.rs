//! What the tests of the pure core share: a server on virtual time, and clients that talk to it.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test crate uses a part"
)]

mod login;
mod messages;
mod peers;
mod policy;
pub mod random;
mod response;
mod takeover;
pub mod token;
mod world;

use std::net::{IpAddr, SocketAddr};

use turnstone::turn::{FiveTuple, Transport};

pub use login::Login;
pub use messages::{
    additional_family, channel_data, channel_number, connection_id, even_port, lifetime,
    requested_family, requested_transport, send_indication, xor_peer_address,
};
pub use peers::Peers;
pub use policy::{peers, policy};
pub use response::Response;
pub use world::{Out, World};

pub const REALM: &str = "example.org";
pub const USER: &str = "alice";
pub const PASSWORD: &str = "wonderland";
pub const SECRET: &str = "north";

/// The wall clock when a test starts.
pub const START: u64 = 1_700_000_000;

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A five-tuple from `client` to the server's usual address of the same family.
pub fn udp(client: &str) -> FiveTuple {
    five_tuple(Transport::Udp, client)
}

pub fn tcp(client: &str) -> FiveTuple {
    five_tuple(Transport::Tcp, client)
}

pub fn dtls(client: &str) -> FiveTuple {
    five_tuple(Transport::Dtls, client)
}

fn five_tuple(transport: Transport, client: &str) -> FiveTuple {
    let client = address(client);
    let server = if client.is_ipv4() {
        "192.0.2.10:3478"
    } else {
        "[2001:db8::10]:3478"
    };
    FiveTuple {
        transport,
        client,
        server: address(server),
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
