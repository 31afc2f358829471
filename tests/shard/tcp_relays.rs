//! TCP allocations (RFC 6062).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use turnstone::stun::{AttributeType, Class, Message, Method};
use turnstone::turn::{ConnectionEnd, Counter, Direction, PeerEnd, PeerOrigin, Transport};

use crate::certificates::pair;
use crate::client::{Client, Link, connection_id, xor_address};
use crate::harness::{Options, Shards, start};

const PATIENCE: Duration = Duration::from_secs(10);
/// What is said last, and all at once.
const LAST_WORDS: usize = 300_000;

/// A client with a TCP allocation, and a peer that listens.
struct Scene {
    shards: Shards,
    control: Client,
    relayed: SocketAddr,
    peer: TcpListener,
}

impl Scene {
    fn new(v6: bool) -> Self {
        Self::over(start(&Options::default()), v6)
    }

    fn over(shards: Shards, v6: bool) -> Self {
        let server = if v6 { shards.v6() } else { shards.v4() };
        let mut control = Client::tcp(server);
        let relayed = control.allocate_tcp();
        let peer = TcpListener::bind((relayed.ip(), 0)).expect("a port");
        Self {
            shards,
            control,
            relayed,
            peer,
        }
    }

    fn server(&self) -> SocketAddr {
        if self.relayed.is_ipv6() {
            self.shards.v6()
        } else {
            self.shards.v4()
        }
    }

    fn data_connection(&self) -> Client {
        Client::tcp(self.server())
    }

    /// The client connects to the peer: the id and the peer's end.
    fn connect(&mut self) -> (u32, TcpStream) {
        let id = self.control.connect(at(&self.peer));
        let (stream, from) = self.peer.accept().expect("a connection");
        assert_eq!(from, self.relayed);
        (id, patient(stream))
    }

    /// The peer connects to the client's relayed address: the id and the peer's end.
    fn arrive(&mut self) -> (u32, TcpStream) {
        let peer = SocketAddr::new(self.relayed.ip(), 9);
        self.control.permit(peer);
        let stream = TcpStream::connect(self.relayed).expect("a listener");
        let attempt = self.control.receive();
        let message = Message::parse(&attempt).expect("a message");
        let kind = (message.class(), message.method());
        assert_eq!(kind, (Class::Indication, Method::CONNECTION_ATTEMPT));
        let told = xor_address(&attempt, AttributeType::XOR_PEER_ADDRESS);
        assert_eq!(told, stream.local_addr().expect("an address"));
        (connection_id(&attempt), patient(stream))
    }

    /// Two streams that are joined: the client's and the peer's.
    fn joined(&mut self) -> (TcpStream, TcpStream) {
        let (id, peer) = self.connect();
        let (client, early) = self.data_connection().bind_connection(id, b"");
        assert!(early.is_empty());
        (patient(client), peer)
    }
}

fn at(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an end");
    all
}

fn hears(stream: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    stream.read_exact(&mut heard).expect("so many bytes");
    assert!(heard == expected);
}

/// Whether the other side has closed, in peace or not.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn ended(how: PeerEnd) -> Counter {
    Counter::PeerConnectionsEnded(how)
}

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
    let mut options = Options::default();
    options.streams.idle_after = Duration::from_millis(200);
    let mut scene = Scene::over(start(&options), false);
    let (client, mut peer) = scene.joined();
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
    let closed = at(&TcpListener::bind((scene.relayed.ip(), 0)).expect("a port"));
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

fn code(response: &[u8]) -> Option<u16> {
    let message = Message::parse(response).expect("a message");
    let attribute = message.attribute(AttributeType::ERROR_CODE)?;
    Some(u16::from(attribute.value[2]) * 100 + u16::from(attribute.value[3]))
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
        assert!(
            TcpStream::connect(scene.relayed).is_err(),
            "it still listens"
        );
        scene.shards.wait_for(ended(PeerEnd::AllocationGone), 2);
        scene.shards.wait_for(Counter::PeerConnections, 0);
        scene.shards.wait_for(Counter::RelayPorts, 0);
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

/// A connection that the kernel gave to the shard of that index.
fn client_of(shards: &Shards, wanted: usize) -> Client {
    for _ in 0..200 {
        let accepted = || [0, 1].map(|shard| accepted(shards, shard));
        let before = accepted();
        let client = Client::tcp(shards.v4());
        let deadline = Instant::now() + PATIENCE;
        while accepted() == before && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if accepted()[wanted] != before[wanted] {
            return client;
        }
    }
    panic!("the kernel gives shard {wanted} nothing");
}

fn accepted(shards: &Shards, shard: usize) -> u64 {
    let counter = Counter::ConnectionsAccepted(Transport::Tcp);
    shards.published(shard).stats.get(counter)
}

/// RFC 6062 §5.4: whichever shards the two connections come to.
#[test]
fn the_data_connection_may_come_to_any_shard() {
    for (owner, binder) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let options = Options {
            shards: 2,
            ..Options::default()
        };
        let shards = start(&options);
        let mut control = client_of(&shards, owner);
        let relayed = control.allocate_tcp();
        let peer = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a port");
        let mut scene = Scene {
            shards,
            control,
            relayed,
            peer,
        };
        let last = noise(LAST_WORDS);
        for arrives in [true, false] {
            let (id, mut far) = if arrives {
                scene.arrive()
            } else {
                scene.connect()
            };
            let data = client_of(&scene.shards, binder);
            let (mut near, _) = data.bind_connection(id, b"early");
            hears(&mut far, b"early");
            far.write_all(&last).expect("sent");
            hears(&mut near, &last);
            drop(near);
            assert!(is_closed(&mut far));
        }
        // The same peer once more: the owner has learnt that the first connection is over.
        scene.shards.wait_for(ended(PeerEnd::Closed), 2);
        let (id, mut far) = scene.arrive();
        let data = client_of(&scene.shards, binder);
        let (mut near, _) = data.bind_connection(id, b"");
        scene.control.refresh(0);
        assert!(is_closed(&mut near) && is_closed(&mut far));
        scene.shards.wait_for(ended(PeerEnd::AllocationGone), 1);
        let joined_at = |shard: usize| {
            let published = scene.shards.published(shard);
            published.stats.get(ended(PeerEnd::Closed))
        };
        assert_eq!(joined_at(binder), 2, "the pipe is where the client is");
        scene.shards.stop();
    }
}

type TlsStream = Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>;

/// A scene in which data connections speak TLS, and such a connection that is joined with the peer's.
fn over_tls(early: &[u8]) -> (Scene, TlsStream, TcpStream) {
    let (server, config) = pair();
    let options = Options {
        tls: Some(server),
        ..Options::default()
    };
    let mut scene = Scene::over(start(&options), false);
    let (id, peer) = scene.connect();
    let data = Client::tls(scene.shards.tls_addresses[0], &config);
    match data.bind_link(id, early) {
        (Link::Tls(session), said) => {
            assert!(said.is_empty());
            (scene, session, peer)
        }
        _ => panic!("not TLS"),
    }
}

fn say_goodbye(session: &mut TlsStream) {
    session.conn.send_close_notify();
    session.flush().expect("sent");
}

#[test]
fn over_tls_every_byte_arrives_whichever_half_ends_first() {
    for client_first in [true, false] {
        let (scene, mut client, mut peer) = over_tls(b"early");
        hears(&mut peer, b"early");
        let (question, answer) = (noise(LAST_WORDS), noise(LAST_WORDS + 1));
        if client_first {
            client.write_all(&question).expect("sent");
            say_goodbye(&mut client);
            assert!(read_all(&mut peer) == question);
            let sent = answer.clone();
            thread::spawn(move || peer.write_all(&sent).expect("sent"));
            let mut heard = Vec::new();
            // It fails unless the server says goodbye as well.
            client.read_to_end(&mut heard).expect("close_notify");
            assert!(heard == answer);
        } else {
            let sent = answer.clone();
            let said = peer.try_clone().expect("a descriptor");
            thread::spawn(move || {
                (&said).write_all(&sent).expect("sent");
                said.shutdown(Shutdown::Write).expect("open");
            });
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).expect("close_notify");
            assert!(heard == answer);
            client.write_all(&question).expect("sent");
            say_goodbye(&mut client);
            assert!(read_all(&mut peer) == question);
        }
        scene.shards.wait_for(ended(PeerEnd::Closed), 1);
        scene.shards.stop();
    }
}

#[test]
fn over_tls_the_last_words_of_either_end_are_heard() {
    let (scene, mut client, mut peer) = over_tls(b"");
    let last = noise(LAST_WORDS);
    peer.write_all(&last).expect("sent");
    drop(peer);
    thread::sleep(Duration::from_millis(50));
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("close_notify");
    assert!(heard == last);
    scene.shards.stop();

    let (scene, mut client, mut peer) = over_tls(&last);
    client.write_all(&last).expect("sent");
    say_goodbye(&mut client);
    drop(client);
    assert!(read_all(&mut peer) == [last.clone(), last].concat());
    scene.shards.stop();
}

/// A connection that broke must not look like one that ended.
#[test]
fn over_tls_a_broken_peer_is_no_goodbye() {
    let (scene, mut client, mut peer) = over_tls(b"");
    peer.write_all(b"in the midst").expect("sent");
    let mut heard = [0; 12];
    client.read_exact(&mut heard).expect("all of it");
    let breaking = socket2::Socket::from(peer);
    breaking.set_linger(Some(Duration::ZERO)).expect("open");
    drop(breaking);
    let end = client.read(&mut heard).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::UnexpectedEof));
    drop(client);
    scene.shards.wait_for(ended(PeerEnd::Reset), 1);
    scene.shards.stop();
}
