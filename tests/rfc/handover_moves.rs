//! Tickets and reservations go with what a process hands over (RFC 8016; RFC 8656 §7.2).

use turnstone::stun::Method;
use turnstone::turn::{Counter, FiveTuple};

use crate::common::{Login, Out, World, lifetime, requested_transport, tcp, udp};
use crate::dialogue::{client, seconds};
use crate::mobility::{
    come, depart, departed, elsewhere, hearer, mobile, moved, speaks, ticket, ticket_of,
};
use crate::mobility_shards::{assert_returned, awaited, group, narrow, pass, sum};
use crate::reservation::{redeem, reserve};

/// Nothing is left in either process, and each can have every port when the other one has none.
fn assert_both_returned(new: &mut [World], old: &mut [World]) {
    pass(new, 3600);
    pass(old, 3600);
    new[0].shared.elsewhere(&old[0].shared.relays());
    old[0].shared.elsewhere(&new[0].shared.relays());
    assert_returned(new);
    assert_returned(old);
}

/// RFC 8016 §3.2: a ticket of the old process is good in the new one.
#[test]
fn a_ticket_is_good_in_the_new_process() {
    let (mut old, relayed, first) = departed();
    let mut new = old.succeed(mobile(), 5);
    let (_, another) = depart(&mut new, udp("203.0.113.20:1"));
    let answer = come(&mut new, elsewhere(), &first);
    assert_eq!(answer.code(), None);
    assert_eq!(hearer(&mut new, relayed), Some(client()));
    assert_ne!(speaks(&mut new, elsewhere()), Out::Nothing);
    assert_eq!(hearer(&mut new, relayed), Some(elsewhere()));
    assert_eq!(moved(&new), 1);
    assert_eq!(come(&mut old, elsewhere(), &first).code(), Some(400));
    let third = udp("198.18.0.3:1");
    assert_eq!(come(&mut new, third, &another).code(), None);
    new.pass(seconds(600));
    assert!(new.shared.is_idle() && old.shared.is_idle());
}

/// RFC 8016 §3.2.1: another user's ticket is none.
#[test]
fn a_ticket_stays_its_owners() {
    let (mut old, _, first) = departed();
    let mut new = old.succeed(mobile(), 5);
    let attributes = [ticket(&first)];
    let answer = new.ask(&Login::bob(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.code(), Some(400));
}

/// A client that has shown its ticket to the old process is heard by the new one, at any shard.
#[test]
fn a_client_that_is_awaited_is_heard_in_the_new_process() {
    for by_data in [true, false] {
        let (mut old, relayed, [first, second]) = awaited();
        let mut new = World::take_over(&mut old, narrow(), 1000);
        assert_eq!(hearer(&mut new[0], relayed), Some(client()));
        let out = if by_data {
            speaks(&mut new[1], elsewhere())
        } else {
            let request = new[1].signed(&Login::alice(), elsewhere(), Method::REFRESH, &[]);
            new[1].send(elsewhere(), &request)
        };
        assert_eq!(out, Out::Nothing, "it waits for the allocation");
        assert_eq!(World::deliver(&mut new).len(), 1);
        assert_eq!(hearer(&mut new[1], relayed), Some(elsewhere()));
        assert_eq!(sum(&new, Counter::AllocationsMoved), 1);
        let third = udp("198.18.0.3:1");
        assert_eq!(come(&mut new[2], third, &first).code(), Some(400));
        assert_eq!(come(&mut new[2], third, &second).code(), None);
        assert_eq!(speaks(&mut old[1], elsewhere()), Out::Nothing);
        assert_both_returned(&mut new, &mut old);
    }
}

/// RFC 8016 §3.2: a client that has not got the answer of the old process gets the same one of the new.
#[test]
fn a_retransmitted_refresh_with_a_ticket_is_answered_alike() {
    let (mut old, relayed, first) = departed();
    let attributes = [ticket(&first)];
    let request = old.signed(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    let answer = old.send(elsewhere(), &request).response();
    let fresh = ticket_of(&answer);
    let mut new = old.succeed(mobile(), 5);
    let again = new.send(elsewhere(), &request).response();
    assert_eq!(again, answer);
    // Neither ticket is stale before the client is heard.
    let third = udp("198.18.0.3:1");
    let last = ticket_of(&come(&mut new, third, &first));
    speaks(&mut new, third);
    assert_eq!(hearer(&mut new, relayed), Some(third));
    for (stale, code) in [(&first, Some(400)), (&fresh, Some(400)), (&last, None)] {
        assert_eq!(come(&mut new, elsewhere(), stale).code(), code);
    }
}

/// The other one of the two tickets is good as well.
#[test]
fn a_ticket_that_was_offered_is_good_in_the_new_process() {
    let (mut old, relayed, first) = departed();
    let fresh = ticket_of(&come(&mut old, elsewhere(), &first));
    let mut new = old.succeed(mobile(), 5);
    let third = udp("198.18.0.3:1");
    assert_eq!(come(&mut new, third, &fresh).code(), None);
    speaks(&mut new, third);
    assert_eq!(hearer(&mut new, relayed), Some(third));
}

/// What was prolonged with its ticket at another shard lasts as long as the answer promised.
#[test]
fn a_lifetime_that_a_ticket_prolonged_holds() {
    let mut old = group();
    let (relayed, first) = depart(&mut old[0], client());
    pass(&mut old, 599);
    let attributes = [ticket(&first), lifetime(1000)];
    let answer = old[1].ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.lifetime(), Some(1000));
    // The letter is not delivered.
    let mut new = World::take_over(&mut old, narrow(), 0);
    pass(&mut new, 999);
    assert!(new[0].relays.contains_key(&relayed));
    pass(&mut new, 1);
    assert_returned(&mut new);
}

/// What was deleted with its ticket at another shard does not come back.
#[test]
fn what_a_ticket_has_deleted_is_not_handed_over() {
    let mut old = group();
    let (_, first) = depart(&mut old[0], client());
    let attributes = [ticket(&first), lifetime(0)];
    let answer = old[1].ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.lifetime(), Some(0));
    // The letter is not delivered.
    let mut new = World::take_over(&mut old, narrow(), 0);
    assert_eq!(sum(&new, Counter::RelayPorts), 0);
    World::deliver(&mut old);
    assert_both_returned(&mut new, &mut old);
}

/// A client that moves to or from a connection of the old process stays there with its allocation.
#[test]
fn who_is_awaited_on_a_connection_stays() {
    let stream = tcp("198.18.0.1:5000");
    for (from, to) in [
        (client(), stream),
        (stream, client()),
        (stream, tcp("198.18.0.2:1")),
    ] {
        let mut old = World::new(mobile());
        let (relayed, first) = depart(&mut old, from);
        assert_eq!(come(&mut old, to, &first).code(), None);
        let new = old.succeed(mobile(), 0);
        assert!(new.relays.is_empty() && new.shared.is_idle());
        speaks(&mut old, to);
        assert_eq!(hearer(&mut old, relayed), Some(to));
    }
}

/// An allocation that has moved to another shard holds a port of the first: it returns there.
#[test]
fn ports_of_other_shards_return() {
    let (mut old, relayed, _) = awaited();
    speaks(&mut old[1], elsewhere());
    World::deliver(&mut old);
    let mut new = World::take_over(&mut old, narrow(), 0);
    // Shard 0 would draw the port if it did not know.
    let others: Vec<FiveTuple> = (1..=3)
        .map(|port| udp(&format!("203.0.113.50:{port}")))
        .collect();
    for other in others {
        assert_ne!(new[0].allocate(other), relayed);
    }
    let attributes = [requested_transport(17)];
    let refused = new[0].ask(
        &Login::alice(),
        udp("203.0.113.50:4"),
        Method::ALLOCATE,
        &attributes,
    );
    assert_eq!(refused.code(), Some(508));
    assert_both_returned(&mut new, &mut old);
}

/// RFC 8656 §7.2: what is reserved in the old process is redeemed in the new one, at any shard, as long as
/// it lasts.
#[test]
fn a_reservation_is_redeemed_in_the_new_process() {
    for (pause, is_good) in [(0, true), (19, true), (20, false)] {
        let mut old = group();
        let (above, token) = reserve(&mut old[1], client());
        pass(&mut old, 10);
        let mut new = World::take_over(&mut old, narrow(), 12);
        pass(&mut new, pause);
        let wanted = if is_good { Ok(above) } else { Err(508) };
        let other = udp("203.0.113.7:4001");
        assert_eq!(redeem(&mut new[2], &Login::alice(), other, &token), wanted);
        assert_eq!(
            redeem(&mut old[0], &Login::alice(), other, &token),
            Err(508)
        );
        assert_both_returned(&mut new, &mut old);
    }
}

/// RFC 8656 §7.2: reservations that nobody redeems leave nothing behind, each in its time.
#[test]
fn reservations_end_in_the_new_process() {
    let mut old = group();
    reserve(&mut old[1], client());
    pass(&mut old, 10);
    reserve(&mut old[1], udp("203.0.113.7:4001"));
    let mut new = World::take_over(&mut old, narrow(), 12);
    for (pause, held) in [(0, 2), (19, 2), (1, 1), (9, 1), (1, 0)] {
        pass(&mut new, pause);
        assert_eq!(new[0].held().len(), held, "{pause} s later");
    }
    assert_both_returned(&mut new, &mut old);
}
