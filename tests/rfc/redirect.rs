//! Redirection to another server (RFC 8489 §10, §14.15, §14.16; RFC 8656 §7.2 step 11).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use turnstone::stun::{Algorithm, AttributeType, Class, MessageBuilder, Method, PasswordAlgorithm};
use turnstone::turn::{
    Admission, Alternates, Credentials, FiveTuple, Policy, Security, StoredKey, Transport,
};

use crate::common::{
    Login, PASSWORD, REALM, Response, USER, World, address, channel_data, even_port, lifetime,
    policy, requested_transport, tcp, udp,
};
use crate::dialogue::{client, peer};

const V4: &str = "198.51.100.7:3478";
const V6: &str = "[2001:db8::7]:3478";
const TLS_V4: &str = "198.51.100.7:5349";
const DOMAIN: &str = "turn2.example.org";

/// A policy that sends clients to alternates of both families, over TLS to one of IPv4.
fn redirecting(admission: Admission) -> Policy {
    let plain = [address(V4), address(V6)];
    Policy {
        admission,
        alternates: Alternates::new(&plain, &[address(TLS_V4)], Some(DOMAIN)),
        ..policy()
    }
}

/// The world of a server that redirects to `plain` alone.
fn world_to(plain: &[&str], admission: Admission) -> World {
    let plain: Vec<SocketAddr> = plain.iter().map(|text| address(text)).collect();
    World::new(Policy {
        alternates: Alternates::new(&plain, &[], None),
        ..redirecting(admission)
    })
}

fn allocate(world: &mut World, from: FiveTuple) -> Response {
    let attributes = [requested_transport(17)];
    world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes)
}

/// The values of ALTERNATE-SERVER, in order.
fn alternates(response: &Response) -> Vec<SocketAddr> {
    let message = response.message();
    let servers = message.attributes();
    servers
        .filter(|attribute| attribute.kind == AttributeType::ALTERNATE_SERVER)
        .map(|attribute| message.address(&attribute).unwrap())
        .collect()
}

fn over(transport: Transport) -> FiveTuple {
    FiveTuple {
        transport,
        ..client()
    }
}

/// RFC 8489 §10: at least one ALTERNATE-SERVER of the family that the request came by, then one of the
/// other family.
#[test]
fn a_redirection_names_a_server_of_the_clients_family_and_then_one_of_the_other() {
    let mut world = World::new(redirecting(Admission::Elsewhere));
    for (from, expected) in [
        (udp("203.0.113.7:4000"), [V4, V6]),
        (tcp("203.0.113.7:4000"), [V4, V6]),
        (udp("[2001:db8:2::1]:4000"), [V6, V4]),
    ] {
        let response = allocate(&mut world, from);
        assert_eq!(response.code(), Some(300));
        assert_eq!(alternates(&response), expected.map(address));
        assert!(!world.server.has_allocation(&from));
    }
    assert!(world.relays.is_empty() && world.shared.is_idle());
}

/// RFC 8489 §10: the response may be authenticated; ours is, because it answers authenticated requests
/// only. Whoever has no credentials gets the challenge, as ever.
#[test]
fn a_redirection_is_signed_and_only_for_users() {
    let mut world = World::new(redirecting(Admission::Elsewhere));
    assert!(allocate(&mut world, client()).is_signed_by(&Login::alice()));
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    let challenge = world.send(client(), &request).response();
    assert_eq!(challenge.code(), Some(401));
    let stranger = Login::new(USER, "guessed");
    let attributes = [requested_transport(17)];
    let refused = world.ask(&stranger, client(), Method::ALLOCATE, &attributes);
    assert_eq!(refused.code(), Some(401));
    assert!(alternates(&challenge).is_empty() && alternates(&refused).is_empty());
}

/// RFC 8489 §10: the same transport is used at the alternate, so clients over TLS and DTLS have their
/// own; ALTERNATE-DOMAIN goes with them, and without TLS says nothing.
#[test]
fn clients_over_tls_get_the_alternates_for_tls_and_the_domain() {
    let mut world = World::new(redirecting(Admission::Elsewhere));
    for transport in [Transport::Tls, Transport::Dtls] {
        let response = allocate(&mut world, over(transport));
        assert_eq!(response.code(), Some(300));
        assert_eq!(alternates(&response), [address(TLS_V4)]);
        let domain = response.value(AttributeType::ALTERNATE_DOMAIN);
        assert_eq!(domain.as_deref(), Some(DOMAIN.as_bytes()));
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        let response = allocate(&mut world, over(transport));
        assert_eq!(response.value(AttributeType::ALTERNATE_DOMAIN), None);
    }
}

/// RFC 8489 §10: the domain MUST be there when the request was signed with SHA-256 over TLS.
#[test]
fn a_client_that_signs_with_sha256_over_tls_gets_the_domain_signed_alike() {
    let key = StoredKey::derive(PasswordAlgorithm::Sha256, USER, REALM, PASSWORD);
    let mut credentials = Credentials::new(REALM);
    credentials.add_user(USER, key.clone());
    let mut world = World::new(Policy {
        credentials,
        security: Security::new(&[PasswordAlgorithm::Sha256], false),
        ..redirecting(Admission::Elsewhere)
    });
    let from = over(Transport::Tls);
    let nonce = world.nonce(from);
    let mut request = Vec::new();
    MessageBuilder::new(
        &mut request,
        Class::Request,
        Method::ALLOCATE,
        world.transaction(),
    )
    .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
    .attribute(AttributeType::USERNAME, USER.as_bytes())
    .attribute(AttributeType::REALM, REALM.as_bytes())
    .attribute(AttributeType::NONCE, &nonce)
    .attribute(AttributeType::PASSWORD_ALGORITHMS, &[0, 2, 0, 0])
    .attribute(AttributeType::PASSWORD_ALGORITHM, &[0, 2, 0, 0])
    .integrity(Algorithm::Sha256, key.as_bytes());
    let response = world.send(from, &request).response();
    assert_eq!(response.code(), Some(300));
    assert!(response.value(AttributeType::ALTERNATE_DOMAIN).is_some());
    let message = response.message();
    assert!(
        message
            .check_integrity(Algorithm::Sha256, key.as_bytes())
            .is_ok()
    );
}

/// RFC 8489 §10: the first ALTERNATE-SERVER is of the client's family, or there is no redirection: such
/// a client is served here, unless nobody is.
#[test]
fn without_an_alternate_of_its_family_a_client_is_served_here_or_not_at_all() {
    let v6 = udp("[2001:db8:2::1]:4000");
    for (admission, expected) in [(Admission::Elsewhere, None), (Admission::Closed, Some(508))] {
        let mut world = world_to(&[V4], admission);
        assert_eq!(allocate(&mut world, client()).code(), Some(300));
        assert_eq!(allocate(&mut world, v6).code(), expected);
        // No alternate is for clients over TLS.
        let tls = allocate(&mut world, over(Transport::Tls));
        assert_eq!(tls.code(), expected);
    }
}

/// RFC 8489 §10: among several servers each is picked, and a retransmission is answered alike
/// (RFC 8489 §6.3.1).
#[test]
fn clients_are_spread_over_the_alternates_and_a_retransmission_goes_to_the_same() {
    let mut world = World::new(redirecting(Admission::Elsewhere));
    let servers = ["198.51.100.1:1", "198.51.100.2:2", "198.51.100.3:3"];
    let mut policy = redirecting(Admission::Elsewhere);
    policy.alternates = Alternates::new(&servers.map(address), &[], None);
    world.swap_policy(policy);
    let mut found = BTreeSet::new();
    for _ in 0..30 {
        let attributes = [requested_transport(17)];
        let request = world.signed(&Login::alice(), client(), Method::ALLOCATE, &attributes);
        let first = world.send(client(), &request).response();
        assert_eq!(world.send(client(), &request).response(), first);
        found.extend(alternates(&first));
    }
    assert_eq!(found, BTreeSet::from(servers.map(address)));
}

/// RFC 8656 §7.2 step 11 speaks of Allocate requests: who has an allocation keeps it, and STUN goes on.
#[test]
fn an_allocation_that_exists_goes_on_and_binding_is_answered() {
    let mut world = World::new(policy());
    let relay = world.allocate(client());
    for admission in [Admission::Elsewhere, Admission::Closed] {
        world.swap_policy(redirecting(admission));
        assert_eq!(world.bind_channel(client(), 0x4000, peer()).code(), None);
        let refresh = [lifetime(600)];
        let refreshed = world.ask(&Login::alice(), client(), Method::REFRESH, &refresh);
        assert_eq!(refreshed.code(), None);
        let out = world.send(client(), &channel_data(0x4000, b"data"));
        assert_ne!(out, crate::common::Out::Nothing);
        assert_eq!(allocate(&mut world, client()).code(), Some(437));
        let binding = world.request(Method::BINDING, &[]);
        assert_eq!(world.send(client(), &binding).response().code(), None);
        assert!(world.relays.contains_key(&relay));
    }
}

/// RFC 8656 §7.2 step 5: a reserved port is here and nowhere else.
#[test]
fn a_reservation_is_honoured_while_others_are_redirected() {
    let mut world = World::new(policy());
    let attributes = [requested_transport(17), even_port(true)];
    let first = world.ask(&Login::alice(), client(), Method::ALLOCATE, &attributes);
    let token = first.value(AttributeType::RESERVATION_TOKEN).unwrap();
    world.swap_policy(redirecting(Admission::Closed));
    let attributes = [
        requested_transport(17),
        (AttributeType::RESERVATION_TOKEN, token),
    ];
    let from = udp("203.0.113.7:4001");
    let second = world.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
    assert_eq!(second.code(), None);
}
