//! What an operator meets: start, configuration, signals, metrics, logs, subcommands.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::dialogue::Dialogue;
use super::metrics::Metrics;
use super::namespace::Namespace;
use super::process::{LIMIT, lacks, run, uninterrupted, until};
use super::server::{PASSWORD, REALM, SECRET, Server, binary, free_port};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/turnserver.toml");

#[test]
fn started_with_nothing_it_prints_ice_servers_that_work() {
    let test = "started_with_nothing_it_prints_ice_servers_that_work";
    if Namespace::unavailable(test) {
        return;
    }
    let (host, neighbour) = (Namespace::new(), Namespace::new());
    host.connect(("lan", "10.92.0.1/24"), &neighbour, ("lan", "10.92.0.2/24"));
    let server = Server::with_defaults(&Arc::new(host), SocketAddr::from(([10, 92, 0, 1], 3478)));
    let ice = IceServers::of(&server.output());
    assert!(ice.offers("turn:10.92.0.1:3478?transport=udp"), "{ice:?}");
    assert!(ice.offers("turn:10.92.0.1:3478?transport=tcp"), "{ice:?}");
    neighbour.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let client = Client::udp_as(server.address(), &ice.username, &ice.credential).await;
            let client = client.unwrap();
            assert_eq!(client.relayed().ip(), server.address().ip());
            client.close().await;
        });
    });
    server.stop();
}

#[tokio::test]
async fn a_user_without_password_gets_one_that_works() {
    let (address, metrics) = (loopback(), loopback());
    let mut command = Command::new(binary());
    command
        .args(["--user", "dormouse", "--listen", &address.to_string()])
        .args(["--metrics", &metrics.to_string()]);
    let server = Server::from_command(&mut command, address, metrics);
    let ice = IceServers::of(&server.output());
    assert_eq!(ice.username, "dormouse");
    let client = Client::udp_as(address, &ice.username, &ice.credential).await;
    client.unwrap().close().await;
    server.stop();
}

#[test]
fn a_taken_udp_port_is_one_clear_line() {
    let address = loopback();
    let _taken = UdpSocket::bind(address).unwrap();
    refuses_to_start(address, &address.port().to_string());
}

#[test]
fn a_taken_tcp_port_is_one_clear_line() {
    let address = loopback();
    let _taken = TcpListener::bind(address).unwrap();
    refuses_to_start(address, &address.port().to_string());
}

#[test]
fn a_second_server_on_the_same_port_does_not_join() {
    let server = Server::start(&[]);
    refuses_to_start(server.address(), &server.address().port().to_string());
    server.stop();
}

#[test]
fn a_taken_metrics_port_is_one_clear_line() {
    let metrics = loopback();
    let _taken = TcpListener::bind(metrics).unwrap();
    let (listen, metrics) = (loopback().to_string(), metrics.to_string());
    let stderr = fails(Command::new(binary()).args(["--listen", &listen, "--metrics", &metrics]));
    assert_one_line(&stderr, &metrics);
}

#[test]
fn a_relay_address_of_another_host_is_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("turnserver.toml");
    std::fs::write(&file, "[relay]\naddresses = [\"192.0.2.77\"]\n").unwrap();
    let mut command = Command::new(binary());
    command
        .args(["--listen", &loopback().to_string(), "--metrics", "off"])
        .arg("--config")
        .arg(&file);
    assert_one_line(&fails(&mut command), "cannot relay from 192.0.2.77");
}

#[test]
fn a_missing_file_is_one_clear_line() {
    let stderr = fails(Command::new(binary()).args(["--config", "no-such-file.toml"]));
    assert_one_line(&stderr, "no-such-file.toml");
}

#[test]
fn too_few_descriptors_are_one_clear_line() {
    let script = format!(
        "ulimit -n 40; exec {} --listen {} --metrics off",
        binary(),
        loopback()
    );
    let stderr = fails(Command::new("sh").args(["-c", &script]));
    assert_one_line(&stderr, "LimitNOFILE");
}

#[test]
fn a_wrong_file_shows_every_problem_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    let port = free_port();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 0\n\
         [auth]\nrelm = \"typo\"\n[relay]\nports = \"9-5\"\n[lifetimes]\nnonce = \"soon\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let problems = [
        "wrong.toml:3",
        "relm",
        "realm",
        "wrong.toml:7",
        "wrong.toml:9",
    ];

    let started = fails(Command::new(binary()).arg("--config").arg(&file));
    let checked = run(Command::new(binary()).arg("check").arg(&file), LIMIT);
    assert_eq!(checked.0.code(), Some(1));
    for said in [started, format!("{}{}", checked.1, checked.2)] {
        for problem in problems {
            assert!(said.contains(problem), "{problem} is missing:\n{said}");
        }
    }
}

#[test]
fn the_shipped_file_is_right() {
    let (status, stdout, stderr) = run(Command::new(binary()).args(["check", SHIPPED]), LIMIT);
    assert!(status.success(), "{stdout}{stderr}");
}

#[test]
fn metrics_and_health_are_served() {
    let server = Server::start(&[]);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).unwrap().0, 200, "{path}");
    }
    assert_eq!(server.get("/elsewhere").unwrap().0, 404);
    assert!(server.metrics().resident() > 0.0);
    server.stop();
}

#[test]
fn promtool_has_nothing_to_say() {
    if lacks("promtool_has_nothing_to_say", &["promtool"]) {
        return;
    }
    let server = Server::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let scrape = directory.path().join("scrape");
    std::fs::write(&scrape, server.get("/metrics").unwrap().1).unwrap();
    let script = format!("promtool check metrics <{}", scrape.display());
    let (status, stdout, stderr) = run(Command::new("sh").args(["-c", &script]), LIMIT);
    assert!(status.success(), "{stdout}{stderr}");
    assert_eq!(stdout + &stderr, "");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_amid_traffic_that_goes_on_ends_it() {
    let file = "[drain]\nstop_limit = 1\n";
    let mut server = Server::configured(file, &["--allow-peer", "127.0.0.1"]);
    let (peer, echo) = super::relaying::echo_peer("127.0.0.1").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Arc::new(Client::udp(server.address()).await));
        clients.push(Arc::new(Client::tcp(server.address()).await));
    }
    let traffic: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move { while client.try_send(&[7; 500], peer).await.is_ok() {} })
        })
        .collect();
    let flows = |metrics: &Metrics| metrics.sum("turnstone_relayed_packets_total") > 0.0;
    assert!(flows(&server.metrics_when(flows)));
    server.running().terminate();
    let status = server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    traffic.iter().for_each(|task| task.abort());
    echo.abort();
}

#[test]
fn sigint_ends_it_too() {
    let mut server = Server::start(&[]);
    let pid = server.running().pid();
    let (status, _, _) = run(
        Command::new("sh").args(["-c", &format!("kill -INT {pid}")]),
        LIMIT,
    );
    assert!(status.success());
    let status = server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// It hardly wakes, which does not depend on how fast the machine is, and does not run without a pause.
#[test]
fn an_idle_server_uses_no_cpu() {
    let mut server = Server::start(&[]);
    let pid = server.running().pid();
    let used = || {
        (
            pauses(pid),
            server.metrics().sum("process_cpu_seconds_total"),
        )
    };
    let mut last = String::new();
    let rests = until(LIMIT, || {
        let (began, before) = (Instant::now(), used());
        std::thread::sleep(Duration::from_secs(2));
        let (seconds, after) = (began.elapsed().as_secs_f64(), used());
        let pauses = (after.0 - before.0) / seconds;
        let busy = (after.1 - before.1) / seconds;
        last = format!("{pauses} pauses and {busy} s of work in a second");
        pauses < 20.0 && busy < 0.05
    });
    assert!(rests, "{last}");
    server.stop();
}

/// How often the threads of process `pid` have stopped to wait for something.
fn pauses(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |path: std::path::PathBuf| -> Option<f64> {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    threads
        .filter_map(|thread| of_thread(thread.unwrap().path()))
        .sum()
}

#[test]
fn the_service_manager_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let (address, metrics) = (loopback(), loopback());
    let mut command = Command::new(binary());
    command
        .env("NOTIFY_SOCKET", &path)
        .args(["--listen", &address.to_string()])
        .args(["--metrics", &metrics.to_string()]);
    let server = Server::from_command(&mut command, address, metrics);
    let told = || {
        let mut buffer = [0; 256];
        let length = uninterrupted(|| manager.recv(&mut buffer)).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(told().contains("READY=1"));
    server.stop();
    assert!(told().contains("STOPPING=1"));
}

#[tokio::test]
async fn json_logs_are_json_and_no_log_has_a_secret() {
    let arguments = ["--log-level", "trace", "--log-format", "json"];
    let server = Server::start(&[&arguments[..], &["--allow-peer", "127.0.0.1"]].concat());
    let client = Client::udp(server.address()).await;
    let (peer, echo) = super::relaying::echo_peer("127.0.0.1").await;
    client.send(b"off with their heads", peer).await;
    assert!(client.receive().await.is_some());
    let refused = Client::udp_as(server.address(), "alice", "wrong-password").await;
    assert!(refused.is_err());
    client.close().await;
    echo.abort();

    let log = server.stop();
    assert!(!log.is_empty());
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    for secret in [PASSWORD, SECRET, "wrong-password", "off with their heads"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// S4: why a peer was refused, for who looks for it, and for nobody else.
#[test]
fn the_debug_log_names_refused_peers_and_the_rule() {
    for (level, is_named) in [("debug", true), ("info", false)] {
        let denied = [
            "--deny-peer",
            "198.18.0.0/24",
            "--allow-peer",
            "198.18.0.0/15",
        ];
        let server = Server::start(&[&denied[..], &["--log-level", level]].concat());
        let mut client = Dialogue::udp(server.address());
        client.allocate(None).unwrap();
        let peer = |text: &str| text.parse().unwrap();
        assert_eq!(client.permit(peer("10.1.2.3:4")), Err(403));
        assert_eq!(client.bind(0x4000, peer("198.18.0.9:4")), Err(403));
        assert_eq!(client.permit(peer("198.18.1.9:4")), Ok(()));
        client.delete().unwrap();
        let log = server.stop();
        for (rule, peer, why) in [
            ("rule=10.0.0.0/8", "peer=10.1.2.3:4", "special_purpose"),
            ("rule=198.18.0.0/24", "peer=198.18.0.9:4", "operator_rule"),
        ] {
            let names = |line: &str| [rule, peer, why].iter().all(|part| line.contains(part));
            assert_eq!(log.lines().any(names), is_named, "{rule}");
        }
        assert!(!log.contains("198.18.1.9"));
    }
}

#[tokio::test]
async fn time_limited_credentials_work_until_they_expire() {
    let server = Server::start(&[]);
    let credential = |ttl: &str| {
        let mut command = Command::new(binary());
        command
            .args(["credential", "--json", "--user", "hatter", "--ttl", ttl])
            .args(["--secret", SECRET, "--host", "turn.example.org"]);
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        assert!(status.success(), "{stderr}");
        let value: Value = serde_json::from_str(&stdout).unwrap();
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        assert!(
            value["iceServers"]
                .to_string()
                .contains("turn:turn.example.org"),
            "{value}"
        );
        (text("username"), text("password"))
    };
    let (user, password) = credential("1h");
    let client = Client::udp_as(server.address(), &user, &password).await;
    client.unwrap().close().await;

    let (user, password) = credential("1s");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let late = Client::udp_as(server.address(), &user, &password).await;
    assert!(late.is_err(), "expired credentials were accepted");
    server.stop();
}

#[tokio::test]
async fn a_stored_key_stands_for_the_password() {
    let mut command = Command::new(binary());
    command.args([
        "key",
        "--user",
        "duchess",
        "--realm",
        REALM,
        "--password",
        "pepper",
    ]);
    let (status, user, stderr) = run(&mut command, LIMIT);
    assert!(status.success(), "{stderr}");
    assert!(!user.contains("pepper"), "{user}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stored-key.toml");
    std::fs::write(&file, user).unwrap();
    let server = Server::start(&["--config", &file.display().to_string()]);
    let client = Client::udp_as(server.address(), "duchess", "pepper").await;
    client.unwrap().close().await;
    server.stop();
}

/// The server does not start on `address`, exits with 1 and says so in a line that names `what`.
fn refuses_to_start(address: SocketAddr, what: &str) {
    let listen = address.to_string();
    let stderr = fails(Command::new(binary()).args(["--listen", &listen, "--metrics", "off"]));
    assert_one_line(&stderr, what);
}

/// What `command` writes to standard error before it exits with 1.
fn fails(command: &mut Command) -> String {
    let (status, stdout, stderr) = run(command, LIMIT);
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    stderr
}

fn assert_one_line(stderr: &str, what: &str) {
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    assert!(stderr.contains(what), "{what} is not named: {stderr}");
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// What the server prints to be pasted into an application.
#[derive(Debug)]
struct IceServers {
    urls: Vec<String>,
    username: String,
    credential: String,
}

impl IceServers {
    fn of(printed: &str) -> Self {
        let json = &printed[printed.find('{').unwrap()..=printed.rfind('}').unwrap()];
        let value: Value = serde_json::from_str(json).unwrap();
        let server = &value["iceServers"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            urls: server["urls"]
                .as_array()
                .unwrap()
                .iter()
                .map(text)
                .collect(),
            username: text(&server["username"]),
            credential: text(&server["credential"]),
        }
    }

    fn offers(&self, url: &str) -> bool {
        self.urls.iter().any(|offered| offered == url)
    }
}
