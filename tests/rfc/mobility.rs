//! Mobility: an allocation keeps to its client when the client's address changes (RFC 8016).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, Family, FiveTuple, Policy, Reason, Transport};

use crate::common::{
    Login, Out, Response, World, additional_family, channel_data, even_port, lifetime, policy,
    requested_family, requested_transport, send_indication, tcp, udp,
};
use crate::dialogue::{client, peer, reaches, seconds, world, world_with};

const UDP: u8 = 17;
const CHANNEL: u16 = 0x4001;

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
fn departed() -> (World, SocketAddr, Vec<u8>) {
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

fn moved(world: &World) -> u64 {
    world.server.stats().get(Counter::AllocationsMoved)
}

/// What a refused Refresh with a ticket may not change.
fn assert_unmoved(world: &mut World, relayed: SocketAddr) {
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
