//! The client's end of our own against the server's.

use super::world::{Told, World, five_tuple};
use crate::transport::dtls::{DtlsClient, DtlsClientOutput, DtlsRefusal};
use crate::turn::ConnectionEnd;

const PORT: u16 = 4000;

/// What `client` has to send, and what it has heard.
fn drain(client: &mut DtlsClient) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut sent, mut heard) = (Vec::new(), Vec::new());
    client.drain(|output| match output {
        DtlsClientOutput::Send(bytes) => sent.push(bytes.to_vec()),
        DtlsClientOutput::Message(bytes) => heard.push(bytes.to_vec()),
    });
    (sent, heard)
}

/// Carries everything to and fro until nobody has anything to say; what the client heard.
fn settle(world: &mut World, client: &mut DtlsClient) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    loop {
        let (sent, messages) = drain(client);
        heard.extend(messages);
        for datagram in &sent {
            world.receive(five_tuple(PORT), datagram);
        }
        let answers = world.take_sent();
        for datagram in &answers {
            let taken = client.handle_datagram(world.library_now(), datagram);
            assert_eq!(taken, Ok(()));
        }
        if sent.is_empty() && answers.is_empty() {
            return heard;
        }
    }
}

fn client(world: &World) -> DtlsClient {
    DtlsClient::new(world.library_now()).expect("a client")
}

#[test]
fn messages_go_both_ways_until_the_client_says_goodbye() {
    let mut world = World::new();
    let mut client = client(&world);
    settle(&mut world, &mut client);
    assert!(client.is_established() && !client.is_closed());
    assert_eq!(world.take_told(), [Told::Established(PORT)]);
    client.send(b"hello").expect("a session");
    settle(&mut world, &mut client);
    assert_eq!(world.take_told(), [Told::Message(PORT, b"hello".to_vec())]);
    assert_eq!(world.send(PORT, b"world"), Ok(()));
    assert_eq!(settle(&mut world, &mut client), [b"world"]);
    client.close();
    settle(&mut world, &mut client);
    let ended = Told::Ended(PORT, ConnectionEnd::Closed);
    assert_eq!(world.take_told(), [ended]);
}

#[test]
fn messages_of_one_length_make_datagrams_of_one_length() {
    let mut world = World::new();
    let mut client = client(&world);
    settle(&mut world, &mut client);
    let mut lengths = Vec::new();
    for number in 0..300_u16 {
        client.send(&number.to_be_bytes()).expect("a session");
        let (sent, _) = drain(&mut client);
        lengths.extend(sent.iter().map(Vec::len));
    }
    assert_eq!(lengths.len(), 300);
    lengths.dedup();
    assert_eq!(lengths.len(), 1);
}

#[test]
fn a_lost_hello_is_sent_again() {
    let world = World::new();
    let mut client = client(&world);
    let (first, _) = drain(&mut client);
    let due = client.timer();
    assert!(due > world.library_now());
    assert_eq!(client.handle_timeout(due), Ok(()));
    let (again, _) = drain(&mut client);
    assert_eq!((first.len(), again.len()), (1, 1));
}

#[test]
fn an_alert_is_named_and_what_is_no_dtls_too() {
    let alert = |number| {
        [
            &[21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2][..],
            &[2, number],
        ]
        .concat()
    };
    let stun = b"\x01\x11\0\0\x21\x12\xA4\x42no transaction".to_vec();
    for (datagram, refusal, help) in [
        (alert(40), DtlsRefusal::Alert(40), "ECDSA"),
        (
            alert(70),
            DtlsRefusal::Alert(70),
            "neither DTLS 1.2 nor 1.3",
        ),
        (alert(80), DtlsRefusal::Alert(80), "alert 80"),
        (stun, DtlsRefusal::Protocol, "speaks no DTLS"),
    ] {
        let world = World::new();
        let mut client = client(&world);
        drain(&mut client);
        let taken = client.handle_datagram(world.library_now(), &datagram);
        assert_eq!(taken, Err(refusal));
        assert!(refusal.to_string().contains(help), "{refusal}");
    }
}
