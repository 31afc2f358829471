//! What else a new process takes over, and how the rest of the machine sees it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;

use super::certificates::{Issuer, Kind};
use super::client::Client;
use super::dialogue::Dialogue;
use super::process::{LIMIT, root, run, skip, uninterrupted, until};
use super::relaying::echo_peer;
use super::server::{REALM, Server, binary, free_port};
use super::succession::{LOOPBACK, Pair, Succession, ends};

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_over_tls_and_dtls_stay_and_notice_nothing() {
    let (issuer, tls) = (Issuer::new(), loopback());
    let succession = Succession::new(&format!(
        "{LOOPBACK}[tls]\nlisten = [\"{tls}\"]\n\
         [[tls.certificates]]\nchain = \"ec-chain.pem\"\nkey = \"ec-key.pem\"\n"
    ));
    let directory = succession.path("");
    issuer
        .issue(Kind::Ec, &["127.0.0.1"])
        .write(&directory, "ec");
    let old = succession.start();
    let (peer, echo) = echo_peer("127.0.0.1").await;
    let over_tls = Client::tls(tls, issuer.client()).await;
    // Where plain UDP is served too, and where it is not.
    let mut over_dtls = [Pair::dtls(succession.address()), Pair::dtls(tls)];
    over_dtls.iter_mut().for_each(Pair::talks);
    let new = succession.succeed();
    over_tls.send(b"still here", peer).await;
    assert_eq!(over_tls.receive().await.unwrap().0, b"still here");
    over_dtls.iter_mut().for_each(Pair::talks);
    let between = new;
    let new = succession.succeed();
    over_dtls.iter_mut().for_each(Pair::talks);
    // New ones are the new process's.
    let late = Client::tls(tls, issuer.client()).await;
    late.send(b"here too", peer).await;
    assert_eq!(late.receive().await.unwrap().0, b"here too");
    let mut late_dtls = Pair::dtls(tls);
    late_dtls.talks();
    let there = new.metrics_when(|metrics| metrics.sum("turnstone_allocations") == 2.0);
    assert_eq!(there.sum("turnstone_allocations"), 2.0);
    assert_eq!(there.sum("turnstone_dtls_sessions"), 1.0);
    for pair in &mut over_dtls {
        pair.client.delete().unwrap();
        pair.client.close();
    }
    over_tls.close().await;
    drop(over_dtls);
    late.close().await;
    echo.abort();
    drop((old, between));
    late_dtls.talks();
    new.stop();
}

#[test]
fn an_old_process_keeps_no_port_from_a_server_that_is_started_anew() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut stays = Pair::tcp(succession.address());
    let mut new = succession.succeed();
    new.running().signal(Signal::INT);
    assert!(
        new.running()
            .wait(LIMIT)
            .is_some_and(|status| status.success())
    );
    assert!(!succession.socket().exists());
    let again = succession.start();
    Pair::udp(succession.address()).talks();
    stays.talks();
    drop(stays);
    ends(old);
    assert!(succession.socket().exists());
    again.stop();
}

#[test]
fn confined_processes_take_over_from_each_other() {
    let mut process = "[process]\nlandlock = true\nseccomp = true\n".to_owned();
    if root() {
        process += "user = \"daemon\"\n";
    } else {
        skip(
            "confined_processes_take_over_from_each_other (as daemon)",
            "needs root",
        );
    }
    let succession = Succession::new(&format!("{process}{LOOPBACK}"));
    let mut old = succession.start();
    let mut moves = Pair::udp(succession.address());
    for _ in 0..2 {
        let mut stays = Pair::tcp(succession.address());
        let new = succession.succeed();
        moves.talks();
        stays.talks();
        Pair::udp(succession.address()).talks();
        drop(stays);
        ends(old);
        old = new;
    }
    old.stop();
}

#[test]
fn addresses_come_and_go_with_the_configuration() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let added = loopback();
    let mut pair = Pair::udp(succession.address());
    let new = succession.succeed_with(&["--listen", &added.to_string()]);
    ends(old);
    pair.talks();
    Pair::udp(added).talks();
    Pair::tcp(added).talks();
    let last = succession.succeed();
    assert!(
        last.log()
            .contains(&format!("no longer listening on {added} (UDP)"))
    );
    pair.talks();
    drop(new);
    assert!(Dialogue::udp(added).binding().is_err());
    last.stop();
}

#[tokio::test]
async fn a_password_that_was_made_up_stays_good() {
    let (address, metrics) = (loopback(), loopback());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("turnserver.toml");
    let socket = directory.path().join("control.sock").display().to_string();
    fs::write(&file, format!("[control]\nsocket = {socket:?}\n")).unwrap();
    for user in [&[][..], &["--user", "dormouse"]] {
        let command = |subcommand: &[&str], workers| {
            let mut command = Command::new(binary());
            command
                .args(subcommand)
                .args(["--listen", &address.to_string(), "--realm", REALM])
                .args(["--metrics", &metrics.to_string(), "--workers", workers])
                .args(user)
                .arg("--config")
                .arg(&file);
            command
        };
        let old = Server::from_command(&mut command(&[], "3"), address, metrics);
        let said = old.output();
        let value = |key: &str| {
            let after = said.split(&format!("\"{key}\": \"")).nth(1).unwrap();
            after.split('"').next().unwrap().to_owned()
        };
        let mut other = command(&["upgrade", "--foreground"], "2");
        let new = Server::from_command(&mut other, address, metrics);
        ends(old);
        let (name, password) = (value("username"), value("credential"));
        let client = Client::udp_as(address, &name, &password).await;
        client.unwrap().close().await;
        let log = new.stop();
        assert!(log.contains("the 3 of the running server stay"), "{log}");
    }
}

#[test]
fn the_service_manager_follows_the_service() {
    let succession = Succession::new(LOOPBACK);
    let path = succession.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = uninterrupted(|| manager.recv(&mut buffer)).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // What it does is told now and then besides.
    let told_next = || {
        let all = std::iter::repeat_with(told);
        let mut news = all.filter(|said| !said.starts_with("STATUS="));
        news.next().unwrap()
    };
    let mut command = succession.command(&[]);
    let first = command.env("NOTIFY_SOCKET", &path);
    let old = Server::from_command(first, succession.address(), succession.metrics());
    assert_eq!(told_next(), "READY=1\nSTATUS=serving 0 allocations");
    let mut stays = Pair::tcp(succession.address());
    while told() != "STATUS=serving 1 allocation" {}
    // Without the variable: the old process lends its own way.
    let mut new = succession.succeed();
    let pid = new.running().pid();
    assert_eq!(told_next(), format!("MAINPID={pid}"));
    let with_older =
        "READY=1\nSTATUS=serving 0 allocations; the process before this one still has clients";
    assert_eq!(told_next(), with_older);
    stays.talks();
    drop(stays);
    ends(old);
    while told() != "STATUS=serving 0 allocations" {}
    let mut moves = Pair::udp(succession.address());
    while told() != "STATUS=serving 1 allocation" {}
    new.running().signal(Signal::USR1);
    while !told().starts_with("STATUS=draining: 1 allocation left, ends by ") {}
    moves.talks();
    new.stop();
    assert_eq!(told_next(), "STOPPING=1");
}

#[test]
fn the_same_file_is_only_asked_to_reload() {
    let succession = Succession::new(LOOPBACK);
    let mut old = succession.start();
    let (status, stdout, stderr) = run(&mut succession.command(&["upgrade", "--or-reload"]), LIMIT);
    assert!(status.success(), "{stderr}");
    assert!(stdout.contains("nothing differs"), "{stdout}");
    assert!(old.running().alive());
    // Another file of the same program is another program.
    let copy = succession.path("turnstone");
    fs::copy(binary(), &copy).unwrap();
    let (said, _detached) = succession.detach(&copy, &["upgrade", "--or-reload"]);
    assert!(said.contains("has taken over from pid"), "{said}");
    ends(old);
    let mut drain = Command::new(binary());
    drain.args(["drain", "--socket"]).arg(succession.socket());
    assert!(run(&mut drain, LIMIT).0.success());
    let stopped = || succession.log().contains("stopped");
    assert!(until(LIMIT, stopped), "{}", succession.log());
}

#[test]
fn the_control_socket_goes_along_or_is_removed() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    // Another name of the same file.
    let name = succession.path("./control.sock").display().to_string();
    let new = succession.succeed_with(&["--socket", &name]);
    ends(old);
    assert!(succession.socket().exists());
    let moved = succession.path("moved.sock");
    let text = format!(
        "[process]\nlandlock = true\n[control]\nsocket = \"{}\"\n{LOOPBACK}",
        moved.display()
    );
    fs::write(succession.path("turnserver.toml"), text).unwrap();
    let there = succession.socket().display().to_string();
    let last = succession.succeed_with(&["--socket", &there]);
    ends(new);
    assert!(!succession.socket().exists(), "{}", last.log());
    assert!(moved.exists());
    last.stop();
}
