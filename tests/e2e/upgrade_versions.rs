//! Programs of different versions that meet in an upgrade: those that do not understand each other say so,
//! and the one that runs is not disturbed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use super::process::run;
use super::succession::{LOOPBACK, Pair, Succession};
use super::upgrade::{HELLO, frame, hear, pretender};
use super::upgrade_line::{HELLO_KIND, LIMIT, OFFER, REFUSED};

#[test]
fn a_new_program_of_another_language_is_refused_with_a_reason() {
    let succession = Succession::new(LOOPBACK);
    let old = succession.start();
    let mut pair = Pair::udp(succession.address());
    let later = HELLO.replace("\"protocol\":2", "\"protocol\":999,\"colour\":\"red\"");
    let earlier = r#"{"protocol":1,"version":"9.9.9"}"#;
    let reads_less = HELLO.replace("\"format\":1", "\"format\":0");
    for (hello, why) in [
        (&*later, "they speak protocol 2 and 999"),
        (earlier, "they speak protocol 2 and 1"),
        (
            &*reads_less,
            "the state is of format 1, and the new one reads 0",
        ),
        ("not even JSON", "what cannot be understood"),
    ] {
        let (kind, said) = hear(&mut pretender(&succession, hello));
        assert_eq!(kind, REFUSED);
        assert!(
            said.contains(why) && said.contains("start it anew"),
            "{said}"
        );
        assert!(hello.len() < 20 || said.contains("9.9.9"), "{said}");
        pair.talks();
    }
    old.stop();
}

/// What the new process says of an old one that answers as `answer` does, which is given the connection
/// after `take-over`.
fn told_by(answer: impl FnOnce(UnixStream) + Send) -> String {
    let succession = Succession::new(LOOPBACK);
    let socket = UnixListener::bind(succession.socket()).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut line, _) = socket.accept().unwrap();
            let mut asked = [0; 10];
            line.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"take-over\n");
            answer(line);
        });
        let (status, _, stderr) = run(&mut succession.command(&["upgrade"]), LIMIT);
        assert_eq!(status.code(), Some(1), "{stderr}");
        stderr
    })
}

#[test]
fn a_running_program_that_knows_no_upgrade_is_told_from_others() {
    for (answer, why) in [
        (
            "failed\nunknown command; there are reload and drain\n",
            "its version cannot hand over",
        ),
        ("failed\nit is Sunday\n", "goes on: it is Sunday"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it is no turnstone"),
        ("o", "it is no turnstone"),
        ("", "the other process has gone"),
    ] {
        let said = told_by(|mut line| line.write_all(answer.as_bytes()).unwrap());
        assert!(said.contains(why), "{answer:?}: {said}");
    }
}

#[test]
fn a_running_program_of_another_language_is_left_alone() {
    let greeted = |line: &mut UnixStream| {
        line.write_all(b"ok\n").unwrap();
        let (kind, hello) = hear(line);
        assert_eq!(kind, HELLO_KIND);
        let says = |what: &str| hello.contains(what);
        assert!(says("\"protocol\":2") && says("\"format\":1") && says("\"version\":"));
    };
    for (kind, offer, why) in [
        (
            OFFER,
            r#"{"protocol":999,"version":"9.9.9"}"#,
            "they speak protocol 2 and 999",
        ),
        (
            OFFER,
            r#"{"protocol":2,"version":"9.9.9"}"#,
            "what cannot be understood",
        ),
        (OFFER, r#"{"version":"9.9.9"}"#, "what cannot be understood"),
        (99, "{}", "what cannot be understood"),
        // As one of the first protocol does.
        (
            REFUSED,
            "cannot hand over to version 0.1.0",
            "goes on: cannot hand over",
        ),
    ] {
        let said = told_by(|mut line| {
            greeted(&mut line);
            line.write_all(&frame(kind, offer.as_bytes())).unwrap();
        });
        assert!(said.contains("the running server goes on"), "{said}");
        assert!(said.contains(why), "{offer}: {said}");
    }
}
