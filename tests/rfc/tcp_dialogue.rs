//! What the tests of TCP allocations say again and again.

use std::net::SocketAddr;

use turnstone::turn::{Counter, FiveTuple, PeerEnd, Policy};

use crate::common::{Login, Out, World, address, policy, tcp};

pub(crate) const TCP: u8 = 6;
pub(crate) const V4: u8 = 1;
pub(crate) const V6: u8 = 2;

pub(crate) fn offering() -> Policy {
    let mut policy = policy();
    policy.relay.tcp = true;
    policy
}

pub(crate) fn world() -> World {
    World::new(offering())
}

/// The usual control connection.
pub(crate) fn control() -> FiveTuple {
    tcp("203.0.113.7:4000")
}

/// The connection on which the client binds.
pub(crate) fn data() -> FiveTuple {
    tcp("203.0.113.7:4001")
}

pub(crate) fn peer() -> SocketAddr {
    address("198.51.100.1:9000")
}

pub(crate) fn alice() -> Login {
    Login::alice()
}

/// A world in which the usual client has a TCP allocation, and its relayed transport address.
pub(crate) fn allocated() -> (World, SocketAddr) {
    let mut world = world();
    let relay = world.allocate_tcp(control(), V4);
    (world, relay)
}

pub(crate) fn refused(out: Out) -> Option<u16> {
    out.response().code()
}

pub(crate) fn count(world: &World, counter: Counter) -> u64 {
    world.server.stats().get(counter)
}

pub(crate) fn ended(world: &World, end: PeerEnd) -> u64 {
    count(world, Counter::PeerConnectionsEnded(end))
}
