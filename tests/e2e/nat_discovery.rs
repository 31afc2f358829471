//! NAT behaviour discovery (RFC 5780): coturn's tools against our server, `turnstone nat` against ours
//! and coturn's, and through NATs that the kernel makes.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::namespace::Namespace;
use super::process::{LIMIT, Running, lacks, run, uninterrupted, until};
use super::server::{Server, binary, free_port};

/// A server on 127.0.0.1 whose alternate address is 127.0.0.2.
fn server() -> Server {
    let file = configuration("127.0.0.2", free_port());
    let path = file.path().display().to_string();
    Server::listening(&["127.0.0.1"], &["--config", &path])
}

fn configuration(alternate: &str, port: u16) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text =
        format!("[nat_discovery]\nalternate_address = \"{alternate}\"\nalternate_port = {port}\n");
    std::fs::write(&file, text).unwrap();
    file
}

/// Exit code, standard output and standard error of `turnstone nat`.
fn ask(mut command: Command, arguments: &[&str]) -> (Option<i32>, String, String) {
    command.arg("nat").args(arguments);
    let (status, stdout, stderr) = run(&mut command, LIMIT);
    (status.code(), stdout, stderr)
}

/// What `turnstone nat --json` finds out against `server`. Where an answer does not come it waits for so
/// long: longer than whoever sends one is held up.
fn found(command: Command, server: &str) -> Value {
    let (code, stdout, stderr) = ask(command, &["--json", "--timeout", "8s", server]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn natdiscovery_reads_mapping_and_filtering() {
    natdiscovery("natdiscovery_reads_mapping_and_filtering", &["-m", "-f"]);
}

#[test]
fn natdiscovery_reads_them_with_padding() {
    natdiscovery("natdiscovery_reads_them_with_padding", &["-m", "-f", "-P"]);
}

fn natdiscovery(test: &str, flags: &[&str]) {
    if lacks(test, &["turnutils_natdiscovery"]) {
        return;
    }
    let server = server();
    let mut command = Command::new("turnutils_natdiscovery");
    let port = server.address().port().to_string();
    command.args(flags).args(["-p", &port, "127.0.0.1"]);
    let (status, stdout, stderr) = run(&mut command, LIMIT);
    let output = format!("{stdout}{stderr}");
    assert!(status.success(), "{output}");
    for line in [
        "NAT with Endpoint Independent Mapping!",
        "NAT with Endpoint Independent Filtering!",
        "No ALG: Mapped == XOR-Mapped",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    server.stop();
}

/// RFC 5780 §4.6: the answer comes to the other port (RESPONSE-PORT).
#[test]
fn natdiscovery_reads_the_lifetime_of_a_mapping() {
    let test = "natdiscovery_reads_the_lifetime_of_a_mapping";
    if lacks(test, &["turnutils_natdiscovery"]) {
        return;
    }
    let server = server();
    let mut command = Command::new("turnutils_natdiscovery");
    let port = server.address().port().to_string();
    command.args(["-t", "-T", "1", "-p", &port, "127.0.0.1"]);
    let (status, stdout, stderr) = run(&mut command, LIMIT);
    let output = format!("{stdout}{stderr}");
    assert!(
        status.success() && output.contains("RFC 5780 response 2"),
        "{output}"
    );
    server.stop();
}

#[test]
fn stunclient_hears_from_the_alternate_address() {
    let test = "stunclient_hears_from_the_alternate_address";
    if lacks(test, &["turnutils_stunclient"]) {
        return;
    }
    let server = server();
    let port = server.address().port();
    let mut command = Command::new("turnutils_stunclient");
    command.args(["-p", &port.to_string(), "127.0.0.1"]);
    let (status, stdout, stderr) = run(&mut command, LIMIT);
    let output = format!("{stdout}{stderr}");
    assert!(status.success(), "{output}");
    for part in ["RFC 5780 response 3", "Response origin: : 127.0.0.2:"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    server.stop();
}

/// RFC 3489: sixteen bytes of id, MAPPED-ADDRESS.
#[test]
fn a_client_of_rfc_3489_is_answered() {
    let server = Server::start(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send(b"\0\x01\0\0sixteen bytes id").unwrap();
    let mut buffer = [0; 64];
    let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    let port = socket.local_addr().unwrap().port().to_be_bytes();
    let mapped = [0, 1, 0, 8, 0, 1, port[0], port[1], 127, 0, 0, 1];
    let expected = [b"\x01\x01\0\x0csixteen bytes id", &mapped[..]].concat();
    assert_eq!(buffer[..length], expected);
    server.stop();
}

#[test]
fn nat_against_each_of_our_four_addresses() {
    let server = server();
    let first = found(Command::new(binary()), &server.address().to_string());
    let opposite: SocketAddr = first["alternate"].as_str().unwrap().parse().unwrap();
    let addresses = [server.address(), opposite].map(|a| a.ip());
    let ports = [server.address(), opposite].map(|a| a.port());
    for (i, ip) in addresses.into_iter().enumerate() {
        for (j, port) in ports.into_iter().enumerate() {
            let at = SocketAddr::new(ip, port);
            let found = found(Command::new(binary()), &at.to_string());
            let other = SocketAddr::new(addresses[1 - i], ports[1 - j]);
            assert_eq!(found["alternate"], json!(other.to_string()));
            check(
                &found,
                false,
                "endpoint-independent",
                "endpoint-independent",
            );
        }
    }
    server.stop();
}

#[test]
fn nat_against_coturn() {
    if lacks("nat_against_coturn", &["turnserver"]) {
        return;
    }
    let (port, alternate) = (free_port().to_string(), free_port().to_string());
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut command = Command::new("turnserver");
    command
        .args(["-n", "--no-cli", "--no-auth", "--no-tls", "--no-dtls"])
        .args([
            "--allow-loopback-peers",
            "--log-file",
            "stdout",
            "--realm",
            "x",
        ])
        .args(["-L", "127.0.0.1", "-L", "127.0.0.2"])
        .args(["-p", &port, "--alt-listening-port", &alternate])
        .args(["--pidfile", &path("pid"), "--db", &path("db")]);
    let _coturn = Running::start(&mut command);
    let at = format!("127.0.0.1:{port}");
    let up = until(LIMIT, || {
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
        let timeout = Some(Duration::from_millis(100));
        probe.set_read_timeout(timeout).unwrap();
        let request = b"\0\x01\0\0\x21\x12\xA4\x42transaction!";
        probe.send_to(request, &at).is_ok() && probe.recv(&mut [0; 512]).is_ok()
    });
    assert!(up, "coturn does not answer at {at}");
    let found = found(Command::new(binary()), &at);
    assert_eq!(found["alternate"], json!(format!("127.0.0.2:{alternate}")));
    check(
        &found,
        false,
        "endpoint-independent",
        "endpoint-independent",
    );
}

#[test]
fn nat_says_when_the_server_has_no_alternate_address() {
    let server = Server::start(&[]);
    let at = server.address().to_string();
    let (code, stdout, stderr) = ask(Command::new(binary()), &[&at]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("(no NAT)"), "{stdout}");
    assert!(stderr.contains("has no alternate address"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    server.stop();
}

#[test]
fn nat_says_when_nothing_answers() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let (code, stdout, stderr) = ask(Command::new(binary()), &["--timeout", "1s", &at]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("UDP is blocked on the way"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn nat_through_a_masquerade_that_keeps_ports() {
    through(
        "nat_through_a_masquerade_that_keeps_ports",
        "chain out { type nat hook postrouting priority 100; oifname outside masquerade; }",
        ["endpoint-independent", "address-and-port-dependent"],
    );
}

#[test]
fn nat_through_a_symmetric_masquerade() {
    through(
        "nat_through_a_symmetric_masquerade",
        "chain out { type nat hook postrouting priority 100; \
         oifname outside masquerade random,fully-random; }",
        ["address-and-port-dependent", "address-and-port-dependent"],
    );
}

#[test]
fn nat_through_a_full_cone() {
    through(
        "nat_through_a_full_cone",
        "chain out { type nat hook postrouting priority 100; oifname outside masquerade; }\n\
         chain in { type nat hook prerouting priority -100; \
         iifname outside ip protocol udp dnat to 10.0.0.2; }",
        ["endpoint-independent", "endpoint-independent"],
    );
}

#[test]
fn nat_through_a_firewall_that_looks_at_addresses() {
    // The rest of what a remote address sends is let in once it was sent to.
    through(
        "nat_through_a_firewall_that_looks_at_addresses",
        "set known { type ipv4_addr; timeout 1m; flags dynamic; }\n\
         chain learn { type filter hook forward priority 0; \
         oifname outside update @known { ip daddr }; }\n\
         chain out { type nat hook postrouting priority 100; oifname outside masquerade; }\n\
         chain in { type nat hook prerouting priority -100; \
         iifname outside ip saddr @known ip protocol udp dnat to 10.0.0.2; }",
        ["endpoint-independent", "address-dependent"],
    );
}

#[test]
fn nat_says_when_udp_is_blocked_by_a_firewall() {
    let test = "nat_says_when_udp_is_blocked_by_a_firewall";
    let rules = "chain stop { type filter hook forward priority 0; ip protocol udp drop; }";
    let Some(network) = Network::new(test, rules) else {
        return;
    };
    let arguments = ["--timeout", "1s", "192.0.2.10"];
    let (code, _, stderr) = ask(network.client.command(&binary()), &arguments);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("UDP is blocked"), "{stderr}");
}

/// A client behind a NAT with `rules` finds out that it maps and filters as `expected`.
fn through(test: &str, rules: &str, expected: [&str; 2]) {
    let Some(network) = Network::new(test, rules) else {
        return;
    };
    let file = configuration("192.0.2.11", 3479);
    let path = file.path().display().to_string();
    let addresses = ["192.0.2.10"];
    let server = Server::on(&network.server, &addresses, &["--config", &path]);
    let command = network.client.command(&binary());
    let found = found(command, &server.address().to_string());
    check(&found, true, expected[0], expected[1]);
    let mapped = found["mapped"].as_str().unwrap();
    assert!(mapped.starts_with("192.0.2.1:"), "{found}");
    server.stop();
}

fn check(found: &Value, nat: bool, mapping: &str, filtering: &str) {
    assert_eq!(found["nat"], json!(nat), "{found}");
    assert_eq!(found["mapping"], json!(mapping), "{found}");
    assert_eq!(found["filtering"], json!(filtering), "{found}");
    assert_eq!(found["hairpinning"].is_boolean(), nat, "{found}");
}

/// A client at 10.0.0.2, a NAT at 10.0.0.1 and 192.0.2.1, a server at 192.0.2.10 and 192.0.2.11.
struct Network {
    client: Namespace,
    _nat: Namespace,
    server: Arc<Namespace>,
}

impl Network {
    /// A network whose NAT has the nftables `rules`; none, said loudly, where it cannot be made.
    fn new(test: &str, rules: &str) -> Option<Self> {
        if Namespace::unavailable(test) || lacks(test, &["nft"]) {
            return None;
        }
        let [client, nat, server] = [(); 3].map(|()| Namespace::new());
        nat.connect(("inside", "10.0.0.1/24"), &client, ("eth0", "10.0.0.2/24"));
        nat.connect(
            ("outside", "192.0.2.1/24"),
            &server,
            ("eth0", "192.0.2.10/24"),
        );
        client.ip("route add default via 10.0.0.1");
        server.ip("address add 192.0.2.11/24 dev eth0");
        nat.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("table ip nat {{\n{rules}\n}}\n")).unwrap();
        let mut nft = nat.command("nft");
        nft.arg("-f").arg(file.path());
        let (status, _, stderr) = run(&mut nft, LIMIT);
        assert!(status.success(), "nft: {stderr}");
        Some(Self {
            client,
            _nat: nat,
            server: Arc::new(server),
        })
    }
}
