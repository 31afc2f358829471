//! Two browsers that have nothing but the relay between them: data and video, both ways.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::namespace::Namespace;
use super::process::{LIMIT, Running, lacks, run};
use super::server::{PASSWORD, Server, USER};
use super::signalling::{ROLES, Signalling};
use super::tls::Secured;

const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn chromium_talks_to_chromium_over_udp() {
    if !lacks("chromium_talks_to_chromium_over_udp", &["chromium"]) {
        on_one_host("udp");
    }
}

#[test]
fn chromium_talks_to_chromium_over_tcp() {
    if !lacks("chromium_talks_to_chromium_over_tcp", &["chromium"]) {
        on_one_host("tcp");
    }
}

#[test]
fn chromium_talks_to_chromium_over_tls() {
    let test = "chromium_talks_to_chromium_over_tls";
    if lacks(test, &["chromium", "certutil"]) {
        return;
    }
    let secured = Secured::start(&[]);
    let issuer = secured.issuer.file(secured.directory.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let signalling = Signalling::serve(listener);
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, signalling.port()));
    let browsers = ROLES.map(|role| {
        let page = Page {
            role,
            page,
            server: secured.tls,
            transport: "tls",
        };
        Browser::open_trusting(Some(&issuer), Command::new("chromium"), &page)
    });
    conversed(&signalling, ["tls", "tls"]);
    drop(browsers);
    secured.server.stop();
}

#[test]
fn chromiums_on_separate_networks_talk_over_udp() {
    let test = "chromiums_on_separate_networks_talk_over_udp";
    if !lacks(test, &["chromium"]) && !Namespace::unavailable(test) {
        on_separate_networks(["udp", "udp"]);
    }
}

#[test]
fn chromiums_on_separate_networks_talk_over_tcp_and_udp() {
    let test = "chromiums_on_separate_networks_talk_over_tcp_and_udp";
    if !lacks(test, &["chromium"]) && !Namespace::unavailable(test) {
        on_separate_networks(["tcp", "udp"]);
    }
}

/// Both browsers and the server share the loopback interface.
fn on_one_host(transport: &str) {
    let server = Server::start(&[]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let signalling = Signalling::serve(listener);
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, signalling.port()));
    let browsers = ROLES.map(|role| {
        let page = Page {
            role,
            page,
            server: server.address(),
            transport,
        };
        Browser::open(Command::new("chromium"), &page)
    });
    conversed(&signalling, [transport, transport]);
    took_the_short_way(&server);
    drop(browsers);
    server.stop();
}

/// The browsers live on two networks; the server has an address in each and forwards nothing.
fn on_separate_networks(transports: [&str; 2]) {
    let (middle, left, right) = (Namespace::new(), Namespace::new(), Namespace::new());
    middle.connect(("left", "10.91.1.1/24"), &left, ("uplink", "10.91.1.2/24"));
    middle.connect(
        ("right", "10.91.2.1/24"),
        &right,
        ("uplink", "10.91.2.2/24"),
    );
    assert_unreachable(&left, "10.91.2.2");
    assert_unreachable(&right, "10.91.1.2");

    let middle = Arc::new(middle);
    let addresses = ["10.91.1.1", "10.91.2.1"];
    let server = Server::on(&middle, &addresses, &[]);
    let listener = middle.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let signalling = Signalling::serve(listener);
    let [offering, answering] = [(0, left), (1, right)].map(|(side, host)| {
        let page = Page {
            role: ROLES[side],
            page: SocketAddr::new(addresses[side].parse().unwrap(), signalling.port()),
            server: server.address_at(addresses[side]),
            transport: transports[side],
        };
        (Browser::open(host.command("chromium"), &page), host)
    });
    conversed(&signalling, transports);
    took_the_short_way(&server);
    drop((offering, answering));
    server.stop();
}

/// Most of what one browser sent to the other's relayed address never left the process.
#[track_caller]
fn took_the_short_way(server: &Server) {
    let metrics = server.metrics();
    let hopped = metrics.sum("turnstone_relay_hops_total");
    let relayed = metrics.sum("turnstone_relayed_packets_total") / 2.0;
    assert!(hopped > 0.9 * relayed, "{hopped} of {relayed}");
}

fn assert_unreachable(from: &Namespace, address: &str) {
    let address: Ipv4Addr = address.parse().unwrap();
    let sent = from.inside(|| std::net::UdpSocket::bind("0.0.0.0:0")?.connect((address, 9)));
    assert!(sent.is_err(), "there is a route to {address}");
}

/// Both sides report bulk data echoed, frames decoded and a pair of relayed candidates.
fn conversed(signalling: &Signalling, transports: [&str; 2]) {
    let reports = signalling.reports(PATIENCE);
    for (report, transport) in reports.iter().zip(transports) {
        let seen = || format!("{transport}: {reports:#?}");
        assert_eq!(report["error"], Value::from(""), "{}", seen());
        assert_eq!(report["echoed"], Value::from(200_000), "{}", seen());
        assert!(report["framesDecoded"].as_u64() >= Some(5), "{}", seen());
        assert_eq!(report["local"], Value::from("relay"), "{}", seen());
        assert_eq!(report["remote"], Value::from("relay"), "{}", seen());
        assert_eq!(
            report["relayProtocol"],
            Value::from(transport),
            "{}",
            seen()
        );
    }
}

/// What one browser opens.
struct Page<'a> {
    role: &'a str,
    page: SocketAddr,
    server: SocketAddr,
    transport: &'a str,
}

impl Page<'_> {
    fn address(&self) -> String {
        let (server, transport, role) = (self.server, self.transport, self.role);
        let turn = match transport {
            "tls" => format!("turns:{server}?transport=tcp"),
            _ => format!("turn:{server}?transport={transport}"),
        };
        let turn = turn.replace('?', "%3F").replace('=', "%3D");
        let account = format!("username={USER}&credential={PASSWORD}");
        format!("http://{}/?role={role}&url={turn}&{account}", self.page)
    }
}

/// Puts `issuer` into the database of those that programs of the user whose home is `home` trust.
fn trust(issuer: &Path, home: &Path) {
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let mut command = Command::new("certutil");
    command
        .args(["-A", "-t", "C,,", "-n", "issuer", "-d"])
        .arg(format!("sql:{}", database.display()))
        .arg("-i")
        .arg(issuer);
    let (status, stdout, stderr) = run(&mut command, LIMIT);
    assert!(status.success(), "{stdout}{stderr}");
}

/// One headless Chromium with a profile of its own and a camera that films a test card.
struct Browser {
    _running: Running,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(command: Command, page: &Page<'_>) -> Self {
        Self::open_trusting(None, command, page)
    }

    /// A browser that trusts the certificate in the file `issuer` too.
    fn open_trusting(issuer: Option<&Path>, mut command: Command, page: &Page<'_>) -> Self {
        let profile = tempfile::tempdir().unwrap();
        if let Some(issuer) = issuer {
            trust(issuer, profile.path());
        }
        command
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-sync",
                "--disable-breakpad",
                "--disable-dev-shm-usage",
                "--disable-component-update",
                "--disable-background-networking",
                "--no-first-run",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream=fps=15",
                "--autoplay-policy=no-user-gesture-required",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!(
                "--unsafely-treat-insecure-origin-as-secure=http://{}",
                page.page
            ))
            .arg(page.address());
        Self {
            _running: Running::start(&mut command),
            _profile: profile,
        }
    }
}
