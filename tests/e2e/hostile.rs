//! Hostile input beside a good client: everything is counted, nothing grows, the good client loses
//! nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::dialogue::Dialogue;
use super::metrics::Metrics;
use super::mutation::Mutator;
use super::process::{LIMIT, until};
use super::relaying::echo_peer;
use super::server::Server;

/// Peers of hostile clients are made up: no datagram may leave this machine.
const ONE_PEER: &[&str] = &[
    "--workers",
    "2",
    "--deny-peer",
    "0.0.0.0/0",
    "--deny-peer",
    "::/0",
    "--allow-peer",
    "127.0.0.1",
];
const MEGABYTE: f64 = 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_hostile_messages_disturb_nobody() {
    let server = Server::start(ONE_PEER);
    let good = GoodClient::start(&server).await;
    let address = server.address();
    datagrams(address, 1, 20_000);
    frames(address, 2, 20_000);
    let before = server.metrics();

    let floods = [
        thread::spawn(move || datagrams(address, 3, 375_000)),
        thread::spawn(move || datagrams(address, 4, 375_000)),
        thread::spawn(move || signed(address, 5, 20_000)),
        thread::spawn(move || frames(address, 6, 250_000)),
    ];
    for flood in floods {
        tokio::task::block_in_place(|| flood.join().unwrap());
    }
    good.stop().await;

    let after = server.metrics_when(|metrics| metrics.received() == metrics.outcomes());
    let received = |source| {
        let name = "turnstone_received_packets_total";
        after.with(name, source) - before.with(name, source)
    };
    assert!(received("client_udp") >= 770_000.0, "{after:#?}");
    assert!(received("client_tcp") >= 230_000.0, "{after:#?}");
    let grown = after.resident() - before.resident();
    assert!(grown < 8.0 * MEGABYTE, "grown by {} MB", grown / MEGABYTE);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_send_a_byte_at_a_time_are_served_and_silent_ones_closed() {
    // One that waits longer than the slow ones take, and one that does not.
    let with = |silent_after: &str| {
        let text = format!("[streams]\nsilent_after = \"{silent_after}\"\n");
        Server::configured(&text, ONE_PEER)
    };
    let (server, impatient) = (with("1h"), with("1s"));
    let good = GoodClient::start(&server).await;
    let connect = |server: &Server| TcpStream::connect(server.address()).unwrap();
    let request = stun::message::BINDING_REQUEST;
    let request = super::dialogue::message(request, &[]).raw;
    let mut slow: Vec<_> = (0..100).map(|_| connect(&server)).collect();
    let mut silent: Vec<_> = (0..100).map(|_| connect(&impatient)).collect();
    for byte in &request {
        slow.iter_mut()
            .for_each(|stream| stream.write_all(&[*byte]).unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for stream in &mut slow {
        assert_eq!(
            first_bytes(stream),
            Some([0x01, 0x01]),
            "a Binding success response"
        );
    }
    for stream in &mut silent {
        let _ = stream.write_all(&request[..7]);
        assert_eq!(first_bytes(stream), None, "closed without an answer");
    }
    good.stop().await;
    server.stop();
    impatient.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_bounded_memory_and_are_served_again() {
    let server = Server::start(ONE_PEER);
    let good = GoodClient::start(&server).await;
    let mut readers: Vec<_> = (0..8).map(|_| Dialogue::tcp(server.address())).collect();
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let relayed: Vec<_> = readers
        .iter_mut()
        .map(|reader| {
            let relayed = reader.allocate(None).unwrap();
            reader.bind(0x4000, peer.local_addr().unwrap()).unwrap();
            relayed
        })
        .collect();
    let before = server.metrics().resident();
    let dropped = |metrics: &Metrics| {
        metrics.with("turnstone_dropped_packets_total", "client_backlog")
            + metrics.sum("turnstone_backlog_evicted_packets_total")
    };
    // Far more than the socket buffers and backlogs of those who do not read: 20 MB for each, if the server
    // takes as much as is sent.
    let mut metrics = server.metrics();
    for round in 0..400_000 {
        for relayed in &relayed {
            peer.send_to(&[7; 1000], relayed).unwrap();
        }
        if round % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if round % 2000 == 0 && round >= 18_000 {
            metrics = server.metrics();
            if dropped(&metrics) > 1000.0 {
                break;
            }
        }
    }
    let dropped = dropped(&metrics);
    assert!(
        dropped > 1000.0,
        "the backlogs held {dropped} packets too many"
    );
    let grown = metrics.resident() - before;
    assert!(grown < 16.0 * MEGABYTE, "grown by {} MB", grown / MEGABYTE);
    for reader in &mut readers {
        reader.binding().expect("answered behind what had piled up");
    }
    good.stop().await;
    server.stop();
}

/// Requirement S21: what half a kilobyte a scrape would add up to is well beyond the bound.
#[test]
fn thousands_of_scrapes_leave_the_memory_flat() {
    const SCRAPES: usize = 3000;
    let server = Server::start(&[]);
    let scrape = |times: usize| (0..times).for_each(|_| drop(server.metrics()));
    scrape(300);
    let before = server.metrics();
    scrape(SCRAPES);
    let after = server.metrics();
    let grown = after.resident() - before.resident();
    assert!(grown < MEGABYTE, "grown by {} KiB", grown / 1024.0);
    let descriptors = |metrics: &Metrics| metrics.sum("process_open_fds");
    assert!(descriptors(&after) <= descriptors(&before) + 1.0);
    server.stop();
}

/// The first two bytes that the server sends, none if it closes.
fn first_bytes(stream: &mut TcpStream) -> Option<[u8; 2]> {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = [0; 2];
    match stream.read_exact(&mut bytes) {
        Ok(()) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither served nor closed"),
        Err(_) => None,
    }
}

/// Sends `count` hostile datagrams from a client that has an allocation; a Binding now and then
/// shows that the server keeps up.
fn datagrams(server: SocketAddr, seed: u64, count: usize) {
    let mut client = Dialogue::udp(server);
    client.allocate(None).unwrap();
    let mut mutator = Mutator::new(seed, &client);
    for sent in 0..count {
        client.send(&mutator.datagram()).unwrap();
        if sent % 64 == 63 {
            client
                .binding()
                .expect("the server answers under hostile input");
        }
    }
}

/// As [`datagrams`], with right credentials over random attributes.
fn signed(server: SocketAddr, seed: u64, count: usize) {
    let mut client = Dialogue::udp(server);
    client.allocate(None).unwrap();
    let mut mutator = Mutator::new(seed, &client);
    for sent in 0..count {
        let message = mutator.signed(&client);
        client.send(&message).unwrap();
        if sent % 64 == 63 {
            client
                .binding()
                .expect("the server answers under hostile input");
        }
    }
}

/// Sends `count` hostile messages over TCP, cut anywhere; after a garbled one it connects anew.
fn frames(server: SocketAddr, seed: u64, count: usize) {
    let mut mutator = Mutator::new(seed, &Dialogue::udp(server));
    let mut dice = super::mutation::Dice::new(seed);
    let mut stream = connect(server);
    let mut sent = 0;
    while sent < count {
        let mut batch = Vec::new();
        for _ in 0..50 {
            batch.extend(mutator.frame());
        }
        sent += 50;
        let garbled = dice.below(100) == 0;
        if garbled {
            batch.extend(mutator.datagram());
        }
        let cut = dice.below(batch.len());
        let written = [&batch[..cut], &batch[cut..]]
            .into_iter()
            .try_for_each(|part| write_and_drain(&mut stream, part));
        if garbled || written.is_err() {
            drain(&mut stream);
            stream = connect(server);
        }
    }
    drain(&mut stream);
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Writes all of `bytes`, reading whatever the server answers meanwhile.
fn write_and_drain(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut rest = bytes;
    let start = Instant::now();
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(start.elapsed() < LIMIT, "the server does not read");
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
        read_waiting(stream)?;
    }
    Ok(())
}

/// Reads what has arrived; an error when the server has closed.
fn read_waiting(stream: &mut TcpStream) -> std::io::Result<()> {
    loop {
        match stream.read(&mut [0; 65_536]) {
            Ok(0) => return Err(ErrorKind::ConnectionAborted.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads until the server has answered everything or closed.
fn drain(stream: &mut TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Write);
    until(LIMIT, || read_waiting(stream).is_err());
}

/// A client that relays without a pause and must not lose anything.
struct GoodClient {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl GoodClient {
    async fn start(server: &Server) -> Self {
        let client = Client::udp(server.address()).await;
        let (peer, echo) = echo_peer("127.0.0.1").await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut round = 0u32;
            while round < 100 || !stopped.load(Ordering::Relaxed) {
                let payload = [round.to_be_bytes(); 40].concat();
                client.send(&payload, peer).await;
                let answer = client.receive().await;
                assert_eq!(answer, Some((payload, peer)), "round {round} was lost");
                round += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            client.close().await;
            echo.abort();
        });
        Self { stop, task }
    }

    /// Ends it when it has made a hundred round trips.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
