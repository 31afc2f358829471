//! A server that has given up what it does not need: root, files, system calls.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::certificates::{Issuer, Kind};
use super::client::Client;
use super::dialogue::Dialogue;
use super::metrics::Metrics;
use super::process::{LIMIT, root, run, skip, until};
use super::relaying::echo_peer;
use super::server::{Server, binary, free_port};

const OTHER_USER: &str = "daemon";
const CONFINED: &str = "[process]\nlandlock = true\nseccomp = true\n";

/// A directory that every user can read, with a configuration in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let files = Self(directory);
        files.rewrite(text);
        files
    }

    fn rewrite(&self, text: &str) {
        let socket = self.path("control.sock").display().to_string();
        let text = format!("[control]\nsocket = {socket:?}\n{text}");
        self.write("turnserver.toml", &text);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn server(&self) -> Server {
        let file = self.path("turnserver.toml").display().to_string();
        Server::start(&["--config", &file, "--allow-peer", "127.0.0.1"])
    }

    fn reload(&self) -> (bool, String) {
        let mut command = Command::new(binary());
        command
            .args(["reload", "--socket"])
            .arg(self.path("control.sock"));
        let (status, stdout, stderr) = run(&mut command, LIMIT);
        (status.success(), stdout + &stderr)
    }
}

/// The field `name` of each thread of the process.
fn of_threads(pid: u32, name: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let field = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start_matches(':').trim().to_owned()
    };
    threads
        .map(|thread| field(&thread.unwrap().path()))
        .collect()
}

async fn relays(server: &Server) {
    let (peer, echo) = echo_peer("127.0.0.1").await;
    for client in [
        Client::udp(server.address()).await,
        Client::tcp(server.address()).await,
    ] {
        client.send(b"still here", peer).await;
        assert_eq!(client.receive().await.unwrap().0, b"still here");
        client.close().await;
    }
    echo.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_files_and_system_calls_it_does_all_that_it_should() {
    let files = Files::new(CONFINED);
    let mut server = files.server();
    let pid = server.running().pid();
    assert!(of_threads(pid, "Seccomp").iter().all(|mode| mode == "2"));
    assert!(of_threads(pid, "NoNewPrivs").iter().all(|set| set == "1"));
    relays(&server).await;
    let metrics = server.metrics();
    assert!(metrics.resident() > 0.0 && metrics.sum("process_open_fds") > 0.0);

    files.write("more-secrets.txt", "once-upon-a-midnight\n");
    let named = "[auth]\nsecrets_files = [\"more-secrets.txt\"]\n";
    files.rewrite(&format!("{CONFINED}{named}[limits]\nallocations = 7\n"));
    let (good, text) = files.reload();
    assert!(good && text.contains("auth.secrets: changed"), "{text}");
    assert!(!text.contains("server.workers"), "{text}");
    relays(&server).await;

    files.rewrite(&format!("{CONFINED}[log]\nlevel = \"debug\"\n"));
    server.running().signal(Signal::HUP);
    assert!(until(LIMIT, || server.log().contains("log.level: changed")));
    assert!(files.reload().0);
    server.running().signal(Signal::USR1);
    let status = server.running().wait(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(!files.path("control.sock").exists(), "it is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_behind_links_are_read_again() {
    let (issuer, archive) = (Issuer::new(), tempfile::tempdir().unwrap());
    let issue = || issuer.issue(Kind::Ec, &["127.0.0.1"]);
    issue().write(archive.path(), "ec");
    let tls = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let files = Files::new(&format!(
        "{CONFINED}[tls]\nlisten = [\"{tls}\"]\n\
         [[tls.certificates]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n"
    ));
    for part in ["chain.pem", "key.pem"] {
        let target = archive.path().join(format!("ec-{part}"));
        symlink(target, files.path(part)).unwrap();
    }
    let server = files.server();
    issue().write(archive.path(), "ec");
    let reloads = "turnstone_certificate_reloads_total";
    let renewed = |metrics: &Metrics| metrics.with(reloads, "applied") > 0.0;
    let metrics = server.metrics_when(renewed);
    assert!(renewed(&metrics), "{}", server.log());
    let (peer, echo) = echo_peer("127.0.0.1").await;
    let client = Client::tls(tls, issuer.client()).await;
    client.send(b"in secret", peer).await;
    assert_eq!(client.receive().await.unwrap().0, b"in secret");
    client.close().await;
    echo.abort();
    server.stop();
}

#[test]
fn files_of_other_directories_are_out_of_reach() {
    let elsewhere = Files::new("");
    elsewhere.write("secrets.txt", "once-upon-a-midnight\n");
    let path = elsewhere.path("secrets.txt").display().to_string();
    let naming = format!("[auth]\nsecrets_files = [{path:?}]\n");
    for (landlock, reachable) in [(true, false), (false, true)] {
        let process = format!("[process]\nlandlock = {landlock}\n");
        let files = Files::new(&process);
        let server = files.server();
        files.rewrite(&format!("{process}{naming}"));
        let (good, text) = files.reload();
        assert_eq!(good, reachable, "{text}");
        let explained = text.contains(&path) && text.contains("[process] landlock");
        assert_eq!(explained, !reachable, "{text}");
        Dialogue::udp(server.address()).allocate(None).unwrap();
        server.stop();
    }
    // Known from the start they are read again.
    let files = Files::new(&naming);
    let server = files.server();
    elsewhere.write("secrets.txt", "another-one-of-them\n");
    let (good, text) = files.reload();
    assert!(good && text.contains("auth.secrets: changed"), "{text}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_another_user_it_does_all_that_it_should() {
    if !root() {
        return skip("as_another_user_it_does_all_that_it_should", "needs root");
    }
    let text = format!("{CONFINED}user = \"{OTHER_USER}\"\n");
    let files = Files::new(&text);
    let mut server = files.server();
    let pid = server.running().pid();
    for (name, expected) in [
        ("Uid", "1\t1\t1\t1"),
        ("Gid", "1\t1\t1\t1"),
        ("Groups", "1"),
    ] {
        let found = of_threads(pid, name);
        assert!(found.iter().all(|ids| ids == expected), "{name}: {found:?}");
    }
    for name in ["CapEff", "CapPrm"] {
        let found = of_threads(pid, name);
        let none = |set: &String| set.chars().all(|digit| digit == '0');
        assert!(found.iter().all(none), "{name}: {found:?}");
    }
    relays(&server).await;
    assert!(server.metrics().sum("process_open_fds") > 0.0);
    let most = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let is_short = most.trim().parse::<u64>().unwrap() < 1 << 20;
    let socket = fs::metadata(files.path("control.sock")).unwrap();
    assert_eq!((socket.uid(), socket.mode() & 0o777), (1, 0o600));
    files.rewrite(&format!("{text}[limits]\nallocations = 7\n"));
    let (good, said) = files.reload();
    assert!(
        good && said.contains("limits.allocations: changed"),
        "{said}"
    );
    let log = server.stop();
    let said = log.contains("receive buffer of every relayed address");
    assert_eq!(
        said, is_short,
        "the user may not have buffers beyond {most}"
    );
}

#[test]
fn what_the_user_cannot_read_is_said_at_once() {
    if !root() {
        return skip("what_the_user_cannot_read_is_said_at_once", "needs root");
    }
    let files = Files::new(&format!("[process]\nuser = \"{OTHER_USER}\"\n"));
    let file = files.path("turnserver.toml");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new(binary());
    let (status, _, stderr) = run(command.arg("check").arg(&file), LIMIT);
    assert!(status.success());
    assert!(stderr.contains("cannot read it"), "{stderr}");
    let server = files.server();
    let warned = || server.log().contains("so that a reload will fail");
    assert!(until(LIMIT, warned), "{}", server.log());
    server.stop();
    chown(&file, Some(1), None).unwrap();
    let (_, _, stderr) = run(Command::new(binary()).arg("check").arg(&file), LIMIT);
    assert_eq!(stderr, "");
}

#[test]
fn an_unknown_user_is_one_clear_line() {
    let files = Files::new("[process]\nuser = \"nobody-of-this-name\"\n");
    let mut command = Command::new(binary());
    command
        .args(["--listen", &format!("127.0.0.1:{}", free_port())])
        .args(["--metrics", "off", "--config"])
        .arg(files.path("turnserver.toml"));
    let (status, _, stderr) = run(&mut command, LIMIT);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("there is no such user"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
