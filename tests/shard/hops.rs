//! Packets between the allocations of two clients, in one shard and from shard to shard.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use turnstone::stun::{AttributeType, ChannelData, Message, Method};
use turnstone::transport::DtlsIdentity;
use turnstone::turn::{Counter, Direction, HopWay, Reason, Source};

use crate::certificates;
use crate::client::{Client, Link, xor_address};
use crate::dtls_link::{Version, certificate};
use crate::harness::{Options, PATIENCE, Shards, start, wait_until};
use crate::mobility::{come, depart};

const CHANNEL: u16 = 0x4000;

fn shards(count: usize) -> Shards {
    start(&Options {
        shards: count,
        ..Options::default()
    })
}

/// Gives both an allocation, and a channel to the other's.
fn join(a: &mut Client, b: &mut Client) {
    let relays = [a.allocate(), b.allocate()];
    a.bind(CHANNEL, relays[1]);
    b.bind(CHANNEL, relays[0]);
}

fn pair(shards: &Shards) -> (Client, Client) {
    let (mut a, mut b) = (Client::udp(shards.v4()), Client::udp(shards.v4()));
    join(&mut a, &mut b);
    (a, b)
}

fn hops(shards: &Shards) -> u64 {
    let ways = HopWay::ALL
        .iter()
        .map(|way| shards.get(Counter::RelayHops(*way)));
    ways.sum()
}

/// Waits until `count` packets have taken the short way.
fn wait_for_hops(shards: &Shards, count: u64) {
    let tell = || format!("{} hops, not {count}", hops(shards));
    wait_until(tell, || hops(shards) == count);
}

/// Everybody sends a burst, then everybody receives one: `total` packets in order, by the short way alone.
fn stream(count: usize, total: u32) -> [u64; 2] {
    const BURST: u32 = 20;
    let shards = shards(count);
    let mut pairs: Vec<_> = (0..7).map(|_| pair(&shards)).collect();
    pairs.push(match count {
        1 => pair(&shards),
        _ => pair_towards_shard_one(&shards),
    });
    let before = hops(&shards);
    let rounds = total / BURST / 16;
    for round in 0..rounds {
        for (a, b) in &mut pairs {
            for i in 0..BURST {
                let number = (round * BURST + i).to_be_bytes();
                a.send_data(CHANNEL, &number);
                b.send_data(CHANNEL, &number);
            }
        }
        for (a, b) in &mut pairs {
            for i in 0..BURST {
                let number = (round * BURST + i).to_be_bytes();
                assert_eq!(a.receive_data(CHANNEL), number);
                assert_eq!(b.receive_data(CHANNEL), number);
            }
        }
    }
    let sent = u64::from(rounds * BURST * 16);
    wait_for_hops(&shards, before + sent);
    let ways = [HopWay::Shard, HopWay::OtherShard].map(|way| shards.get(Counter::RelayHops(way)));
    let relayed: u64 = shards
        .stop()
        .iter()
        .map(|stats| stats.get(Counter::RelayedPackets(Direction::ToClient)))
        .sum();
    assert_eq!(relayed, before + sent);
    ways
}

#[test]
fn order_is_kept_in_one_shard() {
    assert_eq!(stream(1, 20_000)[1], 0);
}

#[test]
fn order_is_kept_over_a_hundred_thousand_packets_between_shards() {
    let [same, other] = stream(3, 100_000);
    assert!(same + other >= 99_000 && other > 0, "{same} {other}");
}

/// The kinds of clients there are.
fn everybody(shards: &Shards, tls: &Arc<rustls::ClientConfig>) -> Vec<Client> {
    vec![
        Client::udp(shards.v4()),
        Client::tcp(shards.v4()),
        Client::dtls(shards.v4(), Version::Dtls12),
        Client::tls(shards.tls_addresses[0], tls),
    ]
}

fn data_of(message: &[u8], peer: SocketAddr) -> Vec<u8> {
    assert_eq!(xor_address(message, AttributeType::XOR_PEER_ADDRESS), peer);
    let message = Message::parse(message).expect("a message");
    assert_eq!(message.method(), Method::DATA);
    message
        .attribute(AttributeType::DATA)
        .expect("data")
        .value
        .to_vec()
}

fn send_indication(to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    turnstone::stun::MessageBuilder::new(
        &mut bytes,
        turnstone::stun::Class::Indication,
        Method::SEND,
        turnstone::stun::TransactionId([5; 12]),
    )
    .attribute(AttributeType::DATA, data)
    .xor_address(AttributeType::XOR_PEER_ADDRESS, to);
    bytes
}

/// From every kind of client to every kind, by channel and by indication on either side, in bursts of every
/// length of padding.
fn exchange(a: &mut Client, b: &mut Client, [near, far]: [SocketAddr; 2]) -> u64 {
    let lengths = [0, 1, 2, 3, 4, 160, 1199, 1200];
    let payload = |i: usize| vec![u8::try_from(i).expect("a small number") + 1; lengths[i]];
    for by_channel in [true, false] {
        for i in 0..lengths.len() {
            match by_channel {
                true => a.send_data(CHANNEL, &payload(i)),
                // The data comes first, and so there is no room before it for an indication's head.
                false => a.send(&send_indication(far, &payload(i))),
            }
        }
        for i in 0..lengths.len() {
            assert_eq!(data_of(&b.receive(), near), payload(i));
        }
        for i in 0..lengths.len() {
            b.send(&send_indication(near, &payload(i)));
        }
        for i in 0..lengths.len() {
            let message = a.receive();
            let data = ChannelData::parse(&message).expect("ChannelData");
            assert_eq!(data.payload, payload(i));
        }
    }
    4 * lengths.len() as u64
}

#[test]
fn every_kind_of_client_reaches_every_kind() {
    for count in [1, 3] {
        let (server, config) = certificates::pair();
        let (certificate, key) = certificate();
        let identity = DtlsIdentity::new([&certificate[..]], &key).expect("a good key");
        let shards = start(&Options {
            shards: count,
            tls: Some(server),
            dtls: Some(Some(Arc::new(identity))),
            ..Options::default()
        });
        let mut sent = 0;
        for first in 0..4 {
            for second in 0..4 {
                let mut a = everybody(&shards, &config).swap_remove(first);
                let mut b = everybody(&shards, &config).swap_remove(second);
                let relays = [a.allocate(), b.allocate()];
                a.bind(CHANNEL, relays[1]);
                b.permit(relays[0]);
                sent += exchange(&mut a, &mut b, relays);
            }
        }
        wait_for_hops(&shards, sent);
        shards.stop();
    }
}

/// A pair of which the second client is served by shard 1 and the first by another.
fn pair_towards_shard_one(shards: &Shards) -> (Client, Client) {
    let other = Counter::RelayHops(HopWay::OtherShard);
    loop {
        let (mut a, mut b) = pair(shards);
        let before = shards.published(1).stats.get(other);
        let sum = hops(shards);
        a.send_data(CHANNEL, b"where");
        assert_eq!(b.receive_data(CHANNEL), b"where");
        wait_for_hops(shards, sum + 1);
        if shards.published(1).stats.get(other) > before {
            return (a, b);
        }
    }
}

/// A shard that does not keep up loses packets, and each is counted.
#[test]
fn a_full_ring_is_a_counted_drop() {
    let gate = Arc::new(Mutex::new(()));
    let shards = start(&Options {
        shards: 2,
        gate: Some(Arc::clone(&gate)),
        ..Options::default()
    });
    let (mut a, mut b) = pair_towards_shard_one(&shards);
    let full = Counter::Dropped(Reason::ShardFull);
    let before = hops(&shards);
    let held = gate.lock().expect("no panic");
    b.send_data(CHANNEL, b"shard 1 has something to publish");
    a.receive_data(CHANNEL);
    let mut sent = 0;
    while shards.get(full) == 0 {
        for _ in 0..50 {
            a.send_data(CHANNEL, &[7; 1000]);
            sent += 1;
        }
        // The other shard has heard all of it.
        a.ping();
        std::thread::sleep(Duration::from_millis(5));
        assert!(sent < 20_000, "the ring is never full");
    }
    drop(held);
    // What was not dropped arrives, and the way is free again.
    b.send_data(CHANNEL, b"still here");
    a.receive_data(CHANNEL);
    let counted = || hops(&shards) - before + shards.get(full);
    let tell = || format!("{} of {} are counted", counted(), sent + 2);
    wait_until(tell, || counted() == sent + 2);
    if let Link::Udp(socket) = &b.link {
        socket.set_nonblocking(true).expect("an option");
        while socket.recv(&mut [0; 2048]).is_ok() {}
        socket.set_nonblocking(false).expect("an option");
    }
    a.send_data(CHANNEL, b"again");
    while b.receive_data(CHANNEL) != b"again" {}
    shards.stop();
}

/// Packets on the way to who hears them at most: every buffer holds more.
const WINDOW: u32 = 100;

/// Somebody who talks, and somebody who hears it.
#[derive(Default)]
struct Talk {
    said: AtomicU32,
    /// Packets that need not be waited for any more.
    heard: AtomicU32,
    is_over: AtomicBool,
}

impl Talk {
    /// Numbers each packet until told to stop; how many.
    fn go_on(&self, mut from: Client) -> u32 {
        let mut number = 0_u32;
        while !self.is_over.load(Ordering::Relaxed) {
            if number < self.heard.load(Ordering::Relaxed) + WINDOW {
                from.send_data(CHANNEL, &number.to_be_bytes());
                number += 1;
                self.said.store(number, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_micros(700));
        }
        from.send_data(CHANNEL, &number.to_be_bytes());
        number + 1
    }

    fn hear(&self, packets: usize) {
        let packets = u32::try_from(packets).expect("a small number");
        self.heard.fetch_add(packets, Ordering::Relaxed);
    }
}

/// Says that it is over, also when a test fails.
struct Over<'a>(&'a Talk);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// The numbers that come to a client within `wait` of each other.
fn numbers(client: &Client, wait: Duration) -> Vec<u32> {
    let Link::Udp(socket) = &client.link else {
        panic!("not UDP");
    };
    socket.set_read_timeout(Some(wait)).expect("a timeout");
    let mut heard = Vec::new();
    let mut buffer = [0; 64];
    while let Ok(length) = socket.recv(&mut buffer) {
        let data = ChannelData::parse(&buffer[..length]).expect("ChannelData");
        heard.push(u32::from_be_bytes(
            data.payload.try_into().expect("a number"),
        ));
    }
    heard
}

/// A client that has moved on keeps its sockets, and what each of them has heard.
struct Mover<'a> {
    talk: &'a Talk,
    places: Vec<(Client, Vec<u32>)>,
}

impl Mover<'_> {
    /// Hears what has come, wherever it came; how much it is by now.
    fn listen(&mut self) -> usize {
        for (client, heard) in &mut self.places {
            let more = numbers(client, Duration::from_millis(1));
            self.talk.hear(more.len());
            heard.extend(more);
        }
        self.places.iter().map(|(_, heard)| heard.len()).sum()
    }
}

/// RFC 8016: the receiver moves from shard to shard while somebody talks to it; nothing is lost or doubled.
#[test]
fn nothing_is_lost_when_the_receiver_moves_under_a_stream() {
    let shards = start(&Options {
        shards: 3,
        mobility: true,
        ..Options::default()
    });
    let mut talker = Client::udp(shards.v4());
    let near = talker.allocate();
    let mut client = Client::udp(shards.v4());
    let (far, mut ticket) = depart(&mut client);
    client.bind(CHANNEL, near);
    talker.bind(CHANNEL, far);
    let talk = Talk::default();
    let places = vec![(client, Vec::new())];
    let mut mover = Mover {
        talk: &talk,
        places,
    };
    let sent = std::thread::scope(|scope| {
        let over = Over(&talk);
        let talking = scope.spawn(|| talk.go_on(talker));
        for moves in 1..=20 {
            while talk.said.load(Ordering::Relaxed) < 20 * moves {
                assert!(!talking.is_finished(), "the talker has failed");
                mover.listen();
            }
            let mut next = Client::udp(shards.v4());
            ticket = come(&mut next, &ticket);
            next.send_data(CHANNEL, b"here");
            shards.wait_for(Counter::AllocationsMoved, moves.into());
            mover.places.push((next, Vec::new()));
        }
        drop(over);
        talking.join().expect("no panic")
    });
    let deadline = Instant::now() + PATIENCE;
    while mover.listen() < sent as usize {
        assert!(Instant::now() < deadline, "a packet is lost");
    }
    let each = mover.places.into_iter().map(|(_, heard)| heard);
    let each: Vec<_> = each.collect();
    assert!(each.iter().all(|heard| heard.is_sorted()), "{each:?}");
    let mut heard = each.concat();
    heard.sort_unstable();
    assert!(heard.into_iter().eq(0..sent), "one of {sent} is doubled");
    let other = shards.get(Counter::RelayHops(HopWay::OtherShard));
    assert!(other > 0);
    shards.stop();
}

/// A client that shard 1 serves, or another.
fn client_of_shard_one(shards: &Shards, is_of_it: bool) -> Client {
    let heard = || {
        let published = shards.handle(1).publish();
        published.recv_timeout(PATIENCE).expect("an answer");
        let heard = Counter::ReceivedPackets(Source::ClientUdp);
        shards.published(1).stats.get(heard)
    };
    loop {
        let mut client = Client::udp(shards.v4());
        let before = heard();
        client.ping();
        if (heard() > before) == is_of_it {
            return client;
        }
    }
}

/// RFC 8016: a packet sets out by the short way and arrives when the allocation has moved on. It is the first
/// one between the two shards, and the mail that brings its ring waits behind the one that moves the
/// allocation.
#[test]
fn a_packet_that_comes_too_late_by_the_short_way_goes_back() {
    let gate = Arc::new(Mutex::new(()));
    let shards = start(&Options {
        shards: 3,
        mobility: true,
        gate: Some(Arc::clone(&gate)),
        ..Options::default()
    });
    let mut client = client_of_shard_one(&shards, true);
    let mut talker = client_of_shard_one(&shards, false);
    let mut next = client_of_shard_one(&shards, false);
    let near = talker.allocate();
    let (far, ticket) = depart(&mut client);
    client.bind(CHANNEL, near);
    talker.bind(CHANNEL, far);
    let parked = || {
        let of = |shard| {
            let published = shards.handle(shard).publish();
            published.recv_timeout(PATIENCE).expect("an answer");
            shards.published(shard).stats.get(Counter::Parked)
        };
        of(0) + of(2)
    };
    let before = parked();
    let held = gate.lock().expect("no panic");
    let published = shards.handle(1).publish();
    come(&mut next, &ticket);
    next.send_data(CHANNEL, b"here");
    // Shard 1 is asked for the allocation, and stands still.
    wait_until(|| "nobody asks".to_owned(), || parked() > before);
    talker.send_data(CHANNEL, b"late");
    talker.ping();
    drop(held);
    assert_eq!(next.receive_data(CHANNEL), b"late");
    assert_eq!(talker.receive_data(CHANNEL), b"here");
    published.recv_timeout(PATIENCE).expect("an answer");
    shards.stop();
}

/// An allocation that ends while packets are on their way: all are counted, and nothing stops.
#[test]
fn an_allocation_may_end_under_a_stream() {
    let shards = shards(3);
    for _ in 0..6 {
        let (talker, mut client) = pair(&shards);
        let talk = Talk::default();
        std::thread::scope(|scope| {
            let _over = Over(&talk);
            scope.spawn(|| talk.go_on(talker));
            assert_eq!(client.receive_data(CHANNEL), 0_u32.to_be_bytes());
            let refresh = client.build(Method::REFRESH, |request| {
                request.u32(AttributeType::LIFETIME, 0);
            });
            client.send(&refresh);
            // The answer comes behind what was relayed before it, and nothing behind it.
            while Message::parse(&client.receive()).is_err() {
                talk.hear(1);
            }
            assert!(numbers(&client, Duration::from_millis(50)).is_empty());
            // One more at least is begun and sent, to nobody.
            let said = || talk.said.load(Ordering::Relaxed);
            let before = said();
            talk.hear(WINDOW as usize);
            let tell = || "the talker is silent".to_owned();
            wait_until(tell, || said() > before + 1);
        });
    }
    let stats = shards.stop();
    let sum = |counter| stats.iter().map(|stats| stats.get(counter)).sum::<u64>();
    let hopped = HopWay::ALL.iter().map(|way| sum(Counter::RelayHops(*way)));
    // A rule allows loopback: whoever is there next may have the rest.
    let sent = sum(Counter::RelayedPackets(Direction::ToPeer));
    assert!(hopped.sum::<u64>() < sent);
}
