//! How an allocation follows its client (RFC 8016 §3.2).

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, Family, Transport};

use crate::common::{
    Login, Out, World, additional_family, channel_data, lifetime, requested_family,
    requested_transport, tcp, udp,
};
use crate::dialogue::{client, peer, reaches, seconds};
use crate::mobility::{
    UDP, assert_unmoved, come, depart, depart_with, departed, elsewhere, hearer, mobile, moved,
    speaks, ticket, ticket_of,
};

const CHANNEL: u16 = 0x4001;

/// RFC 8016 §3.2.2: the response carries a new ticket; the client is reached at the new five-tuple, its
/// permissions and channels with it.
#[test]
fn a_refresh_with_the_ticket_moves_the_allocation() {
    for to in [
        elsewhere(),
        tcp("198.18.0.1:5000"),
        udp("[2001:db8:2::7]:1"),
    ] {
        let (mut world, relayed, first) = departed();
        world.bind_channel(client(), CHANNEL, peer());
        let answer = come(&mut world, to, &first);
        assert_ne!(ticket_of(&answer), first);
        assert_eq!(answer.lifetime(), Some(600));
        assert!(answer.is_signed_by(&Login::alice()));
        let data = channel_data(CHANNEL, b"data");
        assert!(matches!(world.send(to, &data), Out::ToPeer { from, .. } if from == relayed));
        assert_eq!(hearer(&mut world, relayed), Some(to));
        let stats = world.server.stats();
        assert_eq!(stats.get(Counter::Permissions), 1);
        assert_eq!(stats.get(Counter::Channels), 1);
        assert_eq!(moved(&world), 1);
    }
}

/// RFC 8016 §3.2.2: until the client is heard on the new five-tuple, the old one is served.
#[test]
fn the_old_five_tuple_is_served_until_the_client_is_heard_on_the_new_one() {
    let (mut world, relayed, ticket) = departed();
    come(&mut world, elsewhere(), &ticket);
    assert_eq!(hearer(&mut world, relayed), Some(client()));
    assert!(reaches(&mut world, peer()));
    assert_eq!(world.permit(client(), peer()).code(), None);
    let refreshed = world.ask(&Login::alice(), client(), Method::REFRESH, &[]);
    assert_eq!(refreshed.code(), None);

    assert!(matches!(
        speaks(&mut world, elsewhere()),
        Out::ToPeer { .. }
    ));
    assert_eq!(hearer(&mut world, relayed), Some(elsewhere()));
    assert!(!reaches(&mut world, peer()));
    assert_eq!(world.permit(client(), peer()).code(), Some(437));
}

/// RFC 8016 §3.2.2: a request is heard as well as data; what is no sign of the client is not.
#[test]
fn any_further_authentic_request_is_heard() {
    for method in [
        Method::CREATE_PERMISSION,
        Method::CHANNEL_BIND,
        Method::REFRESH,
    ] {
        let (mut world, relayed, ticket) = departed();
        come(&mut world, elsewhere(), &ticket);
        let unsigned = world.request(method, &[]);
        world.send(elsewhere(), &unsigned);
        world.ask(&Login::new("alice", "guess"), elsewhere(), method, &[]);
        let ping = world.request(Method::BINDING, &[]);
        world.send(elsewhere(), &ping);
        assert_eq!(hearer(&mut world, relayed), Some(client()), "{method:?}");
        world.ask(&Login::alice(), elsewhere(), method, &[]);
        assert_eq!(hearer(&mut world, relayed), Some(elsewhere()), "{method:?}");
    }
}

/// RFC 8656 §5: another user's request at the new five-tuple is 441 and moves nothing.
#[test]
fn another_user_at_the_new_five_tuple_is_refused() {
    let (mut world, relayed, ticket) = departed();
    come(&mut world, elsewhere(), &ticket);
    let answer = world.ask(&Login::bob(), elsewhere(), Method::REFRESH, &[]);
    assert_eq!(answer.code(), Some(441));
    assert_eq!(hearer(&mut world, relayed), Some(client()));
}

/// RFC 8656 §7.2: the five-tuple has an allocation, and so has none to give.
#[test]
fn an_allocate_at_the_new_five_tuple_is_a_mismatch() {
    let (mut world, relayed, ticket) = departed();
    come(&mut world, elsewhere(), &ticket);
    let attributes = [requested_transport(UDP)];
    let answer = world.ask(&Login::alice(), elsewhere(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(437));
    assert_eq!(hearer(&mut world, relayed), Some(elsewhere()));
}

/// RFC 8489 §6.3.1: a retransmission gets the answer that the request got, and is no sign of the client.
#[test]
fn a_retransmitted_refresh_with_a_ticket_is_answered_alike() {
    let (mut world, relayed, first) = departed();
    let login = Login::alice();
    let request = world.signed(&login, elsewhere(), Method::REFRESH, &[ticket(&first)]);
    let answer = world.send(elsewhere(), &request).response();
    ticket_of(&answer);
    for _ in 0..3 {
        assert_eq!(world.send(elsewhere(), &request).response(), answer);
    }
    assert_eq!(hearer(&mut world, relayed), Some(client()));
}

/// RFC 8016 §3.2.1: the Refresh sets the time-to-expiry as any other.
#[test]
fn a_refresh_with_a_ticket_sets_the_lifetime() {
    for heard in [false, true] {
        let (mut world, relayed, first) = departed();
        world.pass(seconds(500));
        let attributes = [ticket(&first), lifetime(1200)];
        let answer = world.ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
        assert_eq!(answer.lifetime(), Some(1200));
        if heard {
            speaks(&mut world, elsewhere());
        }
        world.pass(seconds(1199));
        assert!(world.relays.contains_key(&relayed));
        world.pass(seconds(1));
        assert!(world.relays.is_empty() && world.shared.is_idle());
    }
}

/// RFC 8656 §8.2: LIFETIME zero deletes, wherever the client is.
#[test]
fn a_refresh_with_a_ticket_and_lifetime_zero_deletes() {
    let (mut world, _, first) = departed();
    let attributes = [ticket(&first), lifetime(0)];
    let answer = world.ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(0)));
    assert_eq!(answer.value(AttributeType::MOBILITY_TICKET), None);
    assert!(world.relays.is_empty() && world.shared.is_idle());
    assert_eq!(come(&mut world, elsewhere(), &first).code(), Some(400));
}

/// RFC 8656 §8.2: 443 for a family that the allocation has not; one of two may be refreshed or deleted.
#[test]
fn a_refresh_with_a_ticket_minds_the_family() {
    let (mut world, relayed, first) = departed();
    let attributes = [ticket(&first), requested_family(2)];
    let answer = world.ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.code(), Some(443));
    assert_unmoved(&mut world, relayed);

    let mut world = World::new(mobile());
    let (_, first) = depart_with(&mut world, client(), &[additional_family(2)]);
    let attributes = [ticket(&first), requested_family(2), lifetime(0)];
    let answer = world.ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    assert_eq!(answer.lifetime(), Some(0));
    assert_eq!(world.relays.len(), 1);
    let attributes = [ticket(&first), requested_family(1), lifetime(900)];
    let answer = world.ask(&Login::alice(), elsewhere(), Method::REFRESH, &attributes);
    ticket_of(&answer);
    world.pass(seconds(899));
    assert_eq!(world.relays.len(), 1);
    world.pass(seconds(1));
    assert!(world.relays.is_empty() && world.shared.is_idle());
}

/// RFC 8016 §3.2: an allocation that has ended leaves a ticket that is worth nothing.
#[test]
fn a_ticket_ends_with_its_allocation() {
    let (mut world, _, ticket) = departed();
    world.ask(&Login::alice(), client(), Method::REFRESH, &[lifetime(0)]);
    assert_eq!(come(&mut world, elsewhere(), &ticket).code(), Some(400));
    let (_, ticket) = depart(&mut world, client());
    world.now.instant = world.now.instant + seconds(600);
    assert_eq!(come(&mut world, elsewhere(), &ticket).code(), Some(400));
    let (_, ticket) = depart(&mut world, client());
    come(&mut world, elsewhere(), &ticket);
    world.ask(&Login::alice(), client(), Method::REFRESH, &[lifetime(0)]);
    assert_eq!(speaks(&mut world, elsewhere()), Out::Nothing);
    assert_eq!(world.permit(elsewhere(), peer()).code(), Some(437));
    assert!(world.relays.is_empty() && world.shared.is_idle());
}

/// RFC 8016 §3.2 over streams: a mobile allocation outlives its connection, whenever that closes.
#[test]
fn a_closed_connection_does_not_end_a_mobile_allocation() {
    let (old, new) = (tcp("203.0.113.7:4000"), tcp("198.18.0.1:5000"));
    for closed_at in 0..3 {
        let mut world = World::new(mobile());
        let (relayed, ticket) = depart(&mut world, old);
        let close = |world: &mut World, at| {
            if at == closed_at {
                world.client_gone(old);
            }
        };
        close(&mut world, 0);
        ticket_of(&come(&mut world, new, &ticket));
        close(&mut world, 1);
        assert!(matches!(speaks(&mut world, new), Out::ToPeer { .. }));
        close(&mut world, 2);
        assert_eq!(hearer(&mut world, relayed), Some(new));
        world.client_gone(new);
        world.pass(seconds(600));
        assert!(world.relays.is_empty() && world.shared.is_idle());
    }
}

/// RFC 8016 §3.2 over streams: a new connection that closes unheard leaves the allocation where it was.
#[test]
fn a_new_connection_that_closes_unheard_changes_nothing() {
    let (mut world, relayed, first) = departed();
    let new = tcp("198.18.0.1:5000");
    let second = ticket_of(&come(&mut world, new, &first));
    assert!(world.server.has_allocation(&new), "it is awaited");
    world.client_gone(new);
    assert!(!world.server.has_allocation(&new));
    assert_eq!(hearer(&mut world, relayed), Some(client()));
    ticket_of(&come(&mut world, elsewhere(), &second));
}

/// Requirement S17: quotas count an allocation once, and from where its client is.
#[test]
fn a_moved_allocation_is_counted_once_and_at_its_new_source() {
    let mut policy = mobile();
    policy.limits.allocations_per_user = 2;
    policy.limits.allocations_per_source = 1;
    let mut world = World::new(policy);
    let (_, ticket) = depart(&mut world, client());
    let neighbour = udp("203.0.113.7:4001");
    let ask = |world: &mut World, from| {
        let attributes = [requested_transport(UDP)];
        let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        answer.code()
    };
    assert_eq!(ask(&mut world, neighbour), Some(486));
    come(&mut world, elsewhere(), &ticket);
    assert_eq!(
        ask(&mut world, neighbour),
        Some(486),
        "it has not moved yet"
    );
    speaks(&mut world, elsewhere());
    assert_eq!(ask(&mut world, udp("198.18.0.1:5001")), Some(486));
    assert_eq!(ask(&mut world, neighbour), None);
    assert_eq!(
        ask(&mut world, udp("192.0.2.99:1")),
        Some(486),
        "of the user"
    );
    world.pass(seconds(600));
    assert!(world.shared.is_idle());
}

/// The gauges tell by which transport and family allocations are used.
#[test]
fn a_moved_allocation_is_counted_by_its_new_transport() {
    let (mut world, _, ticket) = departed();
    let new = tcp("198.18.0.1:5000");
    come(&mut world, new, &ticket);
    let count = |world: &World, transport| {
        let stats = world.server.stats();
        stats.get(Counter::Allocations(transport, Family::V4))
    };
    assert_eq!(count(&world, Transport::Udp), 1);
    speaks(&mut world, new);
    assert_eq!(count(&world, Transport::Udp), 0);
    assert_eq!(count(&world, Transport::Tcp), 1);
}
