//! Retransmissions are answered alike (RFC 8489 §6.3.1, RFC 8656 §5).

use turnstone::stun::Method;
use turnstone::turn::{Action, Event, Family, Reason, Verdict};

use crate::common::{Login, channel_number, lifetime, requested_transport, udp};
use crate::dialogue::{allocated, client, peer, seconds, world};

/// RFC 8656 §7.2: one allocation, one answer.
#[test]
fn a_retransmitted_allocate_gets_the_same_answer() {
    let mut world = world();
    let transport = [requested_transport(17), lifetime(1000)];
    let request = world.signed(&Login::alice(), client(), Method::ALLOCATE, &transport);
    let first = world.send(client(), &request).response();
    world.pass(seconds(10));
    assert_eq!(world.send(client(), &request).response(), first);
    assert_eq!(world.relays.len(), 1);
}

/// RFC 8489 §6.3.1: while the answer is worked out, another copy of the request changes nothing.
#[test]
fn an_allocate_that_is_retransmitted_too_early_is_answered_once() {
    let mut world = world();
    let transport = [requested_transport(17)];
    let request = world.signed(&Login::alice(), client(), Method::ALLOCATE, &transport);
    let server = &mut world.server;
    let first = server.handle_client(world.now, client(), &request);
    assert_eq!(first, Verdict::Park);
    let again = server.handle_client(world.now, client(), &request);
    assert_eq!(again, Verdict::Discard(Reason::AnswerPending));
    let Some(Action::OpenRelay { key, .. }) = server.poll_action() else {
        panic!("no socket is asked for");
    };
    assert_eq!(server.poll_action(), None);
    let family = Family::V4;
    server.handle_event(world.now, Event::RelayOpened { key, family });
    assert!(server.poll_response().is_some() && server.poll_response().is_none());
}

/// RFC 8489 §5: another five-tuple makes the same bytes another request.
#[test]
fn the_same_transaction_id_from_elsewhere_is_another_request() {
    let mut world = world();
    let other = udp("203.0.113.8:4000");
    let relays: Vec<_> = [client(), other]
        .into_iter()
        .map(|from| {
            let nonce = world.nonce(from);
            let id = turnstone::stun::TransactionId([5; 12]);
            let transport = [requested_transport(17)];
            let request = Login::alice().sign(id, Method::ALLOCATE, &transport, &nonce);
            assert_eq!(world.send(from, &request).response().code(), None);
        })
        .collect();
    assert_eq!((relays.len(), world.relays.len()), (2, 2));
}

/// RFC 8656 §7.2: the transaction id alone makes no retransmission of another user's request.
#[test]
fn another_user_does_not_get_the_answer_by_the_transaction_id() {
    let mut world = world();
    let nonce = world.nonce(client());
    let id = turnstone::stun::TransactionId([5; 12]);
    let transport = [requested_transport(17)];
    let codes = [Login::alice(), Login::bob()].map(|login| {
        let request = login.sign(id, Method::ALLOCATE, &transport, &nonce);
        world.send(client(), &request).response().code()
    });
    assert_eq!(codes, [None, Some(437)]);
}

/// RFC 8656 §8.2: a retransmitted Refresh refreshes again.
#[test]
fn a_retransmitted_refresh_gets_the_same_answer() {
    let (mut world, _) = allocated();
    let request = world.signed(&Login::alice(), client(), Method::REFRESH, &[lifetime(900)]);
    let first = world.send(client(), &request).response();
    assert_eq!(world.send(client(), &request).response(), first);
}

/// RFC 8656 §8.2: the allocation is gone, which the client takes for success.
#[test]
fn a_retransmitted_deletion_is_an_allocation_mismatch() {
    let (mut world, _) = allocated();
    let request = world.signed(&Login::alice(), client(), Method::REFRESH, &[lifetime(0)]);
    let codes = [(); 2].map(|()| world.send(client(), &request).response().code());
    assert_eq!(codes, [None, Some(437)]);
}

/// RFC 8656 §10.2, §12.2: they refresh what they made.
#[test]
fn retransmitted_permissions_and_channels_get_the_same_answer() {
    let (mut world, _) = allocated();
    let permission = [world.xor_peer(peer())];
    let method = Method::CREATE_PERMISSION;
    let permission = world.signed(&Login::alice(), client(), method, &permission);
    let channel = [channel_number(0x4000), world.xor_peer(peer())];
    let channel = world.signed(&Login::alice(), client(), Method::CHANNEL_BIND, &channel);
    for request in [permission, channel] {
        let first = world.send(client(), &request).response();
        assert_eq!(first.code(), None);
        assert_eq!(world.send(client(), &request).response(), first);
    }
}
