//! Handshakes and what follows them.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
};

use super::world::{ALL, Client, LIMITS, Speaks, Told, World, certificate, five_tuple};
use crate::transport::dtls::{DtlsIdentity, DtlsKeyError, Heard, Unsent};
use crate::turn::ConnectionEnd;

#[test]
fn clients_of_both_versions_talk_both_ways() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        for length in [0, 1, 160, 1300, 16_384] {
            let message = vec![7; length];
            if length > 0 {
                world.hears(&mut client, &message);
            }
            world.tells(&mut client, &message);
        }
        assert_eq!(world.send(4000, &[0; 16_385]), Err(Unsent::TooLarge));
        assert_eq!(world.send(4001, b"x"), Err(Unsent::NoSession));
    }
}

#[test]
fn the_first_flight_takes_no_session_and_is_no_longer_than_its_cause() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        let hello = client.take_sent().remove(0);
        assert_eq!(world.receive(client.at, &hello), Heard::Handshake);
        assert!(world.sessions.is_empty(), "{speaks:?}");
        let answer = world.take_sent();
        assert_eq!(answer.len(), 1);
        assert!(answer[0].len() <= hello.len(), "{speaks:?}");
    }
}

#[test]
fn no_datagram_of_a_handshake_is_longer_than_1200_bytes() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        while !client.sent.is_empty() {
            for datagram in client.take_sent() {
                world.receive(client.at, &datagram);
            }
            for datagram in world.take_sent() {
                assert!(datagram.len() <= 1200, "{}", datagram.len());
                client.hear(&datagram);
            }
        }
        assert!(client.connected);
    }
}

#[test]
fn a_client_that_closes_is_gone_and_is_answered() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        client.close();
        world.settle(&mut client);
        assert_eq!(
            world.take_told(),
            [Told::Ended(4000, ConnectionEnd::Closed)]
        );
        assert!(client.closed && world.sessions.is_empty(), "{speaks:?}");
    }
}

#[test]
fn a_session_that_is_closed_says_so() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        world
            .sessions
            .close(&five_tuple(4000), ConnectionEnd::Silent);
        world.drain();
        for datagram in world.take_sent() {
            client.hear(&datagram);
        }
        assert!(client.closed, "{speaks:?}");
        assert_eq!(
            world.take_told(),
            [Told::Ended(4000, ConnectionEnd::Silent)]
        );
        assert!(world.sessions.is_empty());
    }
}

#[test]
fn a_client_that_was_restarted_replaces_its_old_session() {
    for old in ALL {
        for new in ALL {
            let mut world = World::new();
            let mut before = world.connect(4000, old);
            let mut client = Client::new(4000, new, &world);
            world.settle(&mut client);
            assert!(client.connected, "{old:?} {new:?}");
            let told = [
                Told::Ended(4000, ConnectionEnd::Replaced),
                Told::Established(4000),
            ];
            assert_eq!(world.take_told(), told);
            world.hears(&mut client, b"here again");
            world.tells(&mut client, b"good");
            before.say(b"is this mine still");
            let datagram = before.take_sent().remove(0);
            world.receive(before.at, &datagram);
            assert_eq!(world.take_told(), []);
            assert_eq!(world.sessions.len(), 1);
        }
    }
}

#[test]
fn an_old_session_lives_until_the_new_handshake_is_complete() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        let mut other = Client::new(4000, speaks, &world);
        for _ in 0..2 {
            for datagram in other.take_sent() {
                world.receive(other.at, &datagram);
            }
            for datagram in world.take_sent() {
                other.hear(&datagram);
            }
            world.hears(&mut client, b"still here");
            world.tells(&mut client, b"yes");
        }
        // The other one is never heard of again.
        for _ in 0..12 {
            world.pass(Duration::from_secs(1));
            world.take_sent();
        }
        let told = world.take_told();
        assert!(matches!(told[..], [Told::Failed(4000, _)]), "{told:?}");
        world.hears(&mut client, b"and still");
    }
}

#[test]
fn an_idle_client_is_noticed_and_noticed_again() {
    let mut world = World::new();
    let mut client = world.connect(4000, Speaks::Dtls12);
    world.pass(LIMITS.idle_after - Duration::from_secs(1));
    world.hears(&mut client, b"awake");
    world.pass(LIMITS.idle_after - Duration::from_secs(1));
    assert_eq!(world.take_told(), []);
    for _ in 0..2 {
        let due = world.sessions.poll_timeout().expect("a deadline");
        world.pass(due.since(world.now));
        assert_eq!(world.take_told(), [Told::Quiet(4000)]);
    }
    world.hears(&mut client, b"I am");
}

#[test]
fn a_new_identity_is_for_new_sessions() {
    let mut world = World::new();
    let mut old = world.connect(4000, Speaks::Dtls12);
    world.sessions.set_identity(None);
    let mut refused = Client::new(4001, Speaks::Dtls12, &world);
    world.settle(&mut refused);
    assert!(!refused.connected);
    world.take_told();
    world.hears(&mut old, b"mine goes on");
    world.sessions.set_identity(Some(super::world::identity()));
    world.connect(4002, Speaks::Dtls13);
}

#[test]
fn a_key_that_cannot_serve_is_refused() {
    let (certificate, key) = certificate();
    assert!(DtlsIdentity::new([&certificate[..]], &key).is_ok());
    let error = |certificate: &[u8], key: &[u8]| DtlsIdentity::new([certificate], key).err();
    assert_eq!(error(&[], &key), Some(DtlsKeyError::NoCertificate));
    assert_eq!(error(&certificate, &[]), Some(DtlsKeyError::UnsupportedKey));
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let ed25519 = ed25519.serialize_der();
    assert_eq!(
        error(&certificate, &ed25519),
        Some(DtlsKeyError::UnsupportedKey)
    );
}

/// A chain of `length` certificates of `kind`, the server's own first, and its key.
fn chain(kind: &'static SignatureAlgorithm, length: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let key = || KeyPair::generate_for(kind).expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut issuer = CertifiedIssuer::self_signed(params.clone(), key()).expect("an issuer");
    let mut chain = Vec::new();
    for _ in 1..length {
        chain.insert(0, issuer.der().to_vec());
        issuer = CertifiedIssuer::signed_by(params.clone(), key(), &issuer).expect("an issuer");
    }
    let own = key();
    let params = CertificateParams::new(["turn.example.org".to_owned()]).expect("a name");
    let leaf = params.signed_by(&own, &issuer).expect("a certificate");
    chain.insert(0, leaf.der().to_vec());
    (chain, own.serialize_der())
}

#[test]
fn chains_of_any_length_are_sent() {
    for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        for length in [1, 2, 3, 10] {
            let (chain, key) = chain(kind, length);
            for speaks in ALL {
                let mut world = World::new();
                let identity = DtlsIdentity::new(chain.iter().map(Vec::as_slice), &key);
                world.sessions.set_identity(identity.ok().map(Arc::new));
                let mut client = world.connect(4000, speaks);
                assert!(client.certificate == chain[0], "{speaks:?}, {length}");
                world.hears(&mut client, b"I trust you");
            }
        }
    }
}

#[test]
fn nothing_is_left_of_clients_that_have_gone() {
    let mut world = World::new();
    for port in 4000..4050 {
        let mut client = world.connect(port, ALL[usize::from(port) % 3]);
        client.close();
        world.settle(&mut client);
    }
    assert!(world.sessions.is_empty());
    assert_eq!(world.sessions.poll_timeout(), None);
}
