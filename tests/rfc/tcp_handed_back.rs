//! Data connections of TCP allocations that stay in the process from which another one took over (RFC 6062
//! §5.4): they come to the new process, which hands them back.

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, FiveTuple, PeerConnectionId, Transport};

use crate::common::{Login, Out, World, connection_id, policy, tcp, udp};
use crate::tcp_dialogue::{V4, alice, allocated, control, count, data, offering, peer, refused};

/// The process that took over from `old`, and an id that the old one gave out.
fn succeeded() -> (World, World, PeerConnectionId) {
    let (mut old, _) = allocated();
    let id = old.connected(control(), peer());
    let new = old.succeed(offering(), 0);
    (old, new, id)
}

/// Sends a ConnectionBind without credentials, as a client begins.
fn begin(world: &mut World, from: FiveTuple, id: PeerConnectionId) -> Out {
    let request = world.request(Method::CONNECTION_BIND, &[connection_id(id)]);
    world.send(from, &request)
}

/// RFC 6062 §5.4: the process that has the allocation asks for the credentials, and joins.
#[test]
fn a_bind_goes_to_the_process_that_has_the_allocation() {
    let (mut old, mut new, id) = succeeded();
    assert_eq!(begin(&mut new, data(), id), Out::Nothing);
    assert_eq!(count(&new, Counter::Parked), 1);
    let (client, request) = new.peers.handed_back.pop().expect("handed back");
    assert_eq!(client, data());
    assert_eq!(refused(old.send(client, &request)), Some(401));
    assert_eq!(old.bind_connection(&alice(), client, id).code(), None);
    assert_eq!(old.peers.joined.get(&id), Some(&data()));
}

/// RFC 6062 §4.3: the nonce of the control connection is good for a bind that the new process hands back.
#[test]
fn a_bind_with_the_nonce_of_the_control_connection_is_handed_back_as_it_is() {
    let (mut old, mut new, id) = succeeded();
    let nonce = old.nonce(control());
    let transaction = old.transaction();
    let bind = [connection_id(id)];
    let request = alice().sign(transaction, Method::CONNECTION_BIND, &bind, &nonce);
    assert_eq!(new.send(data(), &request), Out::Nothing);
    let (client, handed) = new.peers.handed_back.pop().expect("handed back");
    assert_eq!(*handed, *request);
    assert_eq!(refused(old.send(client, &handed)), None);
    assert_eq!(old.peers.joined.get(&id), Some(&data()));
}

/// Over TLS as over TCP; not over what is no stream (RFC 6062 §4.1), and not on a control connection.
#[test]
fn only_new_connections_are_handed_back() {
    let (_, mut new, id) = succeeded();
    let tls = FiveTuple {
        transport: Transport::Tls,
        ..data()
    };
    assert_eq!(begin(&mut new, tls, id), Out::Nothing);
    let from = udp("203.0.113.7:4001");
    let over_udp = new.bind_connection(&alice(), from, id);
    assert_eq!(over_udp.code(), Some(400));
    let other = tcp("203.0.113.9:4000");
    new.allocate_tcp(other, V4);
    let on_control = new.bind_connection(&alice(), other, id);
    assert_eq!(on_control.code(), Some(437));
    assert_eq!(new.peers.handed_back.len(), 1);
}

/// What the process gave out itself, what nobody gave out, and what is no id.
#[test]
fn other_binds_are_the_new_process_s() {
    let (_, mut new, old_id) = succeeded();
    let control = tcp("203.0.113.9:4000");
    new.allocate_tcp(control, V4);
    let own = new.connected(control, peer());
    assert_ne!(own.to_bits() >> 24, old_id.to_bits() >> 24);
    let from = tcp("203.0.113.9:4001");
    assert_eq!(new.bind_connection(&alice(), from, own).code(), None);
    let bind = |new: &mut World, attributes: &[_]| {
        let answer = new.ask(&alice(), data(), Method::CONNECTION_BIND, attributes);
        answer.code()
    };
    for first_byte in (0..=u8::MAX).filter(|byte| u32::from(*byte) != old_id.to_bits() >> 24) {
        let nobodys = PeerConnectionId::from_bits(u32::from(first_byte) << 24 | 7);
        assert_eq!(bind(&mut new, &[connection_id(nobodys)]), Some(400));
    }
    assert_eq!(bind(&mut new, &[]), Some(400));
    let short = (AttributeType::CONNECTION_ID, vec![0; 3]);
    assert_eq!(bind(&mut new, &[short]), Some(400));
    assert!(new.peers.handed_back.is_empty());
}

/// The allocation is the old process's, whatever the operator offers in the new one.
#[test]
fn a_bind_is_handed_back_by_a_process_without_tcp_allocations() {
    let (mut old, _) = allocated();
    let id = old.connected(control(), peer());
    let mut new = old.succeed(policy(), 0);
    assert_eq!(begin(&mut new, data(), id), Out::Nothing);
    assert_eq!(new.peers.handed_back.len(), 1);
}

/// RFC 6062 §5.4: an id that nobody knows any more is answered with 400, behind the usual challenge.
#[test]
fn a_bind_that_nobody_takes_is_refused() {
    let (_, mut new, id) = succeeded();
    new.peers.alone = true;
    assert_eq!(refused(begin(&mut new, data(), id)), Some(401));
    let refused_bind = new.bind_connection(&alice(), data(), id);
    assert_eq!(refused_bind.code(), Some(400));
    assert_eq!(count(&new, Counter::Parked), 0);
    new.server.forget_formers();
    new.peers.alone = false;
    assert_eq!(new.bind_connection(&alice(), data(), id).code(), Some(400));
    assert!(new.peers.handed_back.is_empty());
}

/// Each process hands back to the one before it.
#[test]
fn a_bind_goes_back_through_all_processes() {
    let (mut first, mut second, id) = succeeded();
    let from = tcp("203.0.113.9:4000");
    second.allocate_tcp(from, V4);
    let second_id = second.connected(from, peer());
    let mut third = second.succeed(offering(), 0);
    for (wanted, expected) in [(id, true), (second_id, false)] {
        assert_eq!(begin(&mut third, data(), wanted), Out::Nothing);
        let (client, request) = third.peers.handed_back.pop().expect("handed back");
        let out = second.send(client, &request);
        assert_eq!(out == Out::Nothing, expected);
    }
    let (client, request) = second.peers.handed_back.pop().expect("handed back");
    assert_eq!(refused(first.send(client, &request)), Some(401));
    assert_eq!(first.bind_connection(&alice(), client, id).code(), None);
}

/// RFC 6062 §4.3, requirement S12: another user's bind is refused where the allocation is.
#[test]
fn a_bind_that_was_handed_back_is_signed_by_the_user_of_the_allocation() {
    let (mut old, mut new, id) = succeeded();
    assert_eq!(begin(&mut new, data(), id), Out::Nothing);
    let foreign = old.bind_connection(&Login::bob(), data(), id);
    assert_eq!(foreign.code(), Some(441));
    assert!(old.peers.joined.is_empty());
}
