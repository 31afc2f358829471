//! Shards that give away what they have, and take it back or do not.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use turnstone::shard::{Freezer, Give};

use crate::client::Client;
use crate::harness::{Options, peer, start};

const CHANNEL: u16 = 0x4000;
/// Longer than a frozen shard waits by far.
const LIMIT: Duration = Duration::from_secs(120);
/// A Binding request without attributes.
const BINDING: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42turnstone???";

fn give_away(freezer: &Freezer) -> usize {
    freezer.freeze().expect("they settle");
    let nobody = || -> Give { Box::new(|_, _| Ok(())) };
    freezer.export(nobody).expect("given")
}

#[test]
fn shards_that_have_gone_on_by_themselves_release_nothing() {
    let shards = start(&Options {
        shards: 2,
        ..Options::default()
    });
    let freezer = shards.freezer();
    let mut client = Client::udp(shards.v4());
    client.allocate();
    let peer = peer(Ipv4Addr::LOCALHOST.into());
    client.bind(CHANNEL, peer.local_addr().expect("bound"));
    assert_eq!(give_away(&freezer), 1);
    freezer.resume();
    assert!(freezer.hold().is_err());
    assert!(freezer.release().is_err());
    freezer.bereave();
    client.ping();
    client.send_data(CHANNEL, b"there");
    let mut buffer = [0; 64];
    let (length, relayed) = peer.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..length], b"there");
    // The socket was lent: it is read another way from now on.
    peer.send_to(b"back", relayed).expect("sent");
    assert_eq!(client.receive_data(CHANNEL), b"back");
    // The next time it goes well.
    assert_eq!(give_away(&freezer), 1);
    freezer.hold().expect("all are there");
    assert_eq!(freezer.release().ok(), Some(0));
    shards.stop();
}

#[test]
fn shards_that_are_held_never_go_on_by_themselves() {
    let start = || {
        start(&Options {
            shards: 2,
            ..Options::default()
        })
    };
    let (held, clock) = (start(), start());
    let freezers = [held.freezer(), clock.freezer()];
    freezers
        .iter()
        .for_each(|all| assert_eq!(give_away(all), 0));
    freezers[0].hold().expect("all are there");
    // The others were frozen later, and go on by themselves: what waits for them is answered then.
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    client.set_read_timeout(Some(LIMIT)).expect("a timeout");
    client.send_to(&BINDING, clock.v4()).expect("sent");
    client.recv(&mut [0; 128]).expect("they go on");
    assert!(freezers[1].release().is_err());
    assert_eq!(freezers[0].release().ok(), Some(0));
    held.stop();
    clock.stop();
}
