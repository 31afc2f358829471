//! A shard without a descriptor left: nothing spins, nothing that lives suffers, and it recovers.

#[path = "shard/client.rs"]
mod client;
#[path = "shard/dtls_link.rs"]
mod dtls_link;
#[path = "shard/harness.rs"]
mod harness;

use std::fs::File;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use client::Client;
use harness::{Options, peer, processor_time, start};
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
    let mut files = exhaust();
    // One for the waiting client, one for a peer; none is left to accept them with.
    files.pop();
    let mut waiting = Client::tcp(shards.v4());
    files.pop();
    let _visitor = TcpStream::connect(tcp_relay).expect("a listener");
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

    let used = |files: &mut Vec<File>| {
        files.pop();
        let used = processor_time(&shards.published(0).thread);
        // Hold the descriptor back again before the shard may have it.
        files.extend(File::open("/dev/null").ok());
        used
    };
    let before = used(&mut files);
    sleep(Duration::from_secs(1));
    let after = used(&mut files);
    assert!(after - before < 20_000_000, "used {} ns", after - before);

    drop(files);
    waiting.ping();
    let attempt = control.receive();
    let attempt = Message::parse(&attempt).expect("a message");
    assert_eq!(attempt.method(), Method::CONNECTION_ATTEMPT);
    second.allocate();
    shards.stop();
}
