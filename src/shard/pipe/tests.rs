//! A pipe between two connections on loopback, with a test at either end.

use std::io::{IoSlice, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::super::wire::Session;
use super::*;
use crate::net::prepare_connection;
use crate::transport::{Certificate, TlsServer, TlsSession};

const START: Instant = Instant::from_nanos(1);
const MOST: usize = 64 * 1024;
const EACH: Most = Most {
    for_near: MOST,
    for_far: MOST,
};
const IDLE: Duration = Duration::from_secs(60);

/// Two ends of one connection: the test's, and ours.
fn connection() -> (TcpStream, Wire) {
    let (theirs, ours) = sockets();
    (theirs, Wire::new(ours, Session::Plain))
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    prepare_connection(&ours).unwrap();
    theirs
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    (theirs, ours)
}

/// Both ends of a TLS session.
fn session() -> (ClientConnection, TlsSession) {
    let names = ["turn.example.org".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = "turn.example.org".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    let certificate = Certificate::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let mut server = TlsSession::new(&TlsServer::new(&[certificate]).unwrap()).unwrap();
    let mut room = vec![0; TlsSession::LEAST_ROOM];
    while !server.is_established() || !server.outgoing().is_empty() {
        let length = client.write_tls(&mut server.room(&mut room)).unwrap();
        server.receive(&mut room, length);
        let length = client.read_tls(&mut server.outgoing()).unwrap();
        client.process_new_packets().unwrap();
        server.advance(length);
    }
    (client, server)
}

/// The pipe and our ends of its connections.
struct Joint {
    near: Wire,
    far: Wire,
    pipe: Pipe,
    room: Vec<u8>,
    scratch: TlsScratch,
}

impl Joint {
    /// With the test's near and far end.
    fn new() -> (Self, TcpStream, TcpStream) {
        let (client, near) = connection();
        let (peer, far) = connection();
        let joint = Self {
            near,
            far,
            pipe: Pipe::new(START, b""),
            room: vec![0; 65_536],
            scratch: TlsScratch::default(),
        };
        (joint, client, peer)
    }

    fn pump(&mut self) -> Moved {
        let mut tools = Tools {
            room: &mut self.room,
            scratch: &mut self.scratch,
            most: EACH,
        };
        self.pipe
            .pump(START, &mut self.near, &mut self.far, &mut tools)
    }

    /// Pumps on a thread of its own until both directions have ended, or nothing has moved for a minute.
    fn run(mut self) -> std::thread::JoinHandle<Self> {
        std::thread::spawn(move || {
            let mut moved = std::time::Instant::now();
            while !self.pipe.is_done() && moved.elapsed() < Duration::from_secs(60) {
                if self.pump() == Moved::default() {
                    std::thread::sleep(Duration::from_millis(1));
                } else {
                    moved = std::time::Instant::now();
                }
            }
            self
        })
    }

    fn held(&self) -> usize {
        self.pipe.out.waiting.capacity() + self.pipe.back.waiting.capacity()
    }
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
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn bytes_travel_both_ways() {
    let (joint, mut client, mut peer) = Joint::new();
    let running = joint.run();
    let mut buffer = [0; 5];
    for _ in 0..3 {
        client.write_all(b"hello").unwrap();
        peer.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        peer.write_all(b"world").unwrap();
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"world");
    }
    drop(client);
    assert!(read_all(&mut peer).is_empty());
    drop(peer);
    let joint = running.join().unwrap();
    assert!(joint.pipe.is_done() && !joint.pipe.is_broken());
}

#[test]
fn a_half_closed_direction_delivers_every_byte_and_the_other_goes_on() {
    for near_first in [true, false] {
        let (joint, client, peer) = Joint::new();
        let running = joint.run();
        let (mut first, mut second) = if near_first {
            (client, peer)
        } else {
            (peer, client)
        };
        let question = noise(300_000);
        first.write_all(&question).unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut second) == question);
        let answer = noise(400_000);
        let sent = answer.clone();
        let answering = std::thread::spawn(move || second.write_all(&sent).unwrap());
        assert!(read_all(&mut first) == answer);
        answering.join().unwrap();
        assert!(running.join().unwrap().pipe.is_done());
    }
}

#[test]
fn an_end_that_closes_at_once_is_heard_to_the_last_byte() {
    for near_closes in [true, false] {
        let (joint, client, peer) = Joint::new();
        let running = joint.run();
        let (mut closing, mut other) = if near_closes {
            (client, peer)
        } else {
            (peer, client)
        };
        let last = noise(300_000);
        closing.write_all(&last).unwrap();
        drop(closing);
        // Slow to begin with, so that much of it waits.
        std::thread::sleep(Duration::from_millis(50));
        assert!(read_all(&mut other) == last);
        drop(other);
        assert!(running.join().unwrap().pipe.is_done());
    }
}

/// What a client still sends to a peer that has closed must not cost it the peer's last words.
#[test]
fn a_closed_end_is_heard_by_one_that_still_speaks() {
    let (mut joint, mut client, mut peer) = Joint::new();
    // As much as waits on the way to a client that does not read yet.
    let last = noise(100_000);
    peer.write_all(&last).unwrap();
    drop(peer);
    while joint.pipe.back.stage == Stage::Open {
        joint.pump();
    }
    let mut heard: Vec<u8> = Vec::new();
    client.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 10_000];
    for _ in 0..5000 {
        // It may find no room.
        let _ = client.write(&[1; 20_000]);
        joint.pump();
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => heard.extend(&buffer[..length]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert!(heard == last);
    assert!(joint.pipe.is_broken(), "the peer refused to hear more");
    assert_eq!(joint.pipe.deadline(IDLE), START + LINGER);
}

/// Requirement S18.
#[test]
fn a_slow_reader_slows_its_sender_and_costs_bounded_memory() {
    let (mut joint, mut client, mut peer) = Joint::new();
    client.set_nonblocking(true).unwrap();
    let all = noise(64 << 20);
    let mut sent = 0;
    let mut idle = 0;
    while idle < 50 {
        let written = client.write(&all[sent..]).unwrap_or(0);
        sent += written;
        let moved = joint.pump();
        assert!(joint.held() <= 2 * (MOST + 32 * 1024));
        let is_idle = written == 0 && moved == Moved::default();
        idle = if is_idle { idle + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(u64::from(is_idle)));
    }
    assert!(sent < all.len(), "nothing slowed the sender");
    let needs = joint.pipe.needs_near(&joint.near, EACH, false);
    assert!(!needs.read && !needs.write);
    let needs = joint.pipe.needs_far(&joint.far, EACH, false);
    assert!(needs.read && needs.write);
    client.shutdown(Shutdown::Write).unwrap();
    let running = joint.run();
    assert!(read_all(&mut peer) == all[..sent]);
    drop((client, peer));
    assert!(running.join().unwrap().held() <= 2 * KEPT);
}

/// Nothing follows that would push it out.
#[test]
fn the_last_ciphertext_that_found_no_room_goes_when_there_is_some() {
    let (mut joint, _near, _far) = Joint::new();
    let ((client, mut server), (theirs, ours)) = (session(), sockets());
    let words = [IoSlice::new(b"the last words")];
    let sealed = server.seal(&words, &mut joint.scratch).unwrap().unwrap();
    server.keep(sealed.ciphertext);
    joint.near = Wire::new(ours, Session::Tls(Box::new(server)));
    assert!(joint.pipe.needs_near(&joint.near, EACH, false).write);
    joint.pump();
    assert!(!joint.pipe.needs_near(&joint.near, EACH, false).write);
    let mut heard = [0; 14];
    let mut client = StreamOwned::new(client, theirs);
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"the last words");
}

#[test]
fn a_reset_of_either_end_closes_the_other() {
    for near_breaks in [true, false] {
        let (joint, client, peer) = Joint::new();
        let running = joint.run();
        let (breaking, mut other) = if near_breaks {
            (client, peer)
        } else {
            (peer, client)
        };
        socket2::SockRef::from(&breaking)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(breaking);
        assert!(read_all(&mut other).is_empty());
        drop(other);
        let joint = running.join().unwrap();
        assert!(joint.pipe.is_done() && joint.pipe.is_broken());
    }
}

#[test]
fn what_was_said_before_goes_first() {
    let (mut joint, mut client, mut peer) = Joint::new();
    joint.pipe.push(b"early ");
    client.write_all(b"late").unwrap();
    drop(client);
    let running = joint.run();
    assert_eq!(read_all(&mut peer), b"early late");
    drop(peer);
    running.join().unwrap();

    let (mut joint, _client, mut peer) = Joint::new();
    joint.pipe.push(b"all there is");
    joint.pipe.near_ended(End::Closed);
    joint.pump();
    assert_eq!(read_all(&mut peer), b"all there is");
}

#[test]
fn only_a_pipe_of_which_one_end_is_silent_has_a_deadline() {
    let (mut joint, client, _peer) = Joint::new();
    joint.pump();
    assert_eq!(joint.pipe.deadline(IDLE), Instant::FAR_FUTURE);
    client.shutdown(Shutdown::Write).unwrap();
    while joint.pipe.out.stage == Stage::Open {
        joint.pump();
    }
    assert_eq!(joint.pipe.deadline(IDLE), START + IDLE);
}
