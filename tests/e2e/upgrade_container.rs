//! A server in a container, which may end with it.

use std::fs;
use std::process::Command;

use super::process::{root, run, skip, until};
use super::server::{Server, binary};
use super::succession::{LOOPBACK, Pair, Succession};
use super::upgrade_line::LIMIT;

/// What makes a container with processes of its own around the command that follows; none where it cannot
/// be made.
fn container(test: &str) -> Option<Command> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--pid", "--mount-proc", "--kill-child"]);
    if !root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let mut probe = Command::new("unshare");
    probe.args(unshare.get_args()).arg("true");
    if !probe.status().is_ok_and(|status| status.success()) {
        skip(test, "needs root or namespaces");
        return None;
    }
    Some(unshare)
}

/// A server whose first process is `first`: it runs a shell's command, in which `$@` is the server.
fn contained(succession: &Succession, mut unshare: Command, first: &str, command: &str) -> Server {
    unshare.args([first, "-c", command, first]).arg(binary());
    unshare.args(succession.command(&[]).get_args());
    Server::from_command(&mut unshare, succession.address(), succession.metrics())
}

#[track_caller]
fn is_refused(succession: &Succession, why: &str) {
    let (status, _, stderr) = run(&mut succession.command(&["upgrade"]), LIMIT);
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains(why) && stderr.contains("replace the container"),
        "{stderr}"
    );
    Pair::udp(succession.address()).talks();
}

#[test]
fn a_server_that_a_container_ends_with_is_not_taken_over() {
    let test = "a_server_that_a_container_ends_with_is_not_taken_over";
    let landlock = "[process]\nlandlock = true\n";
    for (command, why) in [
        ("exec \"$@\"", "it is the first process"),
        (
            "\"$@\" & wait $!",
            "the first process of its container started it",
        ),
    ] {
        let Some(unshare) = container(test) else {
            return;
        };
        let succession = Succession::new(&format!("{landlock}{LOOPBACK}"));
        let mut old = contained(&succession, unshare, "sh", command);
        is_refused(&succession, why);
        assert!(old.running().alive());
    }
}

#[test]
fn a_daemon_of_a_container_that_outlives_it_is_taken_over() {
    let test = "a_daemon_of_a_container_that_outlives_it_is_taken_over";
    let Some(unshare) = container(test) else {
        return;
    };
    let succession = Succession::new(LOOPBACK);
    // What it is called decides.
    let init = succession.path("init");
    fs::copy("/bin/sh", &init).unwrap();
    let command = "\"$@\" & wait $!; echo it has ended; sleep 1000";
    let first = init.display().to_string();
    let mut old = contained(&succession, unshare, &first, command);
    let mut moves = Pair::udp(succession.address());
    let new = succession.succeed();
    let ended = until(LIMIT, || old.running().stdout().contains("it has ended"));
    assert!(ended, "{}", old.log());
    moves.talks();
    new.stop();
}
