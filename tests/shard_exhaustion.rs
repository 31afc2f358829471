//! A shard without a descriptor left: nothing spins, nothing that lives suffers, and it recovers.

#[path = "shard/client.rs"]
mod client;
#[path = "shard/dtls_link.rs"]
mod dtls_link;
#[path = "shard/harness.rs"]
mod harness;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use client::{Client, Link};
use harness::{Options, PATIENCE, peer, start, start_over};
use socket2::{Domain, Socket, Type};
use turnstone::stun::{AttributeType, Message, Method};
use turnstone::turn::{ConnectionEnd, Counter, Transport};

/// More connections that are handed back than there are descriptors for.
const MANY: usize = 12;

static TURN: Mutex<()> = Mutex::new(());

/// Opens files until there is no descriptor left.
fn exhaust() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Class and number of the error code.
fn code(response: &[u8]) -> [u8; 2] {
    let message = Message::parse(response).expect("a message");
    let code = message.attribute(AttributeType::ERROR_CODE);
    let code = code.expect("an error").value;
    [code[2], code[3]]
}

/// One test at a time: the descriptors are for all of them. None when there are too many to use up.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn alone() -> Option<MutexGuard<'static, ()>> {
    let (soft, _) = turnstone::net::descriptor_limit();
    if soft > 200_000 {
        println!("skipped: the limit of {soft} descriptors is too high to reach");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn no_descriptor_left() {
    let Some(_turn) = alone() else {
        return;
    };
    let shards = start(&Options::default());
    let mut client = Client::udp(shards.v4());
    let relayed = client.allocate();
    let peer = peer(relayed.ip());
    client.bind(0x4000, peer.local_addr().expect("an address"));
    let mut second = Client::udp(shards.v4());
    let mut control = Client::tcp(shards.v4());
    let tcp_relay = control.allocate_tcp();
    control.permit(tcp_relay);
    shards.wait_for(Counter::RelayPorts, 2);
    // What is needed has its descriptor; none is left to accept a client and a peer with.
    let [waiting, visitor] = [(); 2].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None));
    let files = exhaust();
    let connect = |socket: io::Result<Socket>, to: SocketAddr| {
        let socket = socket.expect("a descriptor");
        let home = SocketAddr::new(to.ip(), 0);
        socket.bind(&home.into()).expect("a port");
        socket.connect(&to.into()).expect("a listener");
        TcpStream::from(socket)
    };
    let waiting = connect(waiting, shards.v4());
    let _visitor = connect(visitor, tcp_relay);
    let response = second.request(Method::ALLOCATE, |request| {
        request.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    assert_eq!(code(&response), [5, 8]);
    let response = control.request(Method::CONNECT, |request| {
        request.xor_address(AttributeType::XOR_PEER_ADDRESS, relayed);
    });
    assert_eq!(code(&response), [4, 47]);

    client.send_data(0x4000, b"media goes on");
    assert_eq!(peer.recv(&mut [0; 32]).expect("a datagram"), 13);

    let (began, before) = (Instant::now(), shards.passes(0));
    sleep(Duration::from_secs(2));
    let passes = shards.passes(0).wrapping_sub(before);
    // It tries again every half second, and tells of it; that takes a few passes each time.
    let most = 10 * (began.elapsed().as_millis() / 500 + 2);
    assert!(u128::from(passes) < most, "{passes} passes: it never rests");

    drop(files);
    waiting.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Client::over(Link::Tcp(waiting)).ping();
    let attempt = control.receive();
    let attempt = Message::parse(&attempt).expect("a message");
    assert_eq!(attempt.method(), Method::CONNECTION_ATTEMPT);
    second.allocate();
    shards.stop();
}

/// Client data connections of TCP allocations that stayed in an older process.
#[test]
fn no_descriptor_left_for_what_is_handed_back() {
    let Some(_turn) = alone() else {
        return;
    };
    let old = start(&Options::default());
    let mut control = Client::tcp(old.v4());
    let relayed = control.allocate_tcp();
    let peer = TcpListener::bind((relayed.ip(), 0)).expect("a port");
    let id = control.connect(peer.local_addr().expect("an address"));
    let new = start_over(&Options::default(), &old);
    let mut clients: Vec<Client> = (0..MANY)
        .map(|_| {
            let mut client = Client::tcp(new.v4());
            let request = client.build(Method::CONNECTION_BIND, |request| {
                request.u32(AttributeType::CONNECTION_ID, id);
            });
            client.send(&request);
            client
        })
        .collect();
    // All are on the way when none has a descriptor any more but those of the listeners that the old one
    // lets go of.
    let handed_back = ConnectionEnd::HandedBack;
    let gone = Counter::ConnectionsClosed(Transport::Tcp, handed_back);
    new.wait_for(gone, MANY as u64);
    let files = exhaust();
    old.freezer().release().expect("it lets go");
    // It has looked at the way by the end of the pass that answers.
    control.ping();
    old.heed();
    let taken = old.get(Counter::ConnectionsAccepted(Transport::Tcp));
    assert!(taken < MANY as u64, "there were descriptors");
    drop(files);
    for client in &mut clients {
        assert_eq!(code(&client.receive()), [4, 1]);
    }
    new.stop();
    old.stop();
}
