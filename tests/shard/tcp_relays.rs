//! TCP allocations (RFC 6062).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{
    Bandwidth, ConnectionEnd, Counter, Direction, PeerEnd, PeerOrigin, Transport,
};

use crate::client::{Client, connection_id, xor_address};
use crate::harness::{Options, start, wait_until};
use crate::tcp_scene::{
    LAST_WORDS, Scene, at, code, ended, hears, is_closed, noise, patient, read_all,
};

#[test]
fn a_client_connects_to_a_peer_and_both_are_heard() {
    for v6 in [false, true] {
        let mut scene = Scene::new(v6);
        let (mut client, mut peer) = scene.joined();
        for round in 0..3_u8 {
            client.write_all(&[round; 1000]).expect("sent");
            hears(&mut peer, &[round; 1000]);
            peer.write_all(&[round; 2000]).expect("sent");
            hears(&mut client, &[round; 2000]);
        }
        let shards = scene.shards;
        let relayed = |direction| Counter::RelayedBytes(direction);
        shards.wait_for(relayed(Direction::ToPeer), 3000);
        shards.wait_for(relayed(Direction::ToClient), 6000);
        shards.wait_for(Counter::PeerConnections, 1);
        drop(client);
        assert!(is_closed(&mut peer));
        drop(peer);
        shards.wait_for(Counter::PeerConnections, 0);
        shards.wait_for(ended(PeerEnd::Closed), 1);
        shards.wait_for(Counter::PeerConnectionsOpened(PeerOrigin::Connect), 1);
        let closed = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::PeerGone);
        shards.wait_for(closed, 1);
        let sent = Counter::ConnectionBytes(Transport::Tcp);
        assert!(shards.get(sent) > 6000);
        shards.stop();
    }
}

/// RFC 6062 §5.3, §5.4: what the peer said before the bind is kept, and what the client says right
/// behind its request is data.
#[test]
fn what_is_said_before_the_bind_is_kept() {
    for v6 in [false, true] {
        let mut scene = Scene::new(v6);
        let (id, mut peer) = scene.arrive();
        let early = noise(100_000);
        let sent = early.clone();
        let saying = thread::spawn(move || {
            peer.write_all(&sent).expect("sent");
            peer
        });
        thread::sleep(Duration::from_millis(50));
        let pipelined = noise(30_000);
        let bound = scene.data_connection().bind_connection(id, &pipelined);
        let (mut client, mut heard) = bound;
        let rest = early.len() - heard.len();
        let mut more = vec![0; rest];
        client.read_exact(&mut more).expect("all of it");
        heard.extend(more);
        assert!(heard == early);
        let mut peer = saying.join().expect("sent");
        hears(&mut peer, &pipelined);
        client.write_all(b"and on").expect("sent");
        hears(&mut peer, b"and on");
        scene.shards.stop();
    }
}

#[test]
fn the_last_words_of_a_peer_that_closes_at_once_are_heard() {
    for bound_first in [true, false] {
        let mut scene = Scene::new(false);
        let (id, mut peer) = scene.connect();
        let last = noise(LAST_WORDS);
        let say = |data: Client| data.bind_connection(id, b"");
        let sent = last.clone();
        let (mut client, mut heard) = if bound_first {
            let bound = say(scene.data_connection());
            peer.write_all(&sent).expect("sent");
            drop(peer);
            bound
        } else {
            // As much as the kernel takes, until somebody reads.
            let saying = thread::spawn(move || peer.write_all(&sent).expect("sent"));
            thread::sleep(Duration::from_millis(50));
            let bound = say(scene.data_connection());
            saying.join().expect("sent");
            bound
        };
        heard.extend(read_all(&mut client));
        assert!(heard == last);
        drop(client);
        scene.shards.wait_for(ended(PeerEnd::Closed), 1);
        scene.shards.stop();
    }
}

#[test]
fn the_last_words_of_a_client_that_closes_at_once_are_heard() {
    let mut scene = Scene::new(true);
    let (mut client, mut peer) = scene.joined();
    let last = noise(LAST_WORDS);
    client.write_all(&last).expect("sent");
    drop(client);
    assert!(read_all(&mut peer) == last);
    drop(peer);
    scene.shards.wait_for(ended(PeerEnd::Closed), 1);

    // The same with everything in one go behind the request.
    let (id, mut peer) = scene.connect();
    let (client, _) = scene.data_connection().bind_connection(id, &last);
    drop(client);
    assert!(read_all(&mut peer) == last);
    scene.shards.stop();
}

#[test]
fn half_of_a_connection_can_end_and_the_other_go_on() {
    for client_first in [true, false] {
        let mut scene = Scene::new(false);
        let (client, peer) = scene.joined();
        let (mut first, mut second) = if client_first {
            (client, peer)
        } else {
            (peer, client)
        };
        first.write_all(b"that is all").expect("sent");
        first.shutdown(Shutdown::Write).expect("open");
        assert_eq!(read_all(&mut second), b"that is all");
        let answer = noise(LAST_WORDS);
        let sent = answer.clone();
        let saying = thread::spawn(move || second.write_all(&sent).expect("sent"));
        assert!(read_all(&mut first) == answer);
        saying.join().expect("sent");
        scene.shards.wait_for(ended(PeerEnd::Closed), 1);
        scene.shards.stop();
    }
}

/// A half that is left open and silent is closed after a while.
#[test]
fn a_half_open_connection_is_not_kept_for_ever() {
    let mut scene = Scene::new(false);
    let (client, mut peer) = scene.joined();
    let soon = Duration::from_millis(200);
    scene.shards.limit(|limits| limits.idle_after = soon);
    thread::sleep(Duration::from_millis(400));
    peer.write_all(b"still there").expect("sent");
    let mut client = client;
    hears(&mut client, b"still there");
    client.shutdown(Shutdown::Write).expect("open");
    assert!(is_closed(&mut peer));
    scene.shards.wait_for(ended(PeerEnd::Idle), 1);
    assert!(is_closed(&mut client));
    scene.shards.stop();
}

#[test]
fn a_reset_of_either_end_closes_the_other() {
    for client_breaks in [true, false] {
        let mut scene = Scene::new(false);
        let (client, peer) = scene.joined();
        let (breaking, mut other) = if client_breaks {
            (client, peer)
        } else {
            (peer, client)
        };
        let breaking = socket2::Socket::from(breaking);
        breaking.set_linger(Some(Duration::ZERO)).expect("open");
        drop(breaking);
        assert!(is_closed(&mut other));
        drop(other);
        scene.shards.wait_for(ended(PeerEnd::Reset), 1);
        scene.shards.stop();
    }
}

/// Requirement S18: who does not read slows who writes to it, and nobody else.
#[test]
fn a_slow_reader_slows_its_own_sender_alone() {
    for client_is_slow in [true, false] {
        let mut scene = Scene::new(false);
        let (client, peer) = scene.joined();
        let (mut slow, mut sender) = if client_is_slow {
            (client, peer)
        } else {
            (peer, client)
        };
        let piece = noise(1 << 16);
        sender.set_nonblocking(true).expect("open");
        let mut sent = 0;
        let mut stalled = 0;
        while stalled < 20 {
            let place = sent % piece.len();
            match sender.write(&piece[place..]) {
                Ok(length) => (sent, stalled) = (sent + length, 0),
                Err(_) => {
                    stalled += 1;
                    thread::sleep(Duration::from_millis(10));
                }
            }
            assert!(sent < 64 << 20, "nothing slows the sender");
        }
        let (id, mut far) = scene.arrive();
        let (mut other, _) = scene.data_connection().bind_connection(id, b"");
        other.write_all(b"quick").expect("sent");
        hears(&mut far, b"quick");
        sender.shutdown(Shutdown::Write).expect("open");
        let heard = read_all(&mut slow);
        assert_eq!(heard.len(), sent);
        assert!(
            heard
                .chunks(piece.len())
                .all(|chunk| piece.starts_with(chunk))
        );
        scene.shards.stop();
    }
}

/// RFC 6062 §5.2.
#[test]
fn a_peer_that_refuses_is_a_failed_connect() {
    let mut scene = Scene::new(false);
    // Where no other test listens.
    let closed = at(&TcpListener::bind("127.0.0.8:0").expect("a port"));
    let response = scene.control.request(Method::CONNECT, |request| {
        request.xor_address(AttributeType::XOR_PEER_ADDRESS, closed);
    });
    assert_eq!(code(&response), Some(447));
    let _joined = scene.joined();
    let again = at(&scene.peer);
    let response = scene.control.request(Method::CONNECT, |request| {
        request.xor_address(AttributeType::XOR_PEER_ADDRESS, again);
    });
    assert_eq!(code(&response), Some(446));
    scene.shards.stop();
}

/// RFC 6062 §5.3.
#[test]
fn a_peer_without_permission_is_closed_at_once_and_not_told_of() {
    let mut scene = Scene::new(false);
    let mut peer = patient(TcpStream::connect(scene.relayed).expect("a listener"));
    assert!(is_closed(&mut peer));
    scene.shards.wait_for(ended(PeerEnd::Refused), 1);
    assert_eq!(scene.control.ping(), scene.control.local());
    scene.shards.stop();
}

/// Relay to relay: two clients of the server meet at their relayed addresses.
#[test]
fn two_relays_of_the_server_connect_to_each_other() {
    let mut scene = Scene::new(false);
    let mut other = Client::tcp(scene.server());
    let its_relay = other.allocate_tcp();
    other.permit(scene.relayed);
    let id = scene.control.connect(its_relay);
    let attempt = other.receive();
    let told = xor_address(&attempt, AttributeType::XOR_PEER_ADDRESS);
    assert_eq!(told, scene.relayed);
    let (mut one, _) = scene.data_connection().bind_connection(id, b"");
    let theirs = connection_id(&attempt);
    let (mut two, _) = scene.data_connection().bind_connection(theirs, b"hello");
    hears(&mut one, b"hello");
    one.write_all(b"and you").expect("sent");
    hears(&mut two, b"and you");
    scene.shards.stop();
}

/// RFC 6062 §5.5: joined, waiting and at every shard.
#[test]
fn the_end_of_an_allocation_closes_its_connections() {
    for by_refresh in [true, false] {
        let mut scene = Scene::new(false);
        let (mut client, mut peer) = scene.joined();
        let (_, mut waiting) = scene.arrive();
        if by_refresh {
            scene.control.refresh(0);
        } else {
            scene.control = scene.data_connection();
        }
        for stream in [&mut client, &mut peer, &mut waiting] {
            assert!(is_closed(stream));
        }
        scene.shards.wait_for(ended(PeerEnd::AllocationGone), 2);
        scene.shards.wait_for(Counter::PeerConnections, 0);
        scene.shards.wait_for(Counter::RelayPorts, 0);
        let refused = || TcpStream::connect(scene.relayed).is_err();
        wait_until(|| "it still listens".to_owned(), refused);
        scene.shards.stop();
    }
}

#[test]
fn a_stopping_shard_closes_what_is_joined() {
    let mut scene = Scene::new(false);
    let (mut client, mut peer) = scene.joined();
    let stats = scene.shards.stop();
    assert_eq!(stats[0].get(ended(PeerEnd::Shutdown)), 1);
    assert_eq!(stats[0].get(Counter::PeerConnections), 0);
    assert!(is_closed(&mut client) && is_closed(&mut peer));
}

/// What is beyond the limit waits with its sender; what came through is whole.
#[test]
fn a_connection_is_held_to_the_limit_on_bandwidth() {
    let options = Options {
        bandwidth: Bandwidth {
            per_allocation: NonZeroU64::new(8),
            ..Bandwidth::default()
        },
        ..Options::default()
    };
    let mut scene = Scene::over(start(&options), false);
    let (mut client, mut peer) = scene.joined();
    let all = noise(32 << 20);
    peer.set_nonblocking(true).expect("open");
    client.set_nonblocking(true).expect("open");
    let (mut sent, mut heard) = (0, Vec::new());
    let mut buffer = vec![0; 1 << 16];
    let mut stalled = 0;
    while stalled < 50 || heard.is_empty() {
        let written = peer.write(&all[sent..]).unwrap_or(0);
        let read = client.read(&mut buffer).unwrap_or(0);
        sent += written;
        heard.extend_from_slice(&buffer[..read]);
        stalled = if written + read == 0 { stalled + 1 } else { 0 };
        thread::sleep(Duration::from_millis(5));
    }
    assert!(sent < all.len(), "nothing holds it");
    assert!(all.starts_with(&heard));
    // The other way has had nothing of its limit yet.
    client.write_all(b"but this").expect("sent");
    peer.set_nonblocking(false).expect("open");
    hears(&mut peer, b"but this");
    scene.shards.stop();
}
