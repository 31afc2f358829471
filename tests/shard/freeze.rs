//! Shards that give away what they have, and take it back or do not.

use std::net::Ipv4Addr;

use turnstone::shard::{Freezer, Give};

use crate::client::Client;
use crate::harness::{Options, peer, start};

const CHANNEL: u16 = 0x4000;

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
