//! Data connections of TCP allocations over TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use turnstone::turn::PeerEnd;

use crate::certificates::pair;
use crate::client::{Client, Link};
use crate::harness::{Options, start};
use crate::tcp_scene::{LAST_WORDS, Scene, ended, hears, noise, read_all};

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
