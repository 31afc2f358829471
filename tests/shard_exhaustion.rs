//! A shard without a descriptor left: nothing spins, nothing that lives suffers, and it recovers.

#[path = "shard/client.rs"]
mod client;
#[path = "shard/dtls_link.rs"]
mod dtls_link;
#[path = "shard/harness.rs"]
mod harness;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use client::{Client, Link};
use harness::{Options, PATIENCE, peer, start};
use socket2::{Domain, Socket, Type};
use turnstone::stun::{AttributeType, Message, Method};
use turnstone::turn::Counter;

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

#[test]
fn no_descriptor_left() {
    let (soft, _) = turnstone::net::descriptor_limit();
    if soft > 200_000 {
        println!("skipped: the limit of {soft} descriptors is too high to reach");
        return;
    }
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
