//! Mobility: an allocation keeps to its client when the client's address changes (RFC 8016).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, FiveTuple, Policy, Reason};

use crate::common::{
    Login, Out, Response, World, even_port, lifetime, policy, requested_transport, send_indication,
    udp,
};
use crate::dialogue::{client, peer, reaches, seconds, world, world_with};

pub(crate) const UDP: u8 = 17;

pub(crate) type Attribute = (AttributeType, Vec<u8>);

/// A server that lets allocations move.
pub(crate) fn mobile() -> Policy {
    let mut policy = policy();
    policy.mobility = true;
    policy
}

pub(crate) fn ticket_of(answer: &Response) -> Vec<u8> {
    assert_eq!(answer.code(), None);
    answer
        .value(AttributeType::MOBILITY_TICKET)
        .expect("a ticket")
}

pub(crate) fn ticket(value: &[u8]) -> Attribute {
    (AttributeType::MOBILITY_TICKET, value.to_vec())
}

/// Alice allocates and asks for a ticket, with `more`; relayed address and ticket.
pub(crate) fn depart_with(
    world: &mut World,
    from: FiveTuple,
    more: &[Attribute],
) -> (SocketAddr, Vec<u8>) {
    let mut attributes = vec![requested_transport(UDP), ticket(b"")];
    attributes.extend_from_slice(more);
    let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
    let relayed = answer.xor_address(AttributeType::XOR_RELAYED_ADDRESS);
    (relayed.expect("a relayed address"), ticket_of(&answer))
}

pub(crate) fn depart(world: &mut World, from: FiveTuple) -> (SocketAddr, Vec<u8>) {
    let (relayed, ticket) = depart_with(world, from, &[]);
    assert_eq!(world.permit(from, peer()).code(), None);
    (relayed, ticket)
}

/// Alice comes from another five-tuple with her ticket.
pub(crate) fn come(world: &mut World, from: FiveTuple, value: &[u8]) -> Response {
    world.ask(&Login::alice(), from, Method::REFRESH, &[ticket(value)])
}

pub(crate) fn elsewhere() -> FiveTuple {
    udp("198.18.0.1:5000")
}

/// The usual client's allocation, and its ticket.
pub(crate) fn departed() -> (World, SocketAddr, Vec<u8>) {
    let mut world = World::new(mobile());
    let (relayed, ticket) = depart(&mut world, client());
    (world, relayed, ticket)
}

/// Who hears what the peer sends.
pub(crate) fn hearer(world: &mut World, relay: SocketAddr) -> Option<FiveTuple> {
    match world.peer_sends(relay, peer(), b"from the peer") {
        Out::ToClient { to, .. } => Some(to),
        _ => None,
    }
}

pub(crate) fn speaks(world: &mut World, from: FiveTuple) -> Out {
    world.send(from, &send_indication(peer(), b"to the peer"))
}

pub(crate) fn moved(world: &World) -> u64 {
    world.server.stats().get(Counter::AllocationsMoved)
}

/// What a refused Refresh with a ticket may not change.
pub(crate) fn assert_unmoved(world: &mut World, relayed: SocketAddr) {
    assert_eq!(speaks(world, elsewhere()), Out::Nothing);
    assert_eq!(hearer(world, relayed), Some(client()));
    assert!(reaches(world, peer()));
    assert_eq!((moved(world), world.relays.len()), (0, 1));
}

/// RFC 8016 §3.1.2: an empty MOBILITY-TICKET asks, the success response carries a ticket.
#[test]
fn an_empty_ticket_asks_for_one() {
    let (mut world, _, first) = departed();
    let (_, second) = depart(&mut world, elsewhere());
    assert_ne!(first, second);
    assert!(first.len() * 6 >= 128, "bits in base64");
}

/// RFC 8016 §3.1.2: who does not ask gets none, and moves nowhere.
#[test]
fn without_the_attribute_there_is_no_ticket() {
    let mut world = World::new(mobile());
    let attributes = [requested_transport(UDP)];
    let answer = world.ask(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), None);
    assert_eq!(answer.value(AttributeType::MOBILITY_TICKET), None);
}

/// RFC 8016 §3.1.2: 405 when mobility is forbidden; without the attribute all is as ever.
#[test]
fn an_allocate_with_a_ticket_is_forbidden_when_off() {
    let mut world = world();
    let attributes = [requested_transport(UDP), ticket(b"")];
    let answer = world.ask(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(405));
    assert!(world.relays.is_empty() && world.shared.is_idle());
    world.allocate(client());
}

/// RFC 8016 §3.1.2: 400 when the ticket of an Allocate is not empty, on or off.
#[test]
fn an_allocate_with_a_ticket_that_is_not_empty_is_a_bad_request() {
    for on in [true, false] {
        let mut world = world_with(|policy| policy.mobility = on);
        let attributes = [requested_transport(UDP), ticket(b"ticket")];
        let answer = world.ask(&Login::alice(), client(), Method::ALLOCATE, &attributes);
        assert_eq!(answer.code(), Some(400));
        assert!(world.relays.is_empty() && world.shared.is_idle());
    }
}

/// RFC 8016 §3.1: a retransmitted Allocate gets the ticket that it got.
#[test]
fn a_retransmitted_allocate_gets_the_same_ticket() {
    let mut world = World::new(mobile());
    let attributes = [requested_transport(UDP), ticket(b"")];
    let login = Login::alice();
    let request = world.signed(&login, client(), Method::ALLOCATE, &attributes);
    let first = world.send(client(), &request).response();
    let second = world.send(client(), &request).response();
    ticket_of(&first);
    assert_eq!(first, second);
}

/// RFC 8016 §3.2.2: 400 for what is no ticket; nothing changes.
#[test]
fn a_forged_ticket_is_a_bad_request() {
    let (mut world, relayed, good) = departed();
    let mut forged: Vec<Vec<u8>> = [0, 1, 31, 33, 300].map(|length| vec![b'A'; length]).into();
    forged.push(vec![0; good.len()]);
    for place in 0..good.len() {
        let mut changed = good.clone();
        changed[place] ^= 1;
        forged.push(changed);
    }
    for ticket in forged {
        assert_eq!(come(&mut world, elsewhere(), &ticket).code(), Some(400));
        assert_unmoved(&mut world, relayed);
    }
    ticket_of(&come(&mut world, elsewhere(), &good));
}

/// RFC 8016 §3.2.2: a ticket is its user's.
#[test]
fn a_foreign_ticket_is_a_bad_request() {
    let (mut world, relayed, good) = departed();
    let answer = world.ask(
        &Login::bob(),
        elsewhere(),
        Method::REFRESH,
        &[ticket(&good)],
    );
    assert_eq!(answer.code(), Some(400));
    let zero = [ticket(&good), lifetime(0)];
    let answer = world.ask(&Login::bob(), elsewhere(), Method::REFRESH, &zero);
    assert_eq!(answer.code(), Some(400));
    assert_unmoved(&mut world, relayed);
}

/// RFC 8016 §3.2: a ticket without credentials is worth nothing.
#[test]
fn a_ticket_does_not_authenticate() {
    let (mut world, relayed, good) = departed();
    let request = world.request(Method::REFRESH, &[ticket(&good)]);
    let answer = world.send(elsewhere(), &request).response();
    assert_eq!(answer.code(), Some(401));
    let guess = Login::new("alice", "guess");
    let answer = world.ask(&guess, elsewhere(), Method::REFRESH, &[ticket(&good)]);
    assert_eq!(answer.code(), Some(401));
    assert_unmoved(&mut world, relayed);
}

/// RFC 8016 §3.2.2: once the client was heard, the ticket before is good for nothing.
#[test]
fn a_used_ticket_is_a_bad_request() {
    let (mut world, _, first) = departed();
    let second = ticket_of(&come(&mut world, elsewhere(), &first));
    speaks(&mut world, elsewhere());
    let third = udp("198.18.0.2:5000");
    assert_eq!(come(&mut world, third, &first).code(), Some(400));
    ticket_of(&come(&mut world, third, &second));
}

/// RFC 8016 §3.2.2: a client that moved on before it was answered has but its first ticket.
#[test]
fn a_ticket_is_good_until_the_client_is_heard() {
    let (mut world, relayed, first) = departed();
    let lost = ticket_of(&come(&mut world, elsewhere(), &first));
    let third = udp("198.18.0.2:5000");
    let second = ticket_of(&come(&mut world, third, &first));
    assert_eq!(speaks(&mut world, elsewhere()), Out::Nothing);
    assert_eq!(hearer(&mut world, relayed), Some(client()));
    assert!(matches!(speaks(&mut world, third), Out::ToPeer { .. }));
    assert_eq!(hearer(&mut world, relayed), Some(third));
    for stale in [&first, &lost] {
        assert_eq!(come(&mut world, elsewhere(), stale).code(), Some(400));
    }
    ticket_of(&come(&mut world, elsewhere(), &second));
}

/// RFC 8016 §3.2.2: a client that asks anew for want of an answer gets another ticket.
#[test]
fn a_second_refresh_with_the_ticket_is_answered_anew() {
    let (mut world, relayed, first) = departed();
    let lost = ticket_of(&come(&mut world, elsewhere(), &first));
    let second = ticket_of(&come(&mut world, elsewhere(), &first));
    assert_ne!(lost, second);
    assert_eq!(hearer(&mut world, relayed), Some(client()));
    speaks(&mut world, elsewhere());
    assert_eq!(hearer(&mut world, relayed), Some(elsewhere()));
}

/// RFC 8016 §3.2.1: a client that has not moved shows no ticket.
#[test]
fn a_ticket_on_the_allocations_own_five_tuple_is_a_bad_request() {
    let (mut world, relayed, first) = departed();
    assert_eq!(come(&mut world, client(), &first).code(), Some(400));
    assert_unmoved(&mut world, relayed);
    let second = ticket_of(&come(&mut world, elsewhere(), &first));
    speaks(&mut world, elsewhere());
    assert_eq!(come(&mut world, elsewhere(), &second).code(), Some(400));
    let plain = world.ask(&Login::alice(), elsewhere(), Method::REFRESH, &[]);
    assert_eq!(plain.code(), None);
}

/// RFC 8656 §8.2: 437 when the five-tuple has another allocation, or awaits one.
#[test]
fn a_ticket_on_a_five_tuple_with_another_allocation_is_a_mismatch() {
    let (mut world, relayed, first) = departed();
    let (_, other) = depart(&mut world, elsewhere());
    assert_eq!(come(&mut world, elsewhere(), &first).code(), Some(437));
    assert_eq!(hearer(&mut world, relayed), Some(client()));
    let third = udp("198.18.0.2:5000");
    ticket_of(&come(&mut world, third, &first));
    assert_eq!(come(&mut world, third, &other).code(), Some(437));
    speaks(&mut world, third);
    assert_eq!(hearer(&mut world, relayed), Some(third));
}

/// RFC 8016 §3.2.2: 405 when mobility was switched off meanwhile.
#[test]
fn a_refresh_with_a_ticket_is_forbidden_when_off() {
    let (mut world, relayed, ticket) = departed();
    world.swap_policy(policy());
    assert_eq!(come(&mut world, elsewhere(), &ticket).code(), Some(405));
    assert_unmoved(&mut world, relayed);
}

/// RFC 8656 §21.4: no client at the end of an automatic tunnel, by whatever way it gets an allocation.
#[test]
fn a_tunnelled_client_is_refused() {
    let (mut world, _, ticket) = departed();
    let answer = come(&mut world, udp("[2002:c633:6401::1]:1"), &ticket);
    assert_eq!(answer.code(), Some(403));
}

/// Requirement S12: a credential that has expired refreshes nothing.
#[test]
fn an_expired_credential_moves_nothing() {
    let mut world = World::new(mobile());
    let login = Login::time_limited("carol", world.now.unix.0 + 60);
    let attributes = [requested_transport(UDP), ticket(b"")];
    let first = world.ask(&login, client(), Method::ALLOCATE, &attributes);
    let first = ticket_of(&first);
    world.pass(seconds(60));
    let answer = world.ask(&login, elsewhere(), Method::REFRESH, &[ticket(&first)]);
    assert_eq!(answer.code(), Some(401));
}

/// RFC 8656 §7.2: a reserved port may be mobile too; its reservation stays what it is.
#[test]
fn an_allocation_with_a_reservation_moves() {
    let mut world = World::new(mobile());
    let (_, first) = depart_with(&mut world, client(), &[even_port(true)]);
    come(&mut world, elsewhere(), &first);
    assert_eq!(world.held().len(), 1);
    world.permit(elsewhere(), peer());
    world.pass(seconds(600));
    assert!(world.held().is_empty() && world.relays.is_empty() && world.shared.is_idle());
}

/// RFC 8016 §3.2.2: the client is awaited where it asked last.
#[test]
fn a_client_is_awaited_on_one_five_tuple() {
    let (mut world, relayed, ticket) = departed();
    let new = |port: u16| udp(&format!("198.18.0.1:{port}"));
    for port in 1..=200 {
        ticket_of(&come(&mut world, new(port), &ticket));
    }
    for port in 1..200 {
        assert!(!world.server.has_allocation(&new(port)));
        assert_eq!(speaks(&mut world, new(port)), Out::Nothing);
    }
    assert_eq!(hearer(&mut world, relayed), Some(client()));
    assert!(matches!(speaks(&mut world, new(200)), Out::ToPeer { .. }));
}

/// Requirement S21: tickets are shown to their client and to nobody else.
#[test]
fn tickets_are_not_shown() {
    let (mut world, _, first) = departed();
    let second = ticket_of(&come(&mut world, elsewhere(), &first));
    let shown = format!("{:?} {:?}", world.server, world.shared);
    for ticket in [first, second] {
        assert!(!shown.contains(std::str::from_utf8(&ticket).unwrap()));
        let bytes = format!("{ticket:?}");
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
    }
}

/// A five-tuple that awaits nobody drops data as ever.
#[test]
fn data_of_a_stranger_is_dropped() {
    let (mut world, _, ticket) = departed();
    come(&mut world, elsewhere(), &ticket);
    let stranger = udp("198.18.0.9:1");
    assert_eq!(speaks(&mut world, stranger), Out::Nothing);
    let dropped = Counter::Dropped(Reason::NoAllocation);
    assert_eq!(world.server.stats().get(dropped), 1);
}
