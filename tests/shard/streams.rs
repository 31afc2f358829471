//! TCP clients.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use turnstone::shard::StreamLimits;
use turnstone::stun::Method;
use turnstone::turn::{
    AllocationEnd, ConnectionEnd, Counter, Direction, Eviction, Family, Reason, Source, Transport,
};

use crate::client::{Client, Link};
use crate::conversation::relay_in_pieces;
use crate::harness::{NEVER, Options, PATIENCE, Shards, peer, start, uninterrupted, wait_until};

fn limited(change: impl FnOnce(&mut StreamLimits)) -> Shards {
    let mut options = Options::default();
    change(&mut options.streams);
    start(&options)
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let end = uninterrupted(|| stream.read(&mut [0; 64]));
    end.as_ref().is_ok_and(|length| *length == 0)
        || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn channel_data_travels_both_ways_in_any_pieces() {
    let shards = start(&Options::default());
    for server in [shards.v4(), shards.v6()] {
        let mut client = Client::tcp(server);
        relay_in_pieces(&mut client, server);
    }
    shards.stop();
}

#[test]
fn the_largest_frame_passes() {
    let shards = start(&Options::default());
    let mut client = Client::tcp(shards.v4());
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let largest: Vec<u8> = (0..65_507_u32).map(|i| i.to_le_bytes()[0]).collect();
    client.send_data(0x4000, &largest);
    let mut buffer = vec![0; 70_000];
    assert_eq!(peer.recv(&mut buffer).expect("a datagram"), largest.len());
    peer.send_to(&largest, relayed).expect("sent");
    assert!(client.receive_data(0x4000) == largest);
    // A payload that no datagram can carry.
    client.send_data(0x4000, &[0; 65_535]);
    shards.wait_for(Counter::Dropped(Reason::TooLarge), 1);
    shards.stop();
}

#[test]
fn a_garbled_stream_is_closed_and_its_neighbour_is_not() {
    let shards = start(&Options::default());
    let mut good = Client::tcp(shards.v4());
    good.ping();
    let mut bad = Client::tcp(shards.v4());
    bad.ping();
    // TLS on the wrong port.
    bad.send(&[0x16, 3, 1, 2, 0, 1, 0, 1]);
    assert!(is_closed(bad.stream()));
    good.ping();
    let garbled = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Garbled);
    shards.wait_for(garbled, 1);
    shards.wait_for(Counter::Connections(Transport::Tcp), 1);
    shards.stop();
}

/// Requirement S18: half a message of a stranger costs little memory.
#[test]
fn a_long_message_is_for_clients_with_an_allocation() {
    let shards = start(&Options::default());
    let head = [0x40, 0, 0xFF, 0xFC];
    let mut stranger = Client::tcp(shards.v4());
    stranger.ping();
    stranger.send(&[&head[..], &[0; 4000]].concat());
    let mut client = Client::tcp(shards.v4());
    client.allocate();
    client.send(&[&head[..], &[0; 60_000]].concat());
    stranger.send(&[0; 200]);
    assert!(is_closed(stranger.stream()));
    client.send(&[0; 65_532 - 60_000]);
    client.ping();
    shards.wait_for(
        Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Garbled),
        1,
    );
    shards.stop();
}

#[test]
fn the_answer_before_the_garble_is_sent() {
    let shards = start(&Options::default());
    let mut client = Client::tcp(shards.v4());
    let mut bytes = client.build(Method::BINDING, |_| {});
    bytes.extend([0xFF; 8]);
    client.send(&bytes);
    assert!(client.try_receive().is_some());
    assert!(is_closed(client.stream()));
    shards.stop();
}

#[test]
fn the_allocation_ends_with_its_connection() {
    let shards = start(&Options::default());
    let ends: [fn(&mut Client); 2] = [
        |client| client.stream().shutdown(Shutdown::Write).expect("open"),
        |client| {
            let linger = socket2::SockRef::from(&*client.stream()).set_linger(Some(Duration::ZERO));
            linger.expect("an option");
            let gone = TcpStream::connect(client.stream().peer_addr().expect("an address"))
                .expect("a listener");
            client.link = Link::Tcp(gone);
        },
    ];
    for (i, end) in (1..).zip(ends) {
        let mut client = Client::tcp(shards.v4());
        client.allocate();
        shards.wait_for(Counter::Allocations(Transport::Tcp, Family::V4), 1);
        end(&mut client);
        shards.wait_for(Counter::AllocationsEnded(AllocationEnd::ClientGone), i);
        shards.wait_for(Counter::Allocations(Transport::Tcp, Family::V4), 0);
    }
    shards.wait_for(
        Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Closed),
        2,
    );
    shards.stop();
}

#[test]
fn silent_and_idle_connections_are_closed_unless_an_allocation_lives() {
    let shards = limited(|limits| (limits.silent_after, limits.idle_after) = (NEVER, NEVER));
    let mut half = Client::tcp(shards.v4());
    half.ping();
    half.send(&[0x40]);
    let mut idle = Client::tcp(shards.v4());
    idle.ping();
    let mut allocated = Client::tcp(shards.v4());
    allocated.allocate();
    // Nobody has anything left to do in time.
    shards.limit(|limits| {
        limits.silent_after = Duration::from_millis(300);
        limits.idle_after = Duration::from_millis(600);
    });
    let begin = Instant::now();
    assert!(is_closed(Client::tcp(shards.v4()).stream()));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    half.send(&[0]);
    assert!(is_closed(half.stream()));
    allocated.ping();
    let begin = Instant::now();
    idle.ping();
    assert!(is_closed(idle.stream()));
    assert!(begin.elapsed() >= Duration::from_millis(600));
    sleep(Duration::from_secs(1));
    allocated.ping();
    shards.wait_for(
        Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Silent),
        3,
    );
    shards.stop();
}

/// Whether the server closes a connection on which `piece` comes again and again.
pub(crate) fn is_closed_under(client: &mut Client, piece: &[u8]) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if client.stream().write_all(piece).is_err() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn a_byte_at_a_time_does_not_keep_a_connection_open() {
    let shards = limited(|limits| {
        limits.silent_after = Duration::from_millis(300);
        limits.idle_after = NEVER;
    });
    let mut client = Client::tcp(shards.v4());
    // More follows than ever comes, and no more than a stranger may say.
    client.send(&[0x40, 0, 0x0F, 0]);
    assert!(is_closed_under(&mut client, &[0]));
    shards.stop();
}

#[test]
fn junk_that_parses_does_not_keep_a_connection_open() {
    let shards = limited(|limits| {
        limits.silent_after = Duration::from_millis(300);
        limits.idle_after = NEVER;
    });
    let mut client = Client::tcp(shards.v4());
    assert!(is_closed_under(&mut client, &[0x40, 0, 0, 0]));
    shards.stop();
}

#[test]
fn connections_beyond_a_limit_are_refused() {
    let shards = limited(|limits| limits.connections_per_source = 2);
    let mut kept: Vec<Client> = (0..2).map(|_| Client::tcp(shards.v4())).collect();
    kept.iter_mut().for_each(|client| {
        client.ping();
    });
    let mut refused = Client::tcp(shards.v4());
    assert!(is_closed(refused.stream()));
    shards.wait_for(
        Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Refused),
        1,
    );
    drop(kept.pop());
    shards.wait_for(Counter::Connections(Transport::Tcp), 1);
    Client::tcp(shards.v4()).ping();
    let stats = shards.stop().remove(0);
    assert_eq!(stats.get(Counter::ConnectionsAccepted(Transport::Tcp)), 4);
    assert_eq!(stats.get(Counter::Connections(Transport::Tcp)), 0);
}

/// Requirement S15: wherever the kernel puts the connections of a source, it has as many as it may have.
#[test]
fn the_connections_of_a_source_are_counted_by_all_shards_together() {
    const MOST: usize = 8;
    let mut options = Options {
        shards: 4,
        ..Options::default()
    };
    options.streams.connections_per_source = MOST;
    let shards = start(&options);
    for round in 1..=3 {
        let mut kept: Vec<Client> = (0..MOST).map(|_| Client::tcp(shards.v4())).collect();
        kept.iter_mut().for_each(|client| {
            client.ping();
        });
        assert!(is_closed(Client::tcp(shards.v4()).stream()));
        let elsewhere = shards.addresses[1];
        Client::tcp(elsewhere).ping();
        drop(kept);
        let closed = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Closed);
        shards.wait_for(closed, round * (MOST as u64 + 1));
    }
    shards.stop();
}

/// Floods a client that does not read; then it reads all.
#[test]
fn a_slow_reader_loses_old_media_and_no_answer() {
    let shards = limited(|limits| limits.media_age = NEVER);
    let mut client = Client::tcp(shards.v4());
    flood(&mut client, &shards);
    let evicted = shards.get(Counter::BacklogEvicted(Eviction::Size));
    assert!(evicted > 1000, "{evicted} evicted");
    let media = read_flood(&mut client, &shards);
    assert!(media.is_sorted(), "what is left is in order");
    assert!(
        media.last().is_some_and(|last| *last > FLOOD - 100),
        "the newest media is kept"
    );
    assert_eq!(shards.get(Counter::BacklogEvicted(Eviction::Age)), 0);
    shards.stop();
}

/// What a client did not read in time is dropped before it would be sent; what it was answered is not.
#[test]
fn old_media_is_dropped_by_age() {
    let shards = limited(|limits| {
        limits.media_age = Duration::from_millis(100);
        limits.backlog_bytes = 64 << 20;
    });
    let mut client = Client::tcp(shards.v4());
    flood(&mut client, &shards);
    sleep(Duration::from_millis(300));
    let media = read_flood(&mut client, &shards);
    let evicted = shards.get(Counter::BacklogEvicted(Eviction::Age));
    assert!(evicted > 1000, "{evicted} evicted");
    assert_eq!(shards.get(Counter::BacklogEvicted(Eviction::Size)), 0);
    assert!(media.is_sorted(), "what is left is in order");
    assert!(media.last().is_some_and(|last| *last < FLOOD - 1000));
    // Twice the 64 KiB that the client's kernel takes, and little on the way.
    assert!(media.len() < 210, "{} were beyond recall", media.len());
    client.ping();
    shards.stop();
}

/// Packets of a flood.
pub(crate) const FLOOD: u32 = 4000;
/// Packets on the way to the shard at most: the smallest buffer of a relay socket holds more.
const WINDOW: u32 = 150;
/// Answers behind it.
const ANSWERS: usize = 5;

/// Has a peer send numbered media to `client`, which does not read, and the client ask behind it.
pub(crate) fn flood(client: &mut Client, shards: &Shards) {
    let buffer = socket2::SockRef::from(&*client.stream()).set_recv_buffer_size(64 * 1024);
    buffer.expect("an option");
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let received = || shards.get(Counter::ReceivedPackets(Source::Peer));
    let mut payload = vec![7; 1000];
    for i in 0..FLOOD {
        let tell = || format!("{} of {i} arrived", received());
        wait_until(tell, || received() + u64::from(WINDOW) > u64::from(i));
        payload[..4].copy_from_slice(&i.to_be_bytes());
        peer.send_to(&payload, relayed).expect("sent");
    }
    shards.wait_for(Counter::ReceivedPackets(Source::Peer), FLOOD.into());
    for _ in 0..ANSWERS {
        let request = client.build(Method::BINDING, |_| {});
        client.send(&request);
    }
}

/// Reads all that is left of a flood: the numbers of the media, and every answer.
pub(crate) fn read_flood(client: &mut Client, shards: &Shards) -> Vec<u32> {
    let (mut answers, mut media) = (0, Vec::new());
    let number = |message: &[u8]| {
        assert_eq!((message[0], message.len()), (0x40, 1004));
        u32::from_be_bytes(message[4..8].try_into().expect("four bytes"))
    };
    // No answer is lost, and all media is before them.
    while answers < ANSWERS {
        let message = client.receive();
        if message[0] == 0x40 {
            media.push(number(&message));
        } else {
            answers += 1;
        }
    }
    let left = || {
        let evicted = Eviction::ALL.iter();
        let evicted = evicted.map(|reason| shards.get(Counter::BacklogEvicted(*reason)));
        shards.get(Counter::RelayedPackets(Direction::ToClient)) - evicted.sum::<u64>()
    };
    let tell = || format!("{} of {} were left", media.len(), left());
    wait_until(tell, || left() == media.len() as u64);
    media
}

#[test]
fn a_client_that_never_reads_its_answers_is_closed() {
    let shards = limited(|limits| limits.backlog_bytes = 32 * 1024);
    let mut client = Client::tcp(shards.v4());
    let buffer = socket2::SockRef::from(&*client.stream()).set_recv_buffer_size(64 * 1024);
    buffer.expect("an option");
    let request = client.build(Method::BINDING, |_| {});
    let requests = request.repeat(100);
    for _ in 0..20_000 {
        if client.stream().write_all(&requests).is_err() {
            break;
        }
    }
    shards.wait_for(
        Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Backlog),
        1,
    );
    shards.stop();
}

#[test]
fn a_stop_closes_connections() {
    let shards = start(&Options::default());
    let mut client = Client::tcp(shards.v4());
    client.allocate();
    let stats = shards.stop().remove(0);
    assert!(is_closed(client.stream()));
    let shutdown = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Shutdown);
    assert_eq!(stats.get(shutdown), 1);
    assert_eq!(stats.get(Counter::Connections(Transport::Tcp)), 0);
}
