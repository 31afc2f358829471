//! Data connections of TCP allocations (RFC 6062 §5.4) that come to shards which took over from those that
//! have the allocation.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use turnstone::shard::StreamLimits;
use turnstone::stun::{AttributeType, MessageBuilder, Method};
use turnstone::turn::{ConnectionEnd, Counter, PeerEnd, Transport};

use crate::certificates::pair;
use crate::client::{Client, Link};
use crate::harness::{Options, Shards, start, start_after, start_over};
use crate::tcp_scene::{
    LAST_WORDS, Scene, code, ended, hears, is_closed, noise, patient, read_all,
};

/// More connections than may be on their way between two shards.
const MANY: usize = 400;

fn handed_back() -> Counter {
    Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::HandedBack)
}

fn open(transport: Transport) -> Counter {
    Counter::Connections(transport)
}

/// A scene, and the shards that have taken over from those that play it.
fn taken_over(options: &Options) -> (Scene, Shards) {
    let scene = Scene::over(start(options), false);
    let new = start_after(options, &scene.shards);
    (scene, new)
}

fn bind(id: u32) -> impl Fn(&mut MessageBuilder<'_>) {
    move |request| {
        request.u32(AttributeType::CONNECTION_ID, id);
    }
}

#[track_caller]
fn speak(client: &mut TcpStream, peer: &mut TcpStream) {
    let (question, answer) = (noise(LAST_WORDS), noise(LAST_WORDS + 1));
    let mut asking = client.try_clone().expect("a descriptor");
    let sent = question.clone();
    let asks = thread::spawn(move || {
        asking.write_all(&sent).expect("sent");
        asking.shutdown(Shutdown::Write).expect("open");
    });
    assert!(read_all(peer) == question);
    asks.join().expect("no panic");
    peer.write_all(&answer).expect("sent");
    peer.shutdown(Shutdown::Write).expect("open");
    assert!(read_all(client) == answer);
}

/// Whoever opened the connection with the peer, and whichever shards the client's two come to.
#[test]
fn a_data_connection_is_joined_where_its_allocation_is() {
    let (mut scene, new) = taken_over(&Options {
        shards: 2,
        ..Options::default()
    });
    for (before, arrives) in (0_u64..).zip([true, false, true, false]) {
        let (id, mut peer) = match arrives {
            true => scene.arrive(),
            false => scene.connect(),
        };
        let (client, said) = Client::tcp(new.v4()).bind_connection(id, b"early");
        assert!(said.is_empty());
        hears(&mut peer, b"early");
        speak(&mut patient(client), &mut peer);
        // There may be one connection with each peer.
        scene.shards.wait_for(ended(PeerEnd::Closed), before + 1);
    }
    scene.shards.wait_for(open(Transport::Tcp), 1);
    new.wait_for(handed_back(), 4);
    new.wait_for(open(Transport::Tcp), 0);
    new.stop();
    scene.shards.stop();
}

/// The session stays where it is, and what is inside goes on; also where TLS and TCP come to one port.
#[test]
fn over_tls_a_data_connection_is_joined_where_its_allocation_is() {
    for shared in [false, true] {
        let (server, config) = pair();
        let (mut scene, new) = taken_over(&Options {
            tls: Some(server),
            shared,
            ..Options::default()
        });
        let (id, mut peer) = scene.connect();
        let data = Client::tls(new.tls_addresses[0], &config);
        let (Link::Tls(mut session), said) = data.bind_link(id, b"early") else {
            panic!("not TLS");
        };
        assert!(said.is_empty());
        hears(&mut peer, b"early");
        new.wait_for(Counter::Passing, 1);
        scene.shards.wait_for(open(Transport::Tls), 1);
        let (question, answer) = (noise(LAST_WORDS), noise(LAST_WORDS + 1));
        session.write_all(&question).expect("sent");
        session.conn.send_close_notify();
        session.flush().expect("sent");
        assert!(read_all(&mut peer) == question);
        let sent = answer.clone();
        thread::spawn(move || peer.write_all(&sent).expect("sent"));
        let mut heard = Vec::new();
        // It fails unless the server says goodbye as well.
        session.read_to_end(&mut heard).expect("close_notify");
        assert!(heard == answer);
        scene.shards.wait_for(ended(PeerEnd::Closed), 1);
        scene.shards.wait_for(open(Transport::Tls), 0);
        drop(session);
        new.wait_for(Counter::Passing, 0);
        new.wait_for(open(Transport::Tls), 0);
        new.stop();
        scene.shards.stop();
    }
}

/// A connection that broke must not look like one that ended, through however many processes.
#[test]
fn over_tls_a_broken_peer_is_no_goodbye_behind_an_upgrade() {
    let (server, config) = pair();
    let options = Options {
        tls: Some(server),
        ..Options::default()
    };
    let (mut scene, second) = taken_over(&options);
    let mut breaks = |through: &Shards, before: u64| {
        let (id, mut peer) = scene.connect();
        let data = Client::tls(through.tls_addresses[0], &config);
        let (Link::Tls(mut session), _) = data.bind_link(id, b"") else {
            panic!("not TLS");
        };
        peer.write_all(b"in the midst").expect("sent");
        let mut heard = [0; 12];
        session.read_exact(&mut heard).expect("all of it");
        let breaking = socket2::Socket::from(peer);
        breaking.set_linger(Some(Duration::ZERO)).expect("open");
        drop(breaking);
        let end = session.read(&mut heard).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::UnexpectedEof));
        drop(session);
        scene.shards.wait_for(ended(PeerEnd::Reset), before + 1);
    };
    breaks(&second, 0);
    let third = start_after(&options, &second);
    breaks(&third, 1);
    scene.shards.wait_for(open(Transport::Tls), 0);
    third.stop();
    second.stop();
    scene.shards.stop();
}

/// A data connection may be silent for longer than a web server's.
#[test]
fn over_tls_a_silent_data_connection_lives_on() {
    let (server, config) = pair();
    let options = Options {
        tls: Some(server),
        streams: StreamLimits {
            idle_after: Duration::from_millis(200),
            ..StreamLimits::default()
        },
        ..Options::default()
    };
    let (mut scene, new) = taken_over(&options);
    let (id, mut peer) = scene.connect();
    let data = Client::tls(new.tls_addresses[0], &config);
    let (Link::Tls(mut session), _) = data.bind_link(id, b"") else {
        panic!("not TLS");
    };
    // A connection without an allocation that speaks last goes first.
    let mut silent = Client::tcp(new.v4());
    silent.ping();
    assert!(silent.try_receive().is_none());
    peer.write_all(b"still there").expect("sent");
    let mut heard = [0; 11];
    session.read_exact(&mut heard).expect("so many bytes");
    assert_eq!(&heard, b"still there");
    new.stop();
    scene.shards.stop();
}

/// What came before the request is answered by who read it, wherever the bytes are cut.
#[test]
fn a_request_in_pieces_behind_another_one_is_handed_back() {
    let (mut scene, new) = taken_over(&Options::default());
    let (id, _peer) = scene.connect();
    let mut client = Client::tcp(new.v4());
    let ping = client.build(Method::BINDING, |_| {});
    let request = client.build(Method::CONNECTION_BIND, bind(id));
    let said = [ping.clone(), ping, request].concat();
    for piece in said.chunks(37) {
        client.send(piece);
        thread::sleep(Duration::from_millis(2));
    }
    for expected in [None, None, Some(401)] {
        assert_eq!(code(&client.receive()), expected);
    }
    new.wait_for(handed_back(), 1);
    assert_eq!(new.get(Counter::Answered), 2);
    new.stop();
    scene.shards.stop();
}

/// Ids that look like the old process's are refused by it, and what has an allocation of its own is no data
/// connection.
#[test]
fn nobody_gets_more_than_a_data_connection() {
    let (mut scene, new) = taken_over(&Options::default());
    let (id, _peer) = scene.connect();
    let mut client = Client::tcp(new.v4());
    let nobodys = client.request(Method::CONNECTION_BIND, bind(id ^ 1));
    assert_eq!(code(&nobodys), Some(400));
    scene.shards.wait_for(open(Transport::Tcp), 2);
    let request = client.build(Method::ALLOCATE, |request| {
        request.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    client.send(&request);
    while client.try_receive().is_some() {}
    assert!(is_closed(client.stream()));
    scene.shards.wait_for(open(Transport::Tcp), 1);
    let mut fresh = Client::tcp(new.v4());
    fresh.allocate();
    new.stop();
    scene.shards.stop();
}

/// RFC 6062 §5.4: an id that nobody knows is a bad request.
#[test]
fn binds_for_a_process_that_has_ended_are_refused() {
    let (server, config) = pair();
    let options = Options {
        tls: Some(server),
        ..Options::default()
    };
    let (mut scene, new) = taken_over(&options);
    let (id, _peer) = scene.connect();
    let mut clients = [
        Client::tcp(new.v4()),
        Client::tls(new.tls_addresses[0], &config),
        Client::tcp(new.v4()),
    ];
    scene.shards.stop();
    for client in &mut clients {
        let refused = client.request(Method::CONNECTION_BIND, bind(id));
        assert_eq!(code(&refused), Some(400));
        client.allocate();
    }
    assert_eq!(new.get(Counter::Passing), 0);
    new.stop();
}

/// The limits of the old process hold for what comes back to it.
#[test]
fn the_limits_on_connections_hold_for_those_that_come_back() {
    let (mut scene, new) = taken_over(&Options {
        streams: StreamLimits {
            connections_per_source: 2,
            ..StreamLimits::default()
        },
        ..Options::default()
    });
    let (id, _peer) = scene.connect();
    let begin = || {
        let mut client = Client::tcp(new.v4());
        let request = client.build(Method::CONNECTION_BIND, bind(id));
        client.send(&request);
        client
    };
    // One of the two is the control connection.
    let mut first = begin();
    assert_eq!(code(&first.receive()), Some(401));
    assert!(begin().try_receive().is_none());
    let refused = Counter::ConnectionsClosed(Transport::Tcp, ConnectionEnd::Refused);
    scene.shards.wait_for(refused, 1);
    new.stop();
    scene.shards.stop();
}

/// One that was handed back over TLS costs as many descriptors as three others, and counts as much.
#[test]
fn over_tls_those_that_are_handed_back_leave_room_for_others() {
    let (server, config) = pair();
    let options = |connections| Options {
        tls: Some(server.clone()),
        streams: StreamLimits {
            connections,
            ..Options::default().streams
        },
        ..Options::default()
    };
    let mut scene = Scene::over(start(&options(20)), false);
    let new = start_after(&options(5), &scene.shards);
    let (id, _peer) = scene.connect();
    let mut first = Client::tls(new.tls_addresses[0], &config);
    let request = first.build(Method::CONNECTION_BIND, bind(id));
    first.send(&request);
    assert_eq!(code(&first.receive()), Some(401));
    new.wait_for(Counter::Passing, 1);
    let mut second = Client::tls(new.tls_addresses[0], &config);
    let refused = second.request(Method::CONNECTION_BIND, bind(id));
    assert_eq!(code(&refused), Some(400));
    assert_eq!(new.get(Counter::Passing), 1);
    // Without TLS nothing of it stays here.
    let (_data, said) = Client::tcp(new.v4()).bind_connection(id, b"");
    assert!(said.is_empty());
    drop(first);
    new.wait_for(Counter::Passing, 0);
    let again = second.request(Method::CONNECTION_BIND, bind(id));
    assert_eq!(code(&again), Some(400));
    new.wait_for(Counter::Passing, 1);
    new.stop();
    scene.shards.stop();
}

/// Nothing but a ConnectionBind that succeeds lengthens its life, whatever it says.
#[test]
fn a_connection_that_is_handed_back_and_never_bound_ends_soon() {
    let (server, config) = pair();
    let (mut scene, new) = taken_over(&Options {
        tls: Some(server),
        ..Options::default()
    });
    let (id, _peer) = scene.connect();
    scene
        .shards
        .limit(|limits| limits.silent_after = Duration::from_millis(500));
    for mut client in [
        Client::tcp(new.v4()),
        Client::tls(new.tls_addresses[0], &config),
    ] {
        let request = client.build(Method::CONNECTION_BIND, bind(id));
        client.send(&request);
        assert_eq!(code(&client.receive()), Some(401));
        assert!(client.try_receive().is_none());
        assert!(is_closed(client.stream()));
    }
    scene.shards.wait_for(open(Transport::Tcp), 1);
    scene.shards.wait_for(open(Transport::Tls), 0);
    new.wait_for(Counter::Passing, 0);
    new.stop();
    scene.shards.stop();
}

/// Whoever finds no room on the way is answered by the new process, and nobody waits.
#[test]
fn a_way_that_is_full_is_no_way() {
    let mut scene = Scene::new(false);
    let (id, _peer) = scene.connect();
    let new = start_over(&Options::default(), &scene.shards);
    let old = scene.shards.freezer();
    let mut clients: Vec<Client> = (0..MANY)
        .map(|_| {
            let mut client = Client::tcp(new.v4());
            let request = client.build(Method::CONNECTION_BIND, bind(id));
            client.send(&request);
            client
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let handled = || new.get(handed_back()) + new.get(Counter::Answered);
    while handled() < MANY as u64 && Instant::now() < deadline {
        old.hold().expect("it stands still");
        thread::sleep(Duration::from_millis(10));
    }
    old.release().expect("it lets go");
    let (handed, answered) = (new.get(handed_back()), new.get(Counter::Answered));
    assert!(handed > 0 && answered > 0, "{handed} and {answered}");
    for client in &mut clients {
        assert_eq!(code(&client.receive()), Some(401));
    }
    drop(clients);
    scene.shards.wait_for(open(Transport::Tcp), 1);
    new.wait_for(open(Transport::Tcp), 0);
    new.stop();
    scene.shards.stop();
}

/// Each hands back to the one before it, also what is one end of a pair of sockets already.
#[test]
fn data_connections_go_back_through_all_processes() {
    let (server, config) = pair();
    let options = Options {
        tls: Some(server),
        ..Options::default()
    };
    let (mut scene, second) = taken_over(&options);
    let third = start_after(&options, &second);
    for (before, over_tls) in (0_u64..).zip([false, true]) {
        let (id, mut peer) = scene.connect();
        let client = match over_tls {
            true => Client::tls(third.tls_addresses[0], &config),
            false => Client::tcp(third.v4()),
        };
        let (link, _) = client.bind_link(id, b"early");
        hears(&mut peer, b"early");
        peer.write_all(b"answer").expect("sent");
        let mut heard = [0; 6];
        match link {
            Link::Tcp(mut stream) => stream.read_exact(&mut heard),
            Link::Tls(mut session) => session.read_exact(&mut heard),
            Link::Udp(_) | Link::Dtls(_) => panic!("no stream"),
        }
        .expect("so many bytes");
        assert_eq!(&heard, b"answer");
        assert!(is_closed(&mut peer));
        drop(peer);
        scene.shards.wait_for(ended(PeerEnd::Closed), before + 1);
    }
    scene.shards.wait_for(open(Transport::Tcp), 1);
    scene.shards.wait_for(open(Transport::Tls), 0);
    third.stop();
    second.stop();
    scene.shards.stop();
}
