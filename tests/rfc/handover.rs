//! A process takes the place of another, and no client of UDP notices.

use std::net::SocketAddr;

use turnstone::stun::{Algorithm, AttributeType, Method};
use turnstone::turn::{AllocationEnd, Counter, Family, FiveTuple, Policy, Transport};

use crate::bearer::{Bearer, world_of_oauth};
use crate::common::token::{MAC_KEY, oauth};
use crate::common::{
    Login, Out, Response, World, additional_family, channel_data, even_port, lifetime, peers,
    policy, requested_family, requested_transport, udp,
};
use crate::dialogue::{
    allocated, ask, client, code, hears, peer, reaches, seconds, world, world_with,
};

const CHANNEL: u16 = 0x4001;

fn live(world: &World) -> u64 {
    let gauge = Counter::Allocations(Transport::Udp, Family::V4);
    world.server.stats().get(gauge)
}

fn handed_over(world: &World) -> u64 {
    let ended = Counter::AllocationsEnded(AllocationEnd::HandedOver);
    world.server.stats().get(ended)
}

/// Nothing is left of it.
#[track_caller]
fn assert_empty(world: &World) {
    assert!(world.relays.is_empty() && world.held().is_empty() && world.shared.is_idle());
    let stats = world.server.stats();
    for gauge in [Counter::Permissions, Counter::Channels, Counter::RelayPorts] {
        assert_eq!(stats.get(gauge), 0, "{gauge:?}");
    }
    assert_eq!(live(world), 0);
}

/// The usual client with an allocation, a permission and a channel.
fn busy() -> (World, SocketAddr) {
    let (mut world, relay) = allocated();
    assert_eq!(world.bind_channel(client(), CHANNEL, peer()).code(), None);
    assert_eq!(world.permit(client(), other_peer()).code(), None);
    (world, relay)
}

fn other_peer() -> SocketAddr {
    "198.51.100.2:9000".parse().unwrap()
}

/// Data goes on both ways, by channel and by indication, whatever the two processes count time from.
#[test]
fn data_goes_on_both_ways() {
    for clock in [0, 5, 100_000] {
        let (mut old, relay) = busy();
        old.pass(seconds(100));
        let mut new = old.succeed(policy(), clock);
        assert_eq!(live(&new), 1);
        let out = new.send(client(), &channel_data(CHANNEL, b"data"));
        let to_peer = Out::ToPeer {
            from: relay,
            peer: peer(),
            payload: b"data".to_vec(),
        };
        assert_eq!(out, to_peer);
        let to_client = Out::ToClient {
            to: client(),
            message: channel_data(CHANNEL, b"data"),
        };
        assert_eq!(new.peer_sends(relay, peer(), b"data"), to_client);
        assert!(reaches(&mut new, other_peer()) && hears(&mut new, relay, other_peer()));
        let stranger = "198.51.100.3:9000".parse().unwrap();
        assert!(!reaches(&mut new, stranger) && !hears(&mut new, relay, stranger));
    }
}

/// The old process has nothing left of it and answers nobody.
#[test]
fn the_old_process_forgets_what_it_released() {
    let (mut old, relay) = busy();
    let new = old.succeed(policy(), 0);
    assert_empty(&old);
    assert_eq!((handed_over(&old), live(&new)), (1, 1));
    let taken_over = Counter::AllocationsTakenOver;
    assert_eq!(new.server.stats().get(taken_over), 1);
    let created = Counter::AllocationsCreated(Transport::Udp, Family::V4);
    assert_eq!(new.server.stats().get(created), 0);
    assert!(!old.server.has_allocation(&client()));
    assert!(!old.relays.contains_key(&relay));
    old.pass(seconds(3600));
    assert_eq!(old.server.poll_timeout(), None);
    assert!(old.later.is_empty());
}

/// An export changes nothing: when the other process fails, this one goes on.
#[test]
fn an_export_changes_nothing() {
    let (mut old, relay) = busy();
    let before = old.server.stats().clone();
    let bytes = old.export();
    assert_eq!(bytes, old.export());
    assert_eq!(*old.server.stats(), before);
    let mut failing = World::successors(std::slice::from_ref(&old), policy(), 0);
    failing[0].import(&bytes);
    assert!(reaches(&mut old, other_peer()) && hears(&mut old, relay, peer()));
    assert_eq!(ask(&mut old, Method::REFRESH, &[]).lifetime(), Some(600));
    old.pass(seconds(600));
    assert_empty(&old);
}

/// RFC 8656 §8, §9, §12: all ends when it would have ended, to the tick.
#[test]
fn everything_expires_at_the_same_time() {
    let tick = std::time::Duration::from_nanos(1);
    let (mut old, relay) = busy();
    old.pass(seconds(60));
    assert_eq!(old.permit(client(), other_peer()).code(), None);
    old.pass(seconds(40));
    let mut new = old.succeed(policy(), 12_345);
    // The permission of the channel's peer lasts until 300, the other one until 360.
    new.pass(seconds(200) - tick);
    assert!(hears(&mut new, relay, peer()));
    new.pass(tick);
    assert!(!hears(&mut new, relay, peer()) && hears(&mut new, relay, other_peer()));
    new.pass(seconds(60) - tick);
    assert!(hears(&mut new, relay, other_peer()));
    new.pass(tick);
    assert!(!hears(&mut new, relay, other_peer()));
    assert_eq!(new.permit(client(), peer()).code(), None);
    // The channel and the allocation last until 600.
    new.pass(seconds(240) - tick);
    let data = channel_data(CHANNEL, b"data");
    assert_ne!(new.send(client(), &data), Out::Nothing);
    assert_eq!(
        ask(&mut new, Method::REFRESH, &[lifetime(900)]).code(),
        None
    );
    new.pass(tick);
    assert_eq!(new.send(client(), &data), Out::Nothing, "the channel");
    assert_eq!(live(&new), 1);
    new.pass(seconds(900));
    assert_empty(&new);
}

/// A refresh in the new process prolongs what the old one made.
#[test]
fn an_allocation_that_is_not_refreshed_ends_in_the_new_process() {
    let (mut old, _) = busy();
    old.pass(seconds(100));
    let mut new = old.succeed(policy(), 7);
    new.pass(seconds(499));
    assert_eq!(live(&new), 1);
    new.pass(seconds(1));
    assert_empty(&new);
    let ended = Counter::AllocationsEnded(AllocationEnd::Expired);
    assert_eq!(new.server.stats().get(ended), 1);
}

/// RFC 8489 §9.2: nobody is asked for other credentials than the nonce that it has, nor for longer.
#[test]
fn a_nonce_stays_good_for_as_long_as_it_was() {
    for (clock, pause, wanted) in [(0, 0, None), (9999, 499, None), (3, 500, Some(438))] {
        let (mut old, _) = allocated();
        let nonce = old.nonce(client());
        old.pass(seconds(50));
        // One upgrade after another.
        let mut new = old.succeed(policy(), clock);
        new.pass(seconds(50));
        let mut new = new.succeed(policy(), 500);
        new.pass(seconds(pause));
        let id = new.transaction();
        let request = Login::alice().sign(id, Method::REFRESH, &[lifetime(900)], &nonce);
        let answer = new.send(client(), &request).response();
        assert_eq!(answer.code(), wanted, "after {pause} s");
        assert!(wanted.is_some() || answer.is_signed_by(&Login::alice()));
    }
}

/// RFC 8656 §7.2, requirement S14: a retransmission in the new process is answered with the same bytes.
#[test]
fn a_retransmitted_allocate_is_answered_alike() {
    const UDP: u8 = 17;
    let family = additional_family(2);
    let ticket = (AttributeType::MOBILITY_TICKET, Vec::new());
    let each = [
        vec![],
        vec![lifetime(1234)],
        vec![even_port(true)],
        vec![requested_family(2)],
        vec![family.clone()],
        vec![ticket],
    ];
    let policy = || {
        let mut policy = policy();
        policy.mobility = true;
        policy
    };
    for (refused, more) in each
        .iter()
        .flat_map(|more| [(None, more), (Some(Family::V6), more)])
    {
        let mut old = World::new(policy());
        old.refused = refused.filter(|_| *more == [family.clone()]);
        let attributes = [&[requested_transport(UDP)], more.as_slice()].concat();
        let request = old.signed(&Login::alice(), client(), Method::ALLOCATE, &attributes);
        let first = old.send(client(), &request);
        let mut new = old.succeed(policy(), 77);
        assert_eq!(new.send(client(), &request), first, "{more:?}");
        let again = code(&mut new, Method::ALLOCATE, &attributes);
        assert_eq!(again, Some(437), "another request");
    }
}

/// RFC 8489 §14.7: with a fingerprint, if the request had one.
#[test]
fn a_retransmission_with_a_fingerprint_is_answered_with_one() {
    let mut old = world();
    let attributes = [requested_transport(17)];
    let request = old.signed(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    let request = crate::fingerprint::with_fingerprint(&request);
    let first = old.send(client(), &request).response();
    assert!(first.message().has_fingerprint());
    let mut new = old.succeed(policy(), 77);
    assert_eq!(new.send(client(), &request).response(), first);
}

/// RFC 8656 §7.2: what was taken over counts, and is refused to nobody.
#[test]
fn allocations_count_against_the_quota_of_the_new_process() {
    let allocate = |world: &mut World, port: u16| {
        let from = udp(&format!("203.0.113.7:{port}"));
        let attributes = [requested_transport(17)];
        let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        answer.code()
    };
    for (limit, wanted) in [(4, None), (3, Some(486)), (1, Some(486))] {
        let mut old = world();
        (1..=3).for_each(|port| assert_eq!(allocate(&mut old, port), None));
        let limits = |policy: &mut Policy| policy.limits.allocations_per_user = limit;
        let mut policy = policy();
        limits(&mut policy);
        let mut new = old.succeed(policy, 0);
        assert_eq!(live(&new), 3);
        assert_eq!(allocate(&mut new, 4), wanted, "at most {limit}");
        new.pass(seconds(600));
        assert_empty(&new);
    }
}

/// RFC 8656 §7.2: both families go on, and each ends for itself.
#[test]
fn a_dual_allocation_keeps_both_families() {
    let mut old = world();
    let attributes = [requested_transport(17), additional_family(2)];
    assert_eq!(code(&mut old, Method::ALLOCATE, &attributes), None);
    let peer_v6: SocketAddr = "[2001:db8:1::1]:9000".parse().unwrap();
    assert_eq!(old.permit(client(), peer()).code(), None);
    assert_eq!(old.permit(client(), peer_v6).code(), None);
    let mut new = old.succeed(policy(), 3);
    assert_eq!(new.relays.len(), 2);
    assert!(reaches(&mut new, peer()) && reaches(&mut new, peer_v6));
    let delete = [lifetime(0), requested_family(2)];
    assert_eq!(code(&mut new, Method::REFRESH, &delete), None);
    assert!(reaches(&mut new, peer()) && !reaches(&mut new, peer_v6));
    new.pass(seconds(600));
    assert_empty(&new);
}

/// RFC 8656 §8.1: the families of a dual allocation may end at different times.
#[test]
fn each_family_keeps_its_own_time() {
    let mut old = world();
    let attributes = [requested_transport(17), additional_family(2)];
    assert_eq!(code(&mut old, Method::ALLOCATE, &attributes), None);
    let longer = [lifetime(1800), requested_family(2)];
    assert_eq!(code(&mut old, Method::REFRESH, &longer), None);
    let mut new = old.succeed(policy(), 3);
    let families = |world: &World| {
        let relays = world.relays.keys().map(|at| Family::of(at.ip()));
        relays.collect::<Vec<_>>()
    };
    new.pass(seconds(599));
    assert_eq!(families(&new), [Family::V4, Family::V6]);
    new.pass(seconds(1));
    assert_eq!(families(&new), [Family::V6]);
    new.pass(seconds(1200));
    assert_empty(&new);
}

/// RFC 7635 §9: the holder of an access token stays who it is, and its token ends when it ends.
#[test]
fn an_access_token_goes_with_its_allocation() {
    let with_oauth = || {
        let mut policy = policy();
        policy.oauth = Some(oauth());
        policy
    };
    let mut old = world_of_oauth();
    let bearer = Bearer::north(100);
    assert_eq!(bearer.allocate(&mut old).code(), None);
    old.pass(seconds(40));
    let mut new = old.succeed(with_oauth(), 9);
    let answer = bearer.without_token().refresh(&mut new, &[lifetime(3600)]);
    assert_eq!((answer.code(), answer.lifetime()), (None, Some(60)));
    let checked = answer.message().check_integrity(Algorithm::Sha1, MAC_KEY);
    assert_eq!(checked, Ok(()));
    let other = Bearer::with_mac_key(b"a key of another one");
    assert_eq!(other.permit(&mut new).code(), Some(441));
    new.pass(seconds(60));
    assert_empty(&new);
}

/// RFC 7635 §9: after a renewal the session is the one that the quota has counted from the beginning.
#[test]
fn a_renewed_token_counts_where_it_counted() {
    let mut old = world_of_oauth();
    assert_eq!(Bearer::north(100).allocate(&mut old).code(), None);
    let next = Bearer::union_at(old.now.unix, 300, b"a new key of twenty!");
    assert_eq!(next.refresh(&mut old, &[]).code(), None);
    let mut policy = policy();
    policy.oauth = Some(oauth());
    policy.limits.allocations_per_user = 1;
    let mut new = old.succeed(policy, 9);
    assert_eq!(next.without_token().permit(&mut new).code(), None);
    let elsewhere = |bearer: Bearer| Bearer {
        from: neighbour(),
        ..bearer
    };
    let first = elsewhere(Bearer::north(100)).allocate(&mut new);
    assert_eq!(first.code(), Some(486));
    assert_eq!(elsewhere(next).allocate(&mut new).code(), None);
    new.pass(seconds(600));
    assert_empty(&new);
    assert_empty(&old);
}

/// RFC 8489 §9.2: time-limited credentials end when they end (S12).
#[test]
fn a_time_limited_credential_ends_in_the_new_process() {
    let mut old = world();
    let login = Login::time_limited("carol", old.now.unix.0 + 100);
    let attributes = [requested_transport(17)];
    let answer = old.ask(&login, client(), Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), None);
    old.pass(seconds(50));
    let mut new = old.succeed(policy(), 0);
    let refresh = |world: &mut World| world.ask(&login, client(), Method::REFRESH, &[]).code();
    assert_eq!(refresh(&mut new), None);
    new.pass(seconds(50));
    assert_eq!(refresh(&mut new), Some(401));
    assert_eq!(live(&new), 1);
}

/// Requirement S3, as after a reload: what the policy of the new process denies ends at once.
#[test]
fn permissions_that_the_new_policy_denies_end() {
    let (mut old, relay) = busy();
    let mut stricter = policy();
    stricter.peers = peers(&["198.51.100.2"]);
    let mut new = World::successors(std::slice::from_ref(&old), stricter, 0)
        .pop()
        .unwrap();
    let bytes = old.export();
    let imported = new.import(&bytes);
    old.release(&bytes);
    assert_eq!((imported.allocations, imported.problems.len()), (1, 1));
    assert!(hears(&mut new, relay, other_peer()) && !hears(&mut new, relay, peer()));
    let data = channel_data(CHANNEL, b"data");
    assert_eq!(new.send(client(), &data), Out::Nothing);
    assert_eq!(new.server.stats().get(Counter::Permissions), 1);
}

/// S12, as after a reload: a user whom the new process does not know keeps the allocation for as long as it
/// lasts and refreshes it no more.
#[test]
fn a_user_that_no_longer_exists_refreshes_nothing() {
    let (mut old, relay) = busy();
    let mut stricter = policy();
    stricter.credentials = turnstone::turn::Credentials::new(crate::common::REALM);
    let mut new = old.succeed(stricter, 0);
    assert!(hears(&mut new, relay, peer()));
    assert_eq!(code(&mut new, Method::REFRESH, &[]), Some(401));
    assert_eq!(code(&mut new, Method::REFRESH, &[lifetime(0)]), None);
    assert_empty(&new);
}

/// A socket that does not come: the allocation is lost and counted, and half of a dual one goes on.
#[test]
fn a_socket_that_does_not_come_is_counted() {
    let lost = Counter::AllocationsEnded(AllocationEnd::Lost);
    let mut old = world_with(|_| {});
    let attributes = [requested_transport(17), additional_family(2)];
    assert_eq!(code(&mut old, Method::ALLOCATE, &attributes), None);
    assert_eq!(old.permit(client(), peer()).code(), None);
    old.allocate(neighbour());
    let bytes = old.export();
    let mut new = World::successors(std::slice::from_ref(&old), policy(), 0)
        .pop()
        .unwrap();
    new.refused_held = Some(Family::V6);
    assert_eq!(new.import(&bytes).allocations, 2);
    assert_eq!((live(&new), new.server.stats().get(lost)), (2, 1));
    assert!(reaches(&mut new, peer()));
    let mut none = World::successors(std::slice::from_ref(&old), policy(), 0)
        .pop()
        .unwrap();
    none.refuses_held = true;
    none.import(&bytes);
    assert_eq!(none.server.stats().get(lost), 3);
    none.pass(seconds(1));
    assert_empty(&none);
}

fn neighbour() -> FiveTuple {
    udp("203.0.113.7:4001")
}

/// RFC 8489 §9.2.4: who signs with SHA-256 goes on with it.
#[test]
fn a_user_of_sha_256_goes_on() {
    let (mut old, request, first) = crate::password_algorithms::allocated_with_sha256();
    let mut new = old.succeed(crate::password_algorithms::offering_both(), 0);
    let again: Response = new.send(client(), &request).response();
    assert_eq!(again, first);
    let is_signed = again.message().has_integrity_by(Algorithm::Sha256);
    assert!(is_signed);
}
