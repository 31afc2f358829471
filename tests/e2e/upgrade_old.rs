//! What the new process does when the old one ends the conversation in an odd way.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};

use super::process::{LIMIT, run};
use super::succession::{LOOPBACK, Pair, Succession};
use super::upgrade::{HELLO, frame, hear, pretender};

/// What an old process without clients says.
struct Words {
    offer: String,
    relays: String,
    states: [String; 2],
}

/// Hears them from a server, which ends then.
fn words(succession: &Succession) -> Words {
    let old = succession.start();
    let mut line = pretender(succession, HELLO);
    let (_, offer) = hear(&mut line);
    line.write_all(&frame(3, b"")).unwrap();
    let words = Words {
        offer: without_descriptors(&offer),
        relays: hear(&mut line).1,
        states: [(); 2].map(|()| hear(&mut line).1),
    };
    drop(line);
    old.stop();
    words
}

fn without_descriptors(offer: &str) -> String {
    let (before, list) = offer.split_once("\"descriptors\":[").unwrap();
    let (_, after) = list.split_once(']').unwrap();
    format!("{before}\"descriptors\":[]{after}")
}

/// Plays the old process until it has said that the new one shall serve, and then what `end` says.
fn play(succession: &Succession, end: impl FnOnce(UnixStream) + Send + 'static) -> JoinHandle<()> {
    let words = words(succession);
    let socket = succession.socket();
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let (mut line, _) = listener.accept().unwrap();
        // The new process has one of its own.
        drop(listener);
        fs::remove_file(socket).unwrap();
        let mut asked = [0; 10];
        line.read_exact(&mut asked).unwrap();
        line.write_all(b"ok\n").unwrap();
        assert_eq!(hear(&mut line).0, 1);
        line.write_all(&frame(2, words.offer.as_bytes())).unwrap();
        assert_eq!(hear(&mut line).0, 3);
        line.write_all(&frame(10, words.relays.as_bytes())).unwrap();
        for state in words.states {
            line.write_all(&frame(4, state.as_bytes())).unwrap();
        }
        assert_eq!(hear(&mut line).0, 5);
        end(line);
    })
}

fn go(line: &mut UnixStream) {
    line.write_all(&frame(6, b"")).unwrap();
    assert_eq!(hear(line).0, 7);
}

#[test]
fn one_that_goes_on_after_all_has_the_new_one_stop() {
    let succession = Succession::new(&format!("{LOOPBACK}[log]\nlevel = \"debug\"\n"));
    let address = succession.address();
    let old = play(&succession, move |mut line| {
        go(&mut line);
        // The new process serves.
        Pair::udp(address).talks();
        line.write_all(&frame(9, b"not you")).unwrap();
        // And no longer before the line ends.
        let _ = line.read_to_end(&mut Vec::new());
    });
    let mut command = succession.command(&["upgrade", "--foreground"]);
    let (status, _, stderr) = run(&mut command, LIMIT);
    old.join().unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("goes on: not you"), "{stderr}");
    assert_eq!(stderr.matches("the shard has stopped").count(), 2);
}

#[test]
fn nobody_else_serves_when_the_old_process_dies_or_is_not_understood() {
    let dies = |mut line: UnixStream| {
        // The new process cannot even say that it serves.
        line.write_all(&frame(6, b"")).unwrap();
    };
    let mumbles = |mut line: UnixStream| {
        go(&mut line);
        line.write_all(&frame(8, b"so long")).unwrap();
    };
    for end in [dies as fn(UnixStream), mumbles] {
        let succession = Succession::new(LOOPBACK);
        let old = play(&succession, end);
        let new = succession.succeed();
        old.join().unwrap();
        Pair::udp(succession.address()).talks();
        new.stop();
    }
}
