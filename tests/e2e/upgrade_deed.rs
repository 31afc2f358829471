//! However slow, stopped or dead either process of an upgrade is, one serves and one only.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::Signal;

use super::dialogue::Dialogue;
use super::process::{Running, root, skip, until};
use super::server::Server;
use super::succession::{LOOPBACK, Pair, Succession, ends};
use super::upgrade_line::{
    End, FREEZE, KEPT, LIMIT, New, Old, READY, REFUSED, RELAYS, RELEASED, SERVING, SIGNED, STATE,
};

#[track_caller]
fn logs(server: &Server, text: &str) {
    let said = until(LIMIT, || server.log().contains(text));
    assert!(said, "{text:?} is not said: {}", server.log());
}

/// Sends what only a server would read.
fn knock(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"\x00\x01knock", address).unwrap();
    client
}

/// Whether nobody has read what `client` sent: it is still in one of `listeners`.
fn is_unread(client: &UdpSocket, listeners: &[OwnedFd]) -> bool {
    let own = client.local_addr().unwrap();
    let copies = listeners.iter().map(|one| one.try_clone().unwrap());
    copies.map(UdpSocket::from).any(|socket| {
        let mut buffer = [0; 64];
        socket.set_nonblocking(true).unwrap();
        let mut heard = std::iter::from_fn(|| socket.recv_from(&mut buffer).ok());
        heard.any(|(_, from)| from == own)
    })
}

#[test]
fn a_new_process_that_dies_with_the_deed_leaves_the_calls_to_the_old_one() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut pair = Pair::udp(succession.address());
    drop(New::with_deed(&succession));
    logs(&old, "nothing has changed");
    pair.talks();
    old.stop();
}

#[test]
fn a_new_process_that_wakes_too_late_finds_that_the_old_one_serves() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut pair = Pair::udp(succession.address());
    let mut new = New::meet(&succession);
    new.hear_states();
    new.line.say(READY, "");
    new.await_deed();
    // Here it sleeps for longer than the old process waits.
    logs(&old, "nothing has changed");
    assert_eq!(new.take_deed(), Some(KEPT));
    assert!(new.line.hear(REFUSED).0.contains("does not answer"));
    pair.talks();
    // Nor does it help to say that it serves.
    let mut new = New::meet(&succession);
    new.hear_states();
    new.line.say(READY, "");
    new.await_deed();
    new.line.say(SERVING, "");
    new.line.hear(REFUSED);
    assert_eq!(new.take_deed(), Some(KEPT));
    pair.talks();
    old.stop();
}

#[test]
fn a_new_process_that_stops_with_the_deed_is_the_only_one_that_can_serve() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut stays = Pair::tcp(succession.address());
    let mut new = New::with_deed(&succession);
    // Here it sleeps for longer than the old process waits.
    new.line.hear(RELEASED);
    stays.talks();
    let client = knock(succession.address());
    stays.talks();
    assert!(is_unread(&client, &new.listeners), "{}", old.log());
    drop((new, stays));
    ends(old);
}

#[test]
fn an_old_process_that_stops_goes_on_when_it_wakes_unless_the_deed_was_taken() {
    let succession = Succession::new(LOOPBACK);
    let mut old = succession.start();
    let mut pair = Pair::udp(succession.address());
    for signed in [false, true] {
        let mut new = New::meet(&succession);
        new.hear_states();
        if signed {
            new.line.say(READY, "");
            new.await_deed();
        }
        old.running().signal(Signal::STOP);
        if !signed {
            new.line.say(READY, "");
            assert_eq!(new.take_deed(), None);
        }
        drop(new);
        old.running().signal(Signal::CONT);
        let times = 1 + usize::from(signed);
        let kept = || old.log().matches("nothing has changed").count() == times;
        assert!(until(LIMIT, kept), "{}", old.log());
        pair.talks();
    }
    let mut new = New::with_deed(&succession);
    old.running().signal(Signal::STOP);
    new.line.say(SERVING, "");
    old.running().signal(Signal::CONT);
    new.line.hear(RELEASED);
    let client = knock(succession.address());
    ends(old);
    assert!(is_unread(&client, &new.listeners));
}

#[test]
fn an_old_process_that_drains_keeps_the_deed_and_says_so() {
    let succession = Succession::new(LOOPBACK);
    let mut old = succession.start();
    let mut pair = Pair::udp(succession.address());
    let mut new = New::meet(&succession);
    new.hear_states();
    old.running().signal(Signal::USR1);
    let (why, _) = new.line.hear(REFUSED);
    assert!(why.contains("told to drain"), "{why}");
    assert_eq!(new.take_deed(), Some(KEPT));
    pair.talks();
    pair.client.delete().unwrap();
    ends(old);
}

#[test]
fn an_old_process_that_is_killed_keeps_nothing() {
    for step in 0..3 {
        let succession = Succession::new(LOOPBACK);
        let mut old = succession.start();
        let mut new = New::meet(&succession);
        if step > 0 {
            new.hear_states();
        }
        if step > 1 {
            new.line.say(READY, "");
            new.await_deed();
        }
        old.running().signal(Signal::KILL);
        let status = old.running().wait(LIMIT);
        assert_eq!(status.and_then(|status| status.signal()), Some(9));
        match step {
            2 => assert_eq!(new.take_deed(), Some(SIGNED)),
            _ => assert!(new.is_orphaned()),
        }
    }
}

/// A new process that has heard from the `old` one, which the test plays, what `said` says.
fn succeed(succession: &Succession, old: Old, said: impl FnOnce(&Old, &mut End)) -> Server {
    let mut command = succession.command(&["upgrade", "--foreground"]);
    let new = Running::start(&mut command);
    let mut line = old.greet();
    said(&old, &mut line);
    // The end of it, as the kernel has it when the process ends.
    drop((line, old));
    let server = Server::started(new, succession.address(), succession.metrics());
    logs(&server, "has taken over from process");
    server
}

#[test]
fn whenever_the_old_process_dies_the_new_one_serves() {
    let steps: [fn(&Old, &mut End); 5] = [
        |_, _| (),
        |_, line| {
            line.hear(FREEZE);
        },
        |old, line| {
            line.hear(FREEZE);
            line.say(RELAYS, &old.states[0]);
            line.say(STATE, &old.states[1]);
        },
        |old, line| old.give_states(line),
        |old, line| {
            old.give_states(line);
            old.sign();
        },
    ];
    for (step, said) in steps.into_iter().enumerate() {
        let succession = Succession::new(LOOPBACK);
        let old = Old::new(&succession);
        let new = succeed(&succession, old, said);
        Pair::udp(succession.address()).talks();
        Pair::tcp(succession.address()).talks();
        assert!(new.log().contains("died") != (step == 4), "{}", new.log());
        new.stop();
    }
}

#[test]
fn whoever_has_taken_the_deed_serves_whatever_is_said() {
    let succession = Succession::new(LOOPBACK);
    let address = succession.address();
    let old = Old::new(&succession);
    let new = succeed(&succession, old, |old, line| {
        old.give_states(line);
        old.sign();
        // Here it sleeps.
        assert!(until(LIMIT, || Dialogue::udp(address).binding().is_ok()));
        assert!(!old.take_back());
        line.hear(SERVING);
        line.say(REFUSED, "not you");
        Pair::udp(address).talks();
    });
    Pair::udp(address).talks();
    new.stop();
    let old = Old::new(&succession);
    let new = succeed(&succession, old, |old, line| {
        old.give_states(line);
        old.sign();
        line.hear(SERVING);
        line.say(RELEASED, "so long");
    });
    Pair::udp(address).talks();
    new.stop();
}

/// How a new process ends that has heard from an old one, which the test plays, what `said` says; it has
/// served nobody.
fn gives_up(said: impl FnOnce(&Old, &mut End, &Running)) -> (ExitStatus, String) {
    let succession = Succession::new(LOOPBACK);
    gives_up_after(&succession, Old::new(&succession), said)
}

fn gives_up_after(
    succession: &Succession,
    old: Old,
    said: impl FnOnce(&Old, &mut End, &Running),
) -> (ExitStatus, String) {
    let listeners = old.listeners();
    let client = knock(succession.address());
    let mut new = Running::start(&mut succession.command(&["upgrade", "--foreground"]));
    let mut line = old.greet();
    said(&old, &mut line, &new);
    let status = new.wait(LIMIT).expect("it gives up");
    assert!(is_unread(&client, &listeners), "{}", new.stderr());
    (status, new.stderr())
}

#[test]
fn without_the_deed_the_new_process_serves_nobody() {
    let (status, log) = gives_up(|old, line, _| {
        old.give_states(line);
        old.keep();
        line.say(REFUSED, "not you");
        line.ends();
    });
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("goes on: not you"), "{log}");
}

#[test]
fn a_new_process_that_is_stopped_serves_nobody_when_it_wakes_too_late() {
    let (status, log) = gives_up(|old, line, new| {
        old.give_states(line);
        new.signal(Signal::STOP);
        old.sign();
        // The old process has waited for long enough.
        assert!(old.take_back());
        old.keep();
        line.say(REFUSED, "too slow");
        new.signal(Signal::CONT);
        line.ends();
    });
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("goes on: too slow"), "{log}");
}

/// An old process, which the test plays, whose control socket is `owner`'s. The one that takes its place is
/// to be the user with the number 2.
fn becomes_bin(seccomp: bool, owner: u32) -> (Succession, Old) {
    let succession = Succession::new(LOOPBACK);
    let old = Old::new(&succession);
    let process = format!("[process]\nuser = \"bin\"\nseccomp = {seccomp}\n");
    succession.rewrite(&format!("{LOOPBACK}{process}"));
    chown(succession.socket(), Some(owner), Some(owner)).unwrap();
    (succession, old)
}

fn status_of(process: &Running) -> String {
    fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap()
}

#[test]
fn root_is_gone_before_the_state_comes_unless_the_socket_needs_it() {
    if !root() {
        return skip(
            "root_is_gone_before_the_state_comes_unless_the_socket_needs_it",
            "needs root",
        );
    }
    for (owner, ids) in [(2, "2\t2\t2\t2"), (1, "2\t2\t0\t2")] {
        let (succession, old) = becomes_bin(true, owner);
        gives_up_after(&succession, old, |old, line, new| {
            line.hear(FREEZE);
            let status = status_of(new);
            assert!(status.contains(&format!("Uid:\t{ids}\n")), "{status}");
            old.keep();
            line.say(REFUSED, "not you");
            line.ends();
        });
    }
}

#[test]
fn what_takes_the_name_of_the_control_socket_stays_whose_it_is() {
    if !root() {
        return skip(
            "what_takes_the_name_of_the_control_socket_stays_whose_it_is",
            "needs root",
        );
    }
    let (succession, old) = becomes_bin(false, 1);
    let (victim, moved) = (succession.path("victim"), succession.path("moved"));
    fs::write(&victim, "").unwrap();
    let new = succeed(&succession, old, |old, line| {
        old.give_states(line);
        fs::rename(succession.socket(), &moved).unwrap();
        symlink(&victim, succession.socket()).unwrap();
        old.sign();
    });
    let owners = [victim, moved].map(|file| fs::metadata(file).unwrap().uid());
    assert_eq!(owners, [0, 2], "{}", new.log());
    new.stop();
}

#[test]
fn the_control_socket_is_another_users_only_after_the_upgrade() {
    if !root() {
        return skip(
            "the_control_socket_is_another_users_only_after_the_upgrade",
            "needs root",
        );
    }
    let owner = |succession: &Succession| fs::metadata(succession.socket()).unwrap().uid();
    for seccomp in [false, true] {
        let (succession, old) = becomes_bin(seccomp, 1);
        let (_, log) = gives_up_after(&succession, old, |old, line, _| {
            old.give_states(line);
            old.keep();
            line.say(REFUSED, "not you");
            line.ends();
        });
        assert!(log.contains("goes on: not you"), "{log}");
        assert_eq!(owner(&succession), 1, "{log}");
        let (succession, old) = becomes_bin(seccomp, 1);
        let mut new = succeed(&succession, old, |old, line| {
            old.give_states(line);
            assert_eq!(owner(&succession), 1);
            old.sign();
        });
        assert_eq!(owner(&succession), 2, "{}", new.log());
        let status = status_of(new.running());
        assert!(status.contains("Uid:\t2\t2\t2\t2\n"), "{status}");
        assert!(status.contains("Gid:\t2\t2\t2\t2\n"), "{status}");
        assert!(status.contains("CapPrm:\t0000000000000000\n"), "{status}");
        Pair::udp(succession.address()).talks();
        new.stop();
    }
}
