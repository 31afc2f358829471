//! Bytes of people who mean no good.

use super::link::Random;
use super::world::{ALL, Client, Speaks, Told, World, five_tuple};
use crate::transport::dtls::chain::Layout;
use crate::transport::dtls::hello::Hello;
use crate::transport::dtls::provider::expecting;
use crate::transport::dtls::{Heard, is_dtls, reply};
use crate::turn::HandshakeFailure;

/// Every datagram that a client sends until it is connected, and a message after it.
fn recorded(speaks: Speaks) -> Vec<Vec<u8>> {
    let mut world = World::new();
    let mut client = Client::new(4000, speaks, &world);
    let mut datagrams = Vec::new();
    while !client.sent.is_empty() {
        for datagram in client.take_sent() {
            world.receive(client.at, &datagram);
            datagrams.push(datagram);
        }
        for datagram in world.take_sent() {
            client.hear(&datagram);
        }
    }
    client.say(b"message");
    datagrams.extend(client.take_sent());
    assert!(client.connected);
    datagrams
}

#[test]
fn a_cookie_of_somebody_else_opens_nothing() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        let first = client.take_sent().remove(0);
        world.receive(client.at, &first);
        for datagram in world.take_sent() {
            client.hear(&datagram);
        }
        let second = client.take_sent().remove(0);
        world.receive(five_tuple(4001), &second);
        assert!(world.sessions.is_empty(), "{speaks:?}");
    }
}

#[test]
fn a_forged_hello_does_not_end_a_session() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        for other in ALL {
            for datagram in recorded(other) {
                world.receive(client.at, &datagram);
            }
        }
        let ended = |told: &Told| matches!(told, Told::Ended(..) | Told::Established(_));
        assert!(!world.take_told().iter().any(ended));
        world.take_sent();
        world.hears(&mut client, b"I am still here");
    }
}

#[test]
fn a_bad_record_does_not_end_a_session() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        let mut random = Random(1);
        for round in 0..2000 {
            client.say(b"to be broken");
            let mut datagram = client.take_sent().remove(0);
            match round % 3 {
                0 => {
                    let place = random.below(datagram.len());
                    datagram[place] ^= 1 << random.below(8);
                }
                1 => datagram.truncate(random.below(datagram.len())),
                _ => datagram
                    .iter_mut()
                    .skip(1)
                    .for_each(|byte| *byte = random.next().to_le_bytes()[0]),
            }
            let heard = world.receive(client.at, &datagram);
            // The version of a record is not protected.
            let version = heard == Heard::Messages && round % 3 == 0;
            assert!(version || heard != Heard::Messages, "{speaks:?}, {round}");
            world.sent.clear();
        }
        let told = world.take_told();
        let whole = Told::Message(4000, b"to be broken".to_vec());
        let harm = |told: &&Told| **told != whole && !matches!(told, Told::Failed(..));
        assert_eq!(told.iter().find(harm), None, "{speaks:?}");
        world.hears(&mut client, b"whole again");
    }
}

#[test]
fn bytes_of_any_kind_end_in_no_panic() {
    let flights: Vec<Vec<u8>> = ALL.into_iter().flat_map(recorded).collect();
    let mut random = Random(2);
    let mut world = World::new();
    let mut good = world.connect(3000, Speaks::Dtls12);
    for _ in 0..30_000 {
        let mut datagram = flights[random.below(flights.len())].clone();
        for _ in 0..random.below(4) {
            let place = random.below(datagram.len());
            datagram[place] = random.next().to_le_bytes()[0];
        }
        if random.below(4) == 0 {
            datagram.truncate(1 + random.below(datagram.len()));
        }
        let port = u16::try_from(4000 + random.below(50)).expect("a port");
        world.receive(five_tuple(port), &datagram);
        world.sent.clear();
        world.told.clear();
    }
    world.hears(&mut good, b"unharmed");
}

#[test]
fn a_handshake_that_is_tampered_with_ends_in_no_panic() {
    let mut random = Random(3);
    let mut connected = 0;
    for round in 0..600_usize {
        let speaks = ALL[round % 3];
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        for _ in 0..8 {
            for mut datagram in client.take_sent() {
                if random.below(3) == 0 {
                    let place = random.below(datagram.len());
                    datagram[place] ^= 1 << random.below(8);
                }
                if random.below(12) == 0 {
                    datagram.truncate(1 + random.below(datagram.len()));
                }
                world.receive(client.at, &datagram);
            }
            for datagram in world.take_sent() {
                client.hear(&datagram);
            }
        }
        connected += usize::from(client.connected);
    }
    assert!(connected > 0);
}

#[test]
fn an_alert_tells_an_old_client_that_it_is_too_old() {
    let mut world = World::new();
    let mut client = Client::new(4000, Speaks::Dtls12, &world);
    let mut hello = client.take_sent().remove(0);
    hello[25..27].copy_from_slice(&[0xFE, 0xFF]);
    world.receive(client.at, &hello);
    let sent = world.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][0], 21);
    assert_eq!(sent[0][13..], [2, 70]);
    assert_eq!(
        world.take_told(),
        [Told::Failed(4000, HandshakeFailure::Version)]
    );
}

#[test]
fn an_alert_tells_a_client_that_nothing_is_in_common() {
    for speaks in [Speaks::Dtls12, Speaks::Dtls13] {
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        let mut hello = client.take_sent().remove(0);
        // No cookie and no session, so the suites begin here; the new ones are nobody's.
        let length = usize::from(hello[62]);
        for suite in hello[63..63 + length].chunks_exact_mut(2) {
            assert!(matches!(suite[0], 0x13 | 0xC0 | 0xCC));
            suite[0] = 0x5A;
        }
        world.receive(client.at, &hello);
        if speaks == Speaks::Dtls12 {
            // Only now has the client a say in it.
            client.hear(&world.take_sent().remove(0));
            let mut second = client.take_sent().remove(0);
            let length = usize::from(second[62 + 32]);
            for suite in second[63 + 32..63 + 32 + length].chunks_exact_mut(2) {
                suite[0] = 0x5A;
            }
            world.receive(client.at, &second);
        }
        let sent = world.take_sent();
        assert_eq!(sent.len(), 1, "{speaks:?}");
        assert_eq!((sent[0][0], &sent[0][13..]), (21, &[2, 40][..]));
        let failed = Told::Failed(4000, HandshakeFailure::Cipher);
        assert_eq!(world.take_told(), [failed]);
        assert!(world.sessions.is_empty());
    }
}

/// The library's own HelloRetryRequest for `hello` and `cookie`.
fn retry_of_library(world: &World, hello: &[u8], cookie: [u8; 32]) -> Vec<u8> {
    let identity = super::world::identity();
    let at = world.library_now();
    let config = std::sync::Arc::clone(&identity.config);
    let mut dtls = dimpl::Dtls::new_13(config, identity.certificate(Layout::Dtls13), at);
    dtls.handle_timeout(at).expect("a beginning");
    expecting(cookie, || dtls.handle_packet(hello)).expect("a good hello");
    let mut room = [0; 2048];
    match dtls.poll_output(&mut room) {
        dimpl::Output::Packet(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_retry_request_is_the_librarys_own() {
    let world = World::new();
    for speaks in [Speaks::Dtls13, Speaks::Both] {
        let mut client = Client::new(4000, speaks, &world);
        let whole = client.take_sent().remove(0);
        // As it is, and with a key share of a group that the server does not know.
        let share = whole
            .windows(6)
            .position(|bytes| bytes[..2] == [0, 51] && bytes[4..] != [0, 0])
            .expect("key_share");
        let mut other = whole.clone();
        other[share + 6..share + 8].copy_from_slice(&[0x11, 0xEC]);
        for datagram in [whole, other] {
            let hello = Hello::parse(&datagram).expect("a ClientHello");
            let mut ours = Vec::new();
            assert!(reply::retry_request(&hello, &[5; 32], &mut ours));
            assert_eq!(ours, retry_of_library(&world, &datagram, [5; 32]));
        }
    }
}

#[test]
fn a_hello_in_fragments_or_without_its_rest_is_refused() {
    let mut world = World::new();
    let mut client = Client::new(4000, Speaks::Dtls12, &world);
    let hello = client.take_sent().remove(0);
    for length in 14..hello.len() {
        world.receive(client.at, &hello[..length]);
    }
    assert!(world.take_sent().is_empty() && world.sessions.is_empty());
    let failed = Told::Failed(4000, HandshakeFailure::NotTls);
    assert!(world.take_told().iter().all(|told| *told == failed));
}

#[test]
fn every_first_byte_of_dtls_and_no_other_is_dtls() {
    let known: Vec<u8> = (0..=255).filter(|first| is_dtls(*first)).collect();
    assert_eq!(known, (20..=63).collect::<Vec<_>>());
}
