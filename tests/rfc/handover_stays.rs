//! What stays with the old process, and how the two get on beside each other.

use std::net::SocketAddr;

use turnstone::turn::{Counter, External, FiveTuple, Policy, RelaySet};

use crate::common::{
    Login, Out, World, channel_data, dtls, ip, lifetime, peers, policy, requested_transport,
    send_indication, tcp, udp,
};
use crate::dialogue::{client, peer, seconds, world_with};
use crate::mobility::{come, depart, elsewhere, hearer, mobile};
use crate::reservation::{redeem, reserve};
use crate::tcp_dialogue::{V4, control, offering};
use turnstone::stun::Method;
use turnstone::turn::{AllocationEnd, Family, Transport};

fn stream() -> FiveTuple {
    tcp("203.0.113.8:4000")
}

/// Nothing is allowed beside what is allowed anyway.
fn closed() -> Policy {
    let mut policy = policy();
    policy.peers = peers(&[]);
    policy
}

fn across(world: &mut World, from: FiveTuple, to: SocketAddr) -> bool {
    let out = world.send(from, &send_indication(to, b"across"));
    matches!(out, Out::ToPeer { .. })
}

fn allocations(world: &World) -> u64 {
    let all = Transport::ALL.iter().flat_map(|transport| {
        let of = move |family| Counter::Allocations(*transport, family);
        Family::ALL.map(of)
    });
    all.map(|gauge| world.server.stats().get(gauge)).sum()
}

/// Sessions cannot move: clients over TCP, TLS and DTLS stay, and are served.
#[test]
fn clients_with_a_session_stay() {
    let tls = FiveTuple {
        transport: Transport::Tls,
        ..tcp("203.0.113.9:4000")
    };
    let sessions = [stream(), tls, dtls("203.0.113.10:4000")];
    let mut old = World::new(policy());
    let mut relays = Vec::new();
    for from in sessions {
        relays.push(old.allocate(from));
        assert_eq!(old.permit(from, peer()).code(), None);
    }
    let gone = old.allocate(client());
    let new = old.succeed(policy(), 0);
    assert_eq!((allocations(&old), allocations(&new)), (3, 1));
    assert!(new.relays.contains_key(&gone));
    for (from, relay) in sessions.into_iter().zip(relays) {
        assert!(across(&mut old, from, peer()));
        assert_ne!(old.peer_sends(relay, peer(), b"data"), Out::Nothing);
        assert!(!new.server.has_allocation(&from));
    }
}

/// RFC 8016 §3.2: the ticket of an allocation that stays is unknown to the new process, which says so at once
/// and lets its client begin anew.
#[test]
fn a_ticket_of_a_client_that_stays_is_unknown_to_the_new_process() {
    let mut old = World::new(mobile());
    let (relayed, first) = depart(&mut old, stream());
    let mut new = old.succeed(mobile(), 5);
    for from in [elsewhere(), tcp("198.18.0.1:5000")] {
        assert_eq!(come(&mut new, from, &first).code(), Some(400));
        assert!(!new.server.has_allocation(&from));
        depart(&mut new, from);
    }
    assert_eq!(hearer(&mut old, relayed), Some(stream()));
}

/// RFC 8656 §7.2: its reservation is redeemed where new connections come in.
#[test]
fn a_reservation_of_a_client_that_stays_is_redeemed_in_the_new_process() {
    let mut old = World::new(policy());
    let (above, token) = reserve(&mut old, stream());
    let mut new = old.succeed(policy(), 0);
    let from = tcp("203.0.113.8:4001");
    assert_eq!(redeem(&mut new, &Login::alice(), from, &token), Ok(above));
    let late = redeem(&mut old, &Login::alice(), from, &token);
    assert_eq!(late, Err(508));
}

/// RFC 6062: TCP allocations stay with their connections.
#[test]
fn tcp_allocations_stay() {
    let mut old = World::new(offering());
    let relay = old.allocate_tcp(control(), V4);
    let new = old.succeed(offering(), 0);
    assert!(old.peers.listeners.contains_key(&relay));
    assert!(new.peers.listeners.is_empty() && new.shared.is_idle());
}

/// S1: relays reach each other whichever process they are in.
#[test]
fn relays_of_both_processes_reach_each_other() {
    let mut old = World::new(closed());
    let (near, far) = (old.allocate(client()), old.allocate(stream()));
    assert_eq!(old.permit(client(), far).code(), None);
    assert_eq!(old.permit(stream(), near).code(), None);
    let mut new = old.succeed(closed(), 0);
    assert!(across(&mut new, client(), far) && across(&mut old, stream(), near));
    assert_ne!(new.peer_sends(near, far, b"data"), Out::Nothing);
    assert_ne!(old.peer_sends(far, near, b"data"), Out::Nothing);
    let late = udp("203.0.113.11:1");
    new.allocate(late);
    assert_eq!(new.permit(late, far).code(), None);
    assert_eq!(new.bind_channel(late, 0x4000, far).code(), None);
}

/// S1: what has ended elsewhere is no peer any more.
#[test]
fn relays_elsewhere_are_peers_as_long_as_they_live() {
    let mut old = World::new(closed());
    let (near, far) = (old.allocate(client()), old.allocate(stream()));
    assert_eq!(old.permit(client(), far).code(), None);
    assert_eq!(old.permit(stream(), near).code(), None);
    let mut new = old.succeed(closed(), 0);
    old.client_gone(stream());
    let told = old.shared.relays();
    assert!(told.is_empty());
    new.shared.elsewhere(&told);
    assert!(!across(&mut new, client(), far));
    assert_eq!(new.permit(client(), far).code(), None, "another may come");
}

/// The old process knows what it has handed over before the new one has told it.
#[test]
fn a_released_relay_stays_a_peer() {
    let mut old = World::new(closed());
    let (near, _) = (old.allocate(client()), old.allocate(stream()));
    assert_eq!(old.permit(stream(), near).code(), None);
    let bytes = old.export();
    old.release(&bytes);
    assert!(across(&mut old, stream(), near));
    assert_eq!(old.shared.relays().len(), 1);
    old.shared.elsewhere(&RelaySet::default());
    assert!(!across(&mut old, stream(), near));
}

/// S1: behind a 1:1 NAT the packets between the processes take the short way inside.
#[test]
fn relays_of_both_processes_reach_each_other_behind_a_nat() {
    let nat = || {
        let mut policy = closed();
        let public = ip("9.9.9.200");
        policy.relay.external.push(External {
            local: None,
            public,
        });
        policy
    };
    let mut old = World::new(nat());
    let (near, far) = (old.allocate(client()), old.allocate(stream()));
    assert_eq!(old.bind_channel(client(), 0x4000, far).code(), None);
    assert_eq!(old.permit(stream(), near).code(), None);
    let mut new = old.succeed(nat(), 0);
    let local = |relay: SocketAddr| SocketAddr::new(ip("192.0.2.10"), relay.port());
    let out = new.send(client(), &channel_data(0x4000, b"over"));
    let to_peer = Out::ToPeer {
        from: local(near),
        peer: local(far),
        payload: b"over".to_vec(),
    };
    assert_eq!(out, to_peer);
    let back = Out::ToClient {
        to: client(),
        message: channel_data(0x4000, b"back"),
    };
    assert_eq!(new.peer_sends(local(near), local(far), b"back"), back);
}

/// What the processes tell each other is read back, also with more in it than is known.
#[test]
fn the_set_of_relays_travels() {
    let mut old = World::new(policy());
    old.allocate(stream());
    old.allocate_family(udp("203.0.113.12:1"), Some(2));
    let relays = old.shared.relays();
    assert_eq!(relays.len(), 2);
    let bytes = relays.to_bytes();
    assert_eq!(RelaySet::from_bytes(&bytes), Ok(relays));
    let newer = br#"{"udp":[["192.0.2.10:50000","192.0.2.10"]],"sctp":[1]}"#;
    assert_eq!(RelaySet::from_bytes(newer).map(|set| set.len()), Ok(1));
    assert!(RelaySet::from_bytes(b"[").is_err());
}

/// Neither process draws a port that a relay of the other has.
#[test]
fn ports_in_use_elsewhere_are_not_drawn() {
    let four = || {
        let mut policy = policy();
        policy.relay.ports = 50_000..=50_003;
        policy
    };
    let mut old = World::new(four());
    let (near, far) = (old.allocate(client()), old.allocate(stream()));
    let mut new = old.succeed(four(), 0);
    let code = |world: &mut World, from: FiveTuple| {
        let attributes = [requested_transport(17)];
        let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        answer.code()
    };
    let another = tcp("203.0.113.8:4001");
    assert_eq!(code(&mut old, another), None);
    new.shared.elsewhere(&old.shared.relays());
    let taken: Vec<u16> = old.relays.keys().map(SocketAddr::port).collect();
    assert!(taken.len() == 2 && taken.contains(&far.port()) && !taken.contains(&near.port()));
    assert_eq!(code(&mut new, udp("203.0.113.13:1")), None);
    assert!(new.relays.keys().all(|at| !taken.contains(&at.port())));
    assert_eq!(code(&mut new, udp("203.0.113.13:2")), Some(508));
    old.shared.elsewhere(&new.shared.relays());
    assert_eq!(code(&mut old, tcp("203.0.113.8:4002")), Some(508));
    old.client_gone(another);
    new.shared.elsewhere(&old.shared.relays());
    assert_eq!(code(&mut new, udp("203.0.113.13:2")), None);
}

/// Pairs of ports are drawn around what is in use elsewhere.
#[test]
fn a_pair_is_not_drawn_where_half_of_it_is_in_use_elsewhere() {
    let four = |policy: &mut Policy| policy.relay.ports = 50_000..=50_003;
    for seed in 0..8 {
        let mut policy = policy();
        four(&mut policy);
        let mut old = World::with_seed(policy, seed);
        let far = old.allocate(stream());
        let mut policy = crate::common::policy();
        four(&mut policy);
        let mut new = old.succeed(policy, 0);
        let (above, _) = crate::reservation::reserve(&mut new, client());
        assert_ne!(above.port() / 2, far.port() / 2);
    }
}

/// A port outside of the range that the new process draws from is not drawn later either.
#[test]
fn a_port_outside_of_the_new_range_does_not_come_back() {
    let mut old = world_with(|policy| policy.relay.ports = 50_000..=50_001);
    old.allocate(client());
    let mut policy = policy();
    policy.relay.ports = 60_000..=60_001;
    let mut new = old.succeed(policy, 0);
    new.pass(seconds(600));
    let ended = Counter::AllocationsEnded(AllocationEnd::Expired);
    assert_eq!(new.server.stats().get(ended), 1);
    let mut ports: Vec<u16> = (1..=2)
        .map(|port| new.allocate(udp(&format!("203.0.113.14:{port}"))).port())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [60_000, 60_001]);
    let attributes = [requested_transport(17)];
    let third = udp("203.0.113.14:3");
    let answer = new.ask(&Login::alice(), third, Method::ALLOCATE, &attributes);
    assert_eq!(answer.code(), Some(508));
}

/// RFC 8656 §7.2: a quota is of both processes together, as each last told the other.
#[test]
fn allocations_that_stay_count_against_the_quota_of_the_new_process() {
    let limits: [fn(&mut Policy) -> &mut u32; 3] = [
        |policy| &mut policy.limits.allocations,
        |policy| &mut policy.limits.allocations_per_user,
        |policy| &mut policy.limits.allocations_per_source,
    ];
    for (limit, refused) in limits.into_iter().zip([508, 486, 486]) {
        let limited = || {
            let mut policy = policy();
            *limit(&mut policy) = 2;
            policy
        };
        let mut old = World::new(limited());
        let attributes = [requested_transport(17)];
        let allocate = |world: &mut World, from| {
            let answer = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
            answer.code()
        };
        let [stays, moves, comes] = [
            tcp("203.0.113.8:4000"),
            udp("203.0.113.8:4001"),
            udp("203.0.113.8:4002"),
        ];
        assert_eq!(allocate(&mut old, stays), None);
        assert_eq!(allocate(&mut old, moves), None);
        let mut new = old.succeed(limited(), 0);
        assert_eq!(allocate(&mut new, comes), Some(refused));
        // Nor does the old one make more for a client that stays.
        let end = |world: &mut World, from| {
            let attributes = [lifetime(0)];
            let answer = world.ask(&Login::alice(), from, Method::REFRESH, &attributes);
            assert_eq!(answer.code(), None);
        };
        end(&mut old, stays);
        assert_eq!(allocate(&mut old, stays), None);
        end(&mut old, stays);
        new.shared.elsewhere(&old.shared.relays());
        assert_eq!(allocate(&mut new, comes), None);
        old.shared.elsewhere(&new.shared.relays());
        assert_eq!(allocate(&mut old, stays), Some(refused));
        let told = old.shared.relays();
        let bytes = RelaySet::from_bytes(&told.to_bytes());
        assert_eq!(bytes.ok(), Some(told));
    }
}
