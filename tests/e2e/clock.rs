//! The host's clock is set while the server serves: years ahead, years back, to 1970.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stun::message::METHOD_REFRESH;

use super::client::Client;
use super::dialogue::{Dialogue, channel_data};
use super::process::{lacks, run};
use super::server::{PASSWORD, SECRET, Server, USER, binary, free_port};

const DECADE: i64 = 10 * 365 * 86_400;
const HOUR: i64 = 3600;

/// The clock of one server.
struct Clock {
    file: File,
    path: PathBuf,
    /// What puts it in the place of the host's.
    library: PathBuf,
}

impl Clock {
    /// One that is right.
    fn make(directory: &Path) -> Self {
        let (path, library) = (directory.join("ahead"), directory.join("clock.so"));
        fs::write(&path, 0_i64.to_ne_bytes()).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Werror", source, "-o"]);
        let (status, _, errors) = run(compiler.arg(&library), Duration::from_secs(60));
        assert!(status.success(), "{errors}");
        let file = File::options().write(true).open(&path).unwrap();
        Self {
            file,
            path,
            library,
        }
    }

    /// Sets it to so many seconds after the right time.
    fn set(&self, ahead: i64) {
        self.file.write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }

    /// A server that lives by it.
    fn server(&self) -> Server {
        let [address, metrics] =
            [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut command = Command::new(binary());
        command
            .args(["--listen", &address.to_string()])
            .args(["--metrics", &metrics.to_string(), "--secret", SECRET])
            .args(["--user", &format!("{USER}:{PASSWORD}")])
            .args(["--realm", "wonderland.example"])
            .args(["--allow-peer", "127.0.0.1"])
            .env("LD_PRELOAD", &self.library)
            .env("CLOCK_AHEAD", &self.path);
        Server::from_command(&mut command, address, metrics)
    }
}

/// Name and password that are good for an hour.
fn time_limited() -> (String, String) {
    let mut command = Command::new(binary());
    command
        .args(["credential", "--json", "--user", "hatter", "--ttl", "1h"])
        .args(["--secret", SECRET]);
    let (_, printed, _) = run(&mut command, Duration::from_secs(30));
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let text = |key| printed[key].as_str().unwrap().to_owned();
    (text("username"), text("password"))
}

/// How many seconds after the right time it is 1970.
fn beginning() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    -i64::try_from(since.as_secs()).unwrap()
}

/// Both ends of a call on channel 0x4000 hear each other.
fn both_hear(client: &mut Dialogue, relayed: SocketAddr, peer: &UdpSocket) {
    let mut heard = [0; 16];
    client.send(&channel_data(0x4000, b"hear")).unwrap();
    assert_eq!(peer.recv(&mut heard).unwrap(), 4);
    peer.send_to(b"well", relayed).unwrap();
    assert_eq!(client.receive().unwrap(), channel_data(0x4000, b"well"));
}

#[tokio::test]
async fn a_clock_that_is_set_ends_no_call_and_locks_nobody_out() {
    if lacks(
        "a_clock_that_is_set_ends_no_call_and_locks_nobody_out",
        &["cc"],
    ) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::make(directory.path());
    let server = clock.server();
    let (user, password) = time_limited();

    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut client = Dialogue::udp(server.address());
    let relayed = client.allocate(None).unwrap();
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();

    let jumps = [
        (DECADE, false),
        (-DECADE, true),
        (2 * HOUR, false),
        (beginning(), true),
        (0, true),
    ];
    for (ahead, good) in jumps {
        clock.set(ahead);
        both_hear(&mut client, relayed, &peer);
        client.request(METHOD_REFRESH, &[]).unwrap();
        let other = Client::udp(server.address()).await;
        other.close().await;
        let timed = Client::udp_as(server.address(), &user, &password).await;
        assert_eq!(timed.is_ok(), good, "{ahead} s ahead");
        if let Ok(timed) = timed {
            timed.close().await;
        }
    }
    let metrics = server.metrics_when(|metrics| metrics.sum("turnstone_allocations") == 1.0);
    assert_eq!(metrics.sum("turnstone_allocations"), 1.0, "the call's");
    server.stop();
}
