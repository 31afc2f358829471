//! What the tests of this crate say again and again.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::{AttributeType, MAGIC_COOKIE, Method};
use turnstone::turn::{Counter, FiveTuple, Policy, Reason};

use crate::common::{Login, Out, Response, World, address, policy, send_indication, udp};

pub(crate) type Attributes<'a> = &'a [(AttributeType, Vec<u8>)];

/// A type that no specification has given away, comprehension-required.
pub(crate) const UNKNOWN: AttributeType = AttributeType(0x7FFE);

pub(crate) fn world() -> World {
    World::new(policy())
}

pub(crate) fn world_with(change: impl FnOnce(&mut Policy)) -> World {
    let mut policy = policy();
    change(&mut policy);
    World::new(policy)
}

/// The usual client.
pub(crate) fn client() -> FiveTuple {
    udp("203.0.113.7:4000")
}

/// The usual peer.
pub(crate) fn peer() -> SocketAddr {
    address("198.51.100.1:9000")
}

/// A world in which the usual client has an allocation, and its relayed transport address.
pub(crate) fn allocated() -> (World, SocketAddr) {
    let mut world = world();
    let relay = world.allocate(client());
    (world, relay)
}

/// Alice asks from the usual client.
pub(crate) fn ask(world: &mut World, method: Method, attributes: Attributes<'_>) -> Response {
    world.ask(&Login::alice(), client(), method, attributes)
}

/// The code that the usual request is answered with; none for success.
pub(crate) fn code(world: &mut World, method: Method, attributes: Attributes<'_>) -> Option<u16> {
    ask(world, method, attributes).code()
}

/// Whether a Send indication of the usual client reaches `peer`.
pub(crate) fn reaches(world: &mut World, peer: SocketAddr) -> bool {
    let out = world.send(client(), &send_indication(peer, b"to the peer"));
    matches!(out, Out::ToPeer { .. })
}

/// Whether a datagram of `peer` reaches the client.
pub(crate) fn hears(world: &mut World, relay: SocketAddr, peer: SocketAddr) -> bool {
    world.peer_sends(relay, peer, b"from the peer") != Out::Nothing
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many packets were dropped for `reason`.
pub(crate) fn dropped(world: &World, reason: Reason) -> u64 {
    world.server.stats().get(Counter::Dropped(reason))
}

/// Sends `packet` from the usual client and checks that it is dropped for `reason`.
pub(crate) fn assert_dropped(world: &mut World, packet: &[u8], reason: Reason) {
    let before = dropped(world, reason);
    assert_eq!(world.send(client(), packet), Out::Nothing, "{packet:02x?}");
    assert_eq!(dropped(world, reason), before + 1, "{packet:02x?}");
}

/// A message of type `bits` with `attributes`, written byte by byte.
pub(crate) fn raw(bits: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = bits.to_be_bytes().to_vec();
    message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    message.extend_from_slice(b"transaction!");
    message.extend_from_slice(&body);
    message
}

/// A Binding request with `attributes`.
pub(crate) fn binding(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    raw(0x0001, attributes)
}
