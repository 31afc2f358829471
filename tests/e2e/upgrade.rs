//! A new process takes over from a running one, and nobody notices.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::dialogue::channel_data;
use super::metrics::Metrics;
use super::process::{LIMIT, run, until};
use super::server::{Server, binary};
use super::succession::{Call, LOOPBACK, Pair, Succession, ends};

const CLIENTS: u16 = 200;

fn allocations(server: &Server, wanted: f64) -> Metrics {
    let there = |metrics: &Metrics| metrics.sum("turnstone_allocations") == wanted;
    let metrics = server.metrics_when(there);
    assert!(there(&metrics), "{wanted} allocations: {metrics:#?}");
    metrics
}

/// Not one packet was lost.
#[track_caller]
fn went_on(call: Call) {
    let (sent, lost) = call.end();
    assert!(sent > 100 && lost == 0, "{lost} of {sent} lost");
}

#[test]
fn calls_go_on_through_two_upgrades_and_no_flow_moves() {
    let succession = Succession::new(LOOPBACK);
    let first = succession.start();
    let address = succession.address();
    let mut pairs: Vec<Pair> = (0..CLIENTS).map(|_| Pair::udp(address)).collect();
    // Some of these are on the same shard, and some are not.
    let (ones, others) = pairs.split_at_mut(usize::from(CLIENTS / 2));
    for (one, other) in ones.iter_mut().zip(others) {
        one.client.bind(0x4001, other.relayed).unwrap();
        other.client.bind(0x4001, one.relayed).unwrap();
    }
    let call = Call::udp(address);
    let mut old = first;
    for _ in 0..2 {
        let new = succession.succeed();
        ends(old);
        let (ones, others) = pairs.split_at_mut(usize::from(CLIENTS / 2));
        ones.iter_mut()
            .zip(others)
            .for_each(|(one, other)| talk(one, other));
        let metrics = allocations(&new, f64::from(CLIENTS) + 1.0);
        let channels = f64::from(2 * CLIENTS) + 1.0;
        assert_eq!(metrics.sum("turnstone_channels"), channels);
        let dropped = metrics.sum("turnstone_dropped_packets_total");
        assert_eq!(dropped, 0.0, "{metrics:#?}");
        old = new;
    }
    went_on(call);
    for pair in &mut pairs {
        pair.client.delete().unwrap();
    }
    // That of the call, whose client has gone without a word.
    allocations(&old, 1.0);
    // The new process relays for new clients as well.
    Pair::udp(address).talks();
    old.stop();
}

#[test]
fn a_client_over_tcp_stays_and_one_over_udp_moves_and_they_go_on_talking() {
    let succession = Succession::new(LOOPBACK);
    let mut old = succession.start();
    let address = succession.address();
    let mut moves = Pair::udp(address);
    let mut stays = Pair::tcp(address);
    moves.client.bind(0x4001, stays.relayed).unwrap();
    stays.client.bind(0x4001, moves.relayed).unwrap();
    let mut new = succession.succeed();
    talk(&mut moves, &mut stays);
    // Relays that are made now are known to the other process soon.
    let mut late = Pair::udp(address);
    let bound = until(LIMIT, || stays.client.bind(0x4002, late.relayed).is_ok());
    assert!(bound, "a relay of the new process is no peer");
    late.client.bind(0x4002, stays.relayed).unwrap();
    stays.client.send(&channel_data(0x4002, b"late")).unwrap();
    assert_eq!(
        late.client.receive().unwrap(),
        channel_data(0x4002, b"late")
    );
    allocations(&new, 2.0);
    // A third one: the second has nobody left, but connects the first with it.
    let last = succession.succeed();
    talk(&mut moves, &mut stays);
    stays.client.send(&channel_data(0x4002, b"more")).unwrap();
    assert_eq!(
        late.client.receive().unwrap(),
        channel_data(0x4002, b"more")
    );
    assert!(old.running().alive() && new.running().alive());
    stays.client.delete().unwrap();
    drop(stays);
    ends(old);
    ends(new);
    moves.talks();
    last.stop();
}

/// Both talk with their peers, and over channel 0x4001 with each other.
#[track_caller]
fn talk(one: &mut Pair, other: &mut Pair) {
    one.talks();
    other.talks();
    one.client.send(&channel_data(0x4001, b"over")).unwrap();
    let heard = other.client.receive().unwrap();
    assert_eq!(heard, channel_data(0x4001, b"over"));
    other.client.send(&channel_data(0x4001, b"back")).unwrap();
    let heard = one.client.receive().unwrap();
    assert_eq!(heard, channel_data(0x4001, b"back"));
}

#[test]
fn the_old_process_stays_no_longer_than_it_may() {
    let succession = Succession::new(&format!("{LOOPBACK}[drain]\nupgrade_limit = \"1s\"\n"));
    let old = succession.start();
    let stays = Pair::tcp(succession.address());
    let new = succession.succeed();
    // Its client is still there.
    let log = ends(old);
    let somebody = log.contains("stopping clients=") && !log.contains("clients=0");
    assert!(somebody, "{log}");
    drop(stays);
    new.stop();
}

#[test]
fn what_cannot_start_changes_nothing() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let call = Call::udp(succession.address());
    for (text, said) in [
        ("[auth]\nrelm = \"x\"\n".to_owned(), "relm"),
        (
            "[relay]\naddresses = [\"192.0.2.77\"]\n".to_owned(),
            "192.0.2.77",
        ),
        (
            format!(
                "[nat_discovery]\nalternate_address = \"192.0.2.77\"\nalternate_port = {port}\n"
            ),
            &port,
        ),
    ] {
        succession.rewrite(&format!("{LOOPBACK}{text}"));
        let (status, _, stderr) = run(&mut succession.command(&["upgrade"]), LIMIT);
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(said), "{said} is not named: {stderr}");
    }
    went_on(call);
    old.stop();
}

/// Says `hello` in place of a new process, as soon as the server listens: it may not be through with
/// another pretender yet. Then nothing more.
pub(super) fn pretender(succession: &Succession, hello: &str) -> UnixStream {
    let begin = Instant::now();
    loop {
        let mut line = UnixStream::connect(succession.socket()).unwrap();
        line.set_read_timeout(Some(LIMIT)).unwrap();
        line.write_all(b"take-over\n").unwrap();
        let mut answer = [0; 3];
        line.read_exact(&mut answer).unwrap();
        if &answer == b"ok\n" {
            line.write_all(&frame(1, hello.as_bytes())).unwrap();
            return line;
        }
        assert!(begin.elapsed() < LIMIT, "nobody may take over");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&[kind], &[0; 4][..], &length.to_be_bytes(), body].concat()
}

/// The kind and the body of the next frame; what comes with it is lost.
pub(super) fn hear(line: &mut UnixStream) -> (u8, String) {
    let mut head = [0; 9];
    line.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut body = vec![0; length as usize];
    line.read_exact(&mut body).unwrap();
    let batches = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).div_ceil(253);
    line.read_exact(&mut vec![0; batches as usize]).unwrap();
    (head[0], String::from_utf8(body).unwrap())
}

pub(super) const HELLO: &str = r#"{"protocol":2,"version":"9.9.9","format":1}"#;

#[test]
fn one_that_dies_in_the_middle_changes_nothing() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut tcp = Pair::tcp(succession.address());
    let call = Call::udp(succession.address());
    for steps in [0, 1, 2] {
        let mut line = pretender(&succession, HELLO);
        assert_eq!(hear(&mut line).0, 2);
        if steps > 0 {
            line.write_all(&frame(3, b"")).unwrap();
            assert_eq!([(); 3].map(|()| hear(&mut line).0), [10, 4, 4]);
        }
        if steps > 1 {
            line.write_all(&frame(5, b"")).unwrap();
        }
        drop(line);
        let times = |log: &str| log.matches("nothing has changed").count() == steps + 1;
        assert!(until(LIMIT, || times(&old.log())), "{}", old.log());
        tcp.talks();
    }
    went_on(call);
    // And a good one can take over afterwards.
    let mut moves = Pair::udp(succession.address());
    let new = succession.succeed();
    moves.talks();
    tcp.talks();
    drop(tcp);
    ends(old);
    new.stop();
}

#[test]
fn two_at_the_same_time_are_one_too_many() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut first = pretender(&succession, HELLO);
    assert_eq!(hear(&mut first).0, 2);
    let (status, _, stderr) = run(&mut succession.command(&["upgrade"]), LIMIT);
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("another process is taking over"),
        "{stderr}"
    );
    drop(first);
    let kept = || old.log().contains("nothing has changed");
    assert!(until(LIMIT, kept), "{}", old.log());
    let new = succession.succeed();
    ends(old);
    new.stop();
}

#[test]
fn a_server_that_drains_is_not_taken_over() {
    let succession = Succession::new(LOOPBACK);
    let mut old = succession.start();
    let mut pair = Pair::udp(succession.address());
    allocations(&old, 1.0);
    old.running().signal(Signal::USR1);
    assert!(until(LIMIT, || old.log().contains("draining")));
    let (status, _, stderr) = run(&mut succession.command(&["upgrade"]), LIMIT);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("it is draining"), "{stderr}");
    pair.talks();
    pair.client.delete().unwrap();
    ends(old);
}

#[test]
fn the_command_returns_when_the_new_server_serves() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut pair = Pair::udp(succession.address());
    let (said, _detached) = succession.detach(binary().as_ref(), &["upgrade"]);
    assert!(said.contains("1 allocations moved, 0 stay"), "{said}");
    ends(old);
    pair.talks();
    let mut drain = succession_drain(&succession);
    let (status, stdout, stderr) = run(&mut drain, LIMIT);
    assert!(status.success(), "{stdout}{stderr}");
    pair.client.delete().unwrap();
    let stopped = || succession.log().contains("stopped");
    assert!(until(LIMIT, stopped), "{}", succession.log());
    assert!(!succession.socket().exists());
}

fn succession_drain(succession: &Succession) -> std::process::Command {
    let mut command = std::process::Command::new(binary());
    command.args(["drain", "--socket"]).arg(succession.socket());
    command
}
