//! Fair shares of a bandwidth that does not suffice, measured on real sockets: ten users send voice and
//! video through the real binary, and one of them sends ten times its share.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use turnstone::net::open_datagrams;

use super::dialogue::{Dialogue, channel_data};
use super::metrics::Metrics;
use super::process::{LIMIT, until};
use super::server::{PASSWORD, Server};

const USERS: usize = 10;
/// Who sends ten times its share.
const GREEDY: usize = 0;
/// Bits per second of application data of the whole server, so that a share is a tenth of it.
const TOTAL: usize = 5_000_000;
/// What may pass at once beyond it, as time at the full rate.
const DEPTH: f64 = 0.5;
const CHANNEL: u16 = 0x4000;
/// Packets leave by the tick, when those of the one before have come: a server that is not run for a while
/// finds no more than one tick's when it goes on. Who sends no more than its share sends less when ticks
/// are late, and never makes up for it.
const TICK: Duration = Duration::from_millis(20);
const TICKS: usize = 300;
/// The greedy one sends as much as it would have by the clock, for so many ticks at most: more would come
/// between two looks of the server at the shares.
const MOST_BEHIND: u32 = 5;
/// Packets of the greedy one that must be lost before the test is over.
const ENOUGH_LOST: usize = 500;
const VOICE: usize = 160;
const VIDEO: usize = 1000;
const BUFFER: usize = 4 << 20;

/// Packets and how many of them came to the peer.
#[derive(Clone, Copy, Default)]
struct Count {
    sent: usize,
    received: usize,
}

impl Count {
    const fn lost(self) -> usize {
        self.sent - self.received
    }
}

/// A user with an allocation and a peer of its own.
struct User {
    client: Dialogue,
    peer: UdpSocket,
    voice: Count,
    video: Count,
}

impl User {
    fn new(server: &Server, name: &str) -> Self {
        let peer = open_datagrams("127.0.0.1:0".parse().unwrap(), BUFFER).unwrap();
        let mut client = Dialogue::udp(server.address());
        client.become_user(name);
        // Nobody else is heard: who had the port before may still be sent something.
        peer.connect(client.allocate(None).unwrap()).unwrap();
        client.bind(CHANNEL, peer.local_addr().unwrap()).unwrap();
        Self {
            client,
            peer,
            voice: Count::default(),
            video: Count::default(),
        }
    }

    fn send(&mut self, voice: usize, video: usize) {
        // What always comes goes last, and tells that all was dealt with.
        for (count, packets, size) in [
            (&mut self.video, video, VIDEO),
            (&mut self.voice, voice, VOICE),
        ] {
            let message = channel_data(CHANNEL, &vec![0xA5; size]);
            for _ in 0..packets {
                self.client.send(&message).unwrap();
            }
            count.sent += packets;
        }
    }

    /// Counts what has come.
    fn receive(&mut self) {
        let mut buffer = [0; 2 * VIDEO];
        while let Ok(length) = self.peer.recv(&mut buffer) {
            match length {
                VOICE => self.voice.received += 1,
                VIDEO => self.video.received += 1,
                other => panic!("a packet of {other} bytes"),
            }
        }
    }

    const fn delivered_bytes(&self) -> usize {
        self.voice.received * VOICE + self.video.received * VIDEO
    }
}

#[test]
fn nine_users_lose_nothing_to_one_who_sends_ten_times_its_share() {
    let text = format!("[bandwidth]\ntotal = {TOTAL}\n");
    let names: Vec<String> = (0..USERS).map(|i| format!("user{i}")).collect();
    let logins = names.iter().map(|name| format!("{name}:{PASSWORD}"));
    let logins: Vec<String> = logins.collect();
    let mut arguments = vec!["--allow-peer", "127.0.0.1", "--workers", "2"];
    for login in &logins {
        arguments.extend(["--user", login]);
    }
    let server = Server::configured(&text, &arguments);
    let users = names.iter().map(|name| User::new(&server, name));
    let mut users: Vec<User> = users.collect();
    let seconds = talk(&mut users);
    let delivered = delivered(&users) as f64 * 8.0;
    let most = TOTAL as f64 * (seconds + DEPTH);
    println!("{}", table(&names, &users, seconds));
    for (i, user) in users.iter().enumerate().filter(|(i, _)| *i != GREEDY) {
        assert_eq!((user.voice.lost(), user.video.lost()), (0, 0), "user {i}");
    }
    let (greedy, other) = (&users[GREEDY], &users[GREEDY + 1]);
    // Small packets survive where large ones are dropped.
    assert_eq!(greedy.voice.lost(), 0);
    assert!(greedy.video.lost() >= ENOUGH_LOST);
    assert!(delivered <= most, "{delivered} bits, {most} at most");
    // What the others leave is lent to the greedy one, which has more than its share of a tenth.
    assert!(greedy.delivered_bytes() > other.delivered_bytes() * 3 / 2);
    // Nothing is lost but by the limit, and each drop is counted.
    let lost = greedy.video.lost();
    let dropped = "turnstone_dropped_packets_total";
    let counted = |metrics: &Metrics| {
        let reasons = ["reason=\"fair_share\"", "reason=\"total_bandwidth\""];
        reasons.map(|reason| metrics.with(dropped, reason))
    };
    let all = |counted: [f64; 2]| counted.iter().sum::<f64>() == lost as f64;
    let metrics = server.metrics_when(|metrics| all(counted(metrics)));
    let counted = counted(&metrics);
    assert!(all(counted), "{lost} lost, {counted:?} dropped");
    server.stop();
}

/// Lets everybody send for six seconds at least, video in frames of three packets; how long it took in
/// seconds.
fn talk(users: &mut [User]) -> f64 {
    let began = Instant::now();
    let (mut last, mut owed) = (began, 0);
    for tick in 0.. {
        let passed = last.elapsed().clamp(TICK, MOST_BEHIND * TICK);
        last = Instant::now();
        // Ten times a share: twelve packets and a half in a tick.
        owed += 25 * passed.as_micros();
        let greedy = usize::try_from(owed / (2 * TICK.as_micros())).unwrap();
        owed %= 2 * TICK.as_micros();
        for (i, user) in users.iter_mut().enumerate() {
            let voice = usize::from((tick + i) % 2 == 0);
            let video = match i {
                GREEDY => greedy,
                _ if (tick + i) % 3 == 0 => 3,
                _ => 0,
            };
            user.send(voice, video);
        }
        let all_came = until(LIMIT, || all_came(users));
        let is_enough = users[GREEDY].video.lost() >= ENOUGH_LOST || began.elapsed() > LIMIT;
        if !all_came || tick >= TICKS && is_enough {
            break;
        }
        thread::sleep((last + TICK).saturating_duration_since(Instant::now()));
    }
    let took = began.elapsed().as_secs_f64();
    // What the greedy one sent behind its last voice.
    let mut before = None;
    while before != Some(delivered(users)) {
        before = Some(delivered(users));
        thread::sleep(Duration::from_millis(200));
        users.iter_mut().for_each(User::receive);
    }
    took
}

/// Whether all has come that no limit drops.
fn all_came(users: &mut [User]) -> bool {
    users.iter_mut().for_each(User::receive);
    users
        .iter()
        .enumerate()
        .all(|(i, user)| user.voice.lost() == 0 && (i == GREEDY || user.video.lost() == 0))
}

fn delivered(users: &[User]) -> usize {
    users.iter().map(User::delivered_bytes).sum()
}

/// Who sent how much, and what came of it.
fn table(names: &[String], users: &[User], seconds: f64) -> String {
    let rate = |bytes: usize| bytes as f64 * 8.0 / 1e6 / seconds;
    let mut table = format!(
        "limit {} Mbit/s, {seconds:.1} s\n{:8} {:>12} {:>12} {:>12} {:>12}\n",
        TOTAL / 1_000_000,
        "user",
        "sent Mbit/s",
        "came Mbit/s",
        "voice lost",
        "video lost"
    );
    for (name, user) in names.iter().zip(users) {
        let sent = user.voice.sent * VOICE + user.video.sent * VIDEO;
        let lost = |count: Count| format!("{}/{}", count.lost(), count.sent);
        let (sent, came) = (rate(sent), rate(user.delivered_bytes()));
        let (voice, video) = (lost(user.voice), lost(user.video));
        let _ = writeln!(
            table,
            "{name:8} {sent:12.2} {came:12.2} {voice:>12} {video:>12}"
        );
    }
    let all = rate(delivered(users));
    let _ = write!(table, "{:8} {:12} {all:12.2}", "all", "");
    table
}
