//! Dual allocations: ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §7.2 steps 6 and 9, §8, §18.11, §18.12).

use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Counter, External, Family, FiveTuple, RelaySource, Transport};

use crate::common::{
    Out, Response, World, additional_family, address, channel_data, even_port, ip, lifetime,
    requested_family, requested_transport, send_indication, tcp, udp,
};
use crate::dialogue::{ask, client, code, peer, reaches, seconds, world, world_with};

const UDP: u8 = 17;
const V4: u8 = 1;
const V6: u8 = 2;

fn peer_v6() -> SocketAddr {
    address("[2001:db8:1::1]:9000")
}

fn attributes() -> Vec<(AttributeType, Vec<u8>)> {
    vec![requested_transport(UDP), additional_family(V6)]
}

/// Every XOR-RELAYED-ADDRESS of the response.
fn relayed(answer: &Response) -> Vec<SocketAddr> {
    let message = answer.message();
    message
        .attributes()
        .filter(|a| a.kind == AttributeType::XOR_RELAYED_ADDRESS)
        .map(|a| message.xor_address(&a).unwrap())
        .collect()
}

/// A world in which the usual client has a dual allocation.
fn dual() -> (World, SocketAddr, SocketAddr) {
    let mut world = world();
    let answer = ask(&mut world, Method::ALLOCATE, &attributes());
    let [v4, v6] = relayed(&answer)[..] else {
        panic!("two relayed addresses");
    };
    (world, v4, v6)
}

/// The code in ADDRESS-ERROR-CODE with its family.
fn address_error(answer: &Response) -> Option<(u8, u16, String)> {
    let value = answer.value(AttributeType::ADDRESS_ERROR_CODE)?;
    let [family, 0, class @ 0..=7, number, reason @ ..] = &value[..] else {
        panic!("{value:02x?}");
    };
    let reason = String::from_utf8(reason.into()).unwrap();
    Some((
        *family,
        u16::from(*class) * 100 + u16::from(*number),
        reason,
    ))
}

/// RFC 8656 §18.11, §18.6: the reserved bits are ignored.
#[test]
fn the_reserved_bits_of_the_additional_family_are_ignored() {
    let attributes = [
        requested_transport(17),
        (
            AttributeType::ADDITIONAL_ADDRESS_FAMILY,
            vec![2, 0xFF, 0xFF, 0xFF],
        ),
    ];
    let answer = ask(&mut world(), Method::ALLOCATE, &attributes);
    assert_eq!((answer.code(), relayed(&answer).len()), (None, 2));
}

/// RFC 8656 §7.2 step 9: one IPv4 and one IPv6 address in two attributes.
#[test]
fn an_additional_family_gives_an_address_of_each() {
    for from in [client(), tcp("203.0.113.7:1"), udp("[2001:db8:2::7]:1")] {
        let mut world = world();
        let login = crate::common::Login::alice();
        let answer = world.ask(&login, from, Method::ALLOCATE, &attributes());
        let relayed = relayed(&answer);
        assert_eq!(relayed.len(), 2);
        assert!(relayed[0].is_ipv4() && relayed[1].is_ipv6());
        assert!(relayed.iter().all(|at| world.relays.contains_key(at)));
        assert_eq!(
            (answer.lifetime(), address_error(&answer)),
            (Some(600), None)
        );
    }
}

/// RFC 8656 §7.2 step 6.
#[test]
fn an_additional_beside_a_requested_family_is_a_bad_request() {
    let mut world = world();
    for family in [V4, V6, 3] {
        let mut attributes = attributes();
        attributes.push(requested_family(family));
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(400));
    }
}

/// RFC 8656 §7.2 step 9, §18.11: only 0x02 is valid, four bytes long.
#[test]
fn any_additional_family_but_ipv6_is_a_bad_request() {
    let mut world = world();
    for value in [
        vec![V4, 0, 0, 0],
        vec![3, 0, 0, 0],
        vec![0; 4],
        vec![V6],
        vec![],
    ] {
        let additional = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, value);
        let attributes = [requested_transport(UDP), additional];
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes), Some(400));
    }
    assert!(world.shared.is_idle());
}

/// RFC 8656 §7.2 step 9: partially met, the reason is 440.
#[test]
fn without_ipv6_the_response_says_that_it_is_not_supported() {
    let mut world = world_with(|policy| policy.relay.v6 = RelaySource::Disabled);
    let answer = ask(&mut world, Method::ALLOCATE, &attributes());
    assert_eq!(answer.code(), None);
    assert!(matches!(relayed(&answer)[..], [SocketAddr::V4(_)]));
    let phrase = "Address Family not Supported".to_owned();
    assert_eq!(address_error(&answer), Some((V6, 440, phrase)));
}

/// RFC 8656 §7.2 step 7 comes first: without ADDITIONAL the client asks for IPv4, which must be there.
#[test]
fn without_ipv4_a_dual_request_is_not_supported() {
    let mut world = world_with(|policy| policy.relay.v4 = RelaySource::Disabled);
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes()), Some(440));
}

/// RFC 8656 §7.2 step 9: partially met, the reason is 508; whichever family has no port.
#[test]
fn without_a_port_of_one_family_the_response_says_so() {
    for (taken, missing) in [(V4, V4), (V6, V6)] {
        let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_000);
        world.allocate_family(udp("203.0.113.9:1"), Some(taken));
        let answer = ask(&mut world, Method::ALLOCATE, &attributes());
        assert_eq!(relayed(&answer).len(), 1);
        let phrase = "Insufficient Capacity".to_owned();
        assert_eq!(address_error(&answer), Some((missing, 508, phrase)));
    }
}

/// RFC 8656 §7.2 step 9.
#[test]
fn without_a_port_of_either_family_the_capacity_is_insufficient() {
    let mut world = world_with(|policy| policy.relay.ports = 50_000..=50_000);
    for family in [V4, V6] {
        let from = udp(&format!("203.0.113.9:{family}"));
        world.allocate_family(from, Some(family));
    }
    assert_eq!(code(&mut world, Method::ALLOCATE, &attributes()), Some(508));
}

/// RFC 8656 §7.2 step 9: nor a socket.
#[test]
fn without_a_socket_the_capacity_is_insufficient() {
    for retry in [false, true] {
        let mut world = world();
        world.bind = Err(retry);
        assert_eq!(code(&mut world, Method::ALLOCATE, &attributes()), Some(508));
        assert!(world.shared.is_idle() && world.relays.is_empty());
    }
}

/// RFC 8656 §7.2 step 9: a socket for one family only.
#[test]
fn when_one_socket_cannot_be_bound_the_other_serves() {
    for (refused, is_left) in [(V4, Family::V6), (V6, Family::V4)] {
        let mut world = world();
        world.refused = Some(if refused == V4 {
            Family::V4
        } else {
            Family::V6
        });
        let answer = ask(&mut world, Method::ALLOCATE, &attributes());
        let relayed = relayed(&answer);
        assert_eq!(relayed.len(), 1);
        assert_eq!(Family::of(relayed[0].ip()), is_left);
        let phrase = "Insufficient Capacity".to_owned();
        assert_eq!(address_error(&answer), Some((refused, 508, phrase)));
        assert_eq!(code(&mut world, Method::REFRESH, &[lifetime(0)]), None);
        assert!(world.shared.is_idle() && world.relays.is_empty());
    }
}

/// RFC 8656 §7.2: EVEN-PORT without its R bit asks for even ports.
#[test]
fn both_ports_may_be_even() {
    let mut world = world();
    for port in 1..=20 {
        let mut attributes = attributes();
        attributes.push(even_port(false));
        let from = udp(&format!("203.0.113.7:{port}"));
        let login = crate::common::Login::alice();
        let answer = world.ask(&login, from, Method::ALLOCATE, &attributes);
        let is_even = |at: &SocketAddr| at.port().is_multiple_of(2);
        assert!(relayed(&answer).iter().all(is_even));
    }
}

/// RFC 8489 §6.3.1: both addresses, or the reason for one, once more.
#[test]
fn a_retransmission_is_answered_alike() {
    for source in [
        RelaySource::Disabled,
        RelaySource::Fixed(vec![ip("2001:db8::10")]),
    ] {
        let mut world = world_with(|policy| policy.relay.v6 = source.clone());
        let login = crate::common::Login::alice();
        let request = world.signed(&login, client(), Method::ALLOCATE, &attributes());
        let first = world.send(client(), &request).response();
        assert_eq!(world.send(client(), &request).response(), first);
    }
}

/// RFC 8656 §7.2: behind a 1:1 NAT in either family, or both.
#[test]
fn the_relayed_addresses_are_the_public_ones() {
    let publics = [ip("198.51.100.200"), ip("2001:db8:ffff::1")];
    for mapped in [&publics[..1], &publics[1..], &publics[..]] {
        let mut world = world_with(|policy| {
            let external = |public| External {
                local: None,
                public,
            };
            policy.relay.external = mapped.iter().copied().map(external).collect();
        });
        let answer = ask(&mut world, Method::ALLOCATE, &attributes());
        for relayed in relayed(&answer) {
            let family = Family::of(relayed.ip());
            let local = [ip("192.0.2.10"), ip("2001:db8::10")][family as usize];
            let public = mapped.iter().find(|public| Family::of(**public) == family);
            assert_eq!(relayed.ip(), *public.unwrap_or(&local));
            let bound = SocketAddr::new(local, relayed.port());
            assert!(world.relays.contains_key(&bound));
        }
    }
}

/// RFC 8656 §9, §10, §11: permissions and data of both families on one allocation.
#[test]
fn peers_of_both_families_are_permitted_and_reached() {
    let (mut world, v4, v6) = dual();
    for (relay, peer) in [(v4, peer()), (v6, peer_v6())] {
        assert_eq!(world.permit(client(), peer).code(), None);
        let out = world.send(client(), &send_indication(peer, b"data"));
        let payload = b"data".to_vec();
        assert_eq!(
            out,
            Out::ToPeer {
                from: relay,
                peer,
                payload
            }
        );
        assert_ne!(world.peer_sends(relay, peer, b"back"), Out::Nothing);
    }
}

/// RFC 8656 §12: channels of both families on one allocation.
#[test]
fn channels_to_peers_of_both_families_are_bound() {
    let (mut world, v4, v6) = dual();
    for (number, relay, peer) in [(0x4000, v4, peer()), (0x4001, v6, peer_v6())] {
        assert_eq!(world.bind_channel(client(), number, peer).code(), None);
        let out = world.send(client(), &channel_data(number, b"data"));
        let payload = b"data".to_vec();
        assert_eq!(
            out,
            Out::ToPeer {
                from: relay,
                peer,
                payload
            }
        );
        let Out::ToClient { message, .. } = world.peer_sends(relay, peer, b"back") else {
            panic!("nothing for the client");
        };
        assert_eq!(message[..2], u16::to_be_bytes(number));
    }
}

/// Binds a channel to a peer of each family.
fn bind_both(world: &mut World) {
    for (number, peer) in [(0x4000, peer()), (0x4001, peer_v6())] {
        assert_eq!(world.bind_channel(client(), number, peer).code(), None);
    }
}

fn refresh(world: &mut World, family: Option<u8>, seconds: u32) -> Option<u16> {
    let mut attributes = vec![lifetime(seconds)];
    attributes.extend(family.map(requested_family));
    code(world, Method::REFRESH, &attributes)
}

fn gauge(world: &World, family: Family) -> u64 {
    let counter = Counter::Allocations(Transport::Udp, family);
    world.server.stats().get(counter)
}

/// RFC 8656 §8.1: deleting one family destroys its permissions and channels and none of the other's.
#[test]
fn one_family_can_be_deleted_alone() {
    for (gone, number, left_number, ended, left) in [
        (V4, 0x4000, 0x4001, peer(), peer_v6()),
        (V6, 0x4001, 0x4000, peer_v6(), peer()),
    ] {
        let (mut world, ..) = dual();
        bind_both(&mut world);
        assert_eq!(refresh(&mut world, Some(gone), 0), None);
        assert_eq!(world.relays.len(), 1);
        assert!(reaches(&mut world, left) && !reaches(&mut world, ended));
        let lost = world.send(client(), &channel_data(number, b"data"));
        assert_eq!(lost, Out::Nothing);
        let kept = world.send(client(), &channel_data(left_number, b"data"));
        assert!(matches!(kept, Out::ToPeer { .. }));
        let stats = world.server.stats();
        for counter in [Counter::Permissions, Counter::Channels, Counter::RelayPorts] {
            assert_eq!(stats.get(counter), 1);
        }
        // The family is gone: no permission, no refresh, and the channel's number is free.
        assert_eq!(world.permit(client(), ended).code(), Some(443));
        assert_eq!(refresh(&mut world, Some(gone), 600), Some(443));
        assert_eq!(refresh(&mut world, None, 0), None);
        assert!(world.relays.is_empty() && world.shared.is_idle());
        assert_eq!(
            (gauge(&world, Family::V4), gauge(&world, Family::V6)),
            (0, 0)
        );
    }
}

/// RFC 8656 §8.1: without REQUESTED-ADDRESS-FAMILY the request is for both.
#[test]
fn a_refresh_without_family_is_for_both() {
    let (mut world, ..) = dual();
    assert_eq!(refresh(&mut world, None, 0), None);
    assert!(world.relays.is_empty() && world.shared.is_idle());
    let (mut world, ..) = dual();
    world.pass(seconds(500));
    assert_eq!(refresh(&mut world, None, 600), None);
    world.pass(seconds(599));
    assert_eq!(world.relays.len(), 2);
    world.pass(seconds(1));
    assert!(world.relays.is_empty());
}

/// RFC 8656 §8.1, §8.2: a family that is not refreshed ends in its time, the other goes on.
#[test]
fn each_family_has_its_own_lifetime() {
    for (family, kept, ended) in [(V4, peer(), peer_v6()), (V6, peer_v6(), peer())] {
        let (mut world, ..) = dual();
        world.pass(seconds(400));
        bind_both(&mut world);
        assert_eq!(refresh(&mut world, Some(family), 3000), None);
        world.pass(seconds(199));
        assert!(reaches(&mut world, kept) && reaches(&mut world, ended));
        world.pass(seconds(1));
        assert!(reaches(&mut world, kept) && !reaches(&mut world, ended));
        assert_eq!(world.relays.len(), 1);
        world.pass(seconds(2800));
        assert!(world.relays.is_empty() && world.shared.is_idle());
        assert!(world.server.poll_timeout().is_none());
    }
}

/// RFC 8656 §8.2: neither of its families.
#[test]
fn a_refresh_of_an_unknown_family_is_a_mismatch() {
    let (mut world, ..) = dual();
    assert_eq!(refresh(&mut world, Some(3), 600), Some(443));
    assert_eq!(world.relays.len(), 2);
}

/// Requirement S16: quota counts once, and both ports return.
#[test]
fn a_dual_allocation_is_one_allocation_to_the_quota() {
    let mut world = world_with(|policy| {
        policy.limits.allocations_per_user = 1;
        policy.relay.ports = 50_000..=50_000;
    });
    let others: [FiveTuple; 3] = [1, 2, 3].map(|port| udp(&format!("203.0.113.7:{port}")));
    let login = crate::common::Login::alice();
    for from in others {
        let answer = world.ask(&login, from, Method::ALLOCATE, &attributes());
        assert_eq!(relayed(&answer).len(), 2);
        let refused = ask(&mut world, Method::ALLOCATE, &attributes());
        assert_eq!(refused.code(), Some(486));
        assert_eq!(
            (gauge(&world, Family::V4), gauge(&world, Family::V6)),
            (1, 1)
        );
        let end = world.ask(&login, from, Method::REFRESH, &[lifetime(0)]);
        assert_eq!(end.code(), None);
    }
    assert!(world.shared.is_idle());
}

/// RFC 8656 §8: a client that hangs up loses both.
#[test]
fn both_families_end_with_the_connection() {
    let mut world = world();
    let from = tcp("203.0.113.7:4000");
    let login = crate::common::Login::alice();
    world.ask(&login, from, Method::ALLOCATE, &attributes());
    assert_eq!(world.relays.len(), 2);
    world.client_gone(from);
    assert!(world.relays.is_empty() && world.shared.is_idle());
}
