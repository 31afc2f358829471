//! One end of the line between two processes of an upgrade, in the hands of the test: it plays the new or
//! the old process.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use turnstone::net::{receive_descriptors, send_descriptors};

use super::process::until;
use super::succession::Succession;
use super::upgrade::{HELLO, frame, pretender};

pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) const HELLO_KIND: u8 = 1;
pub(super) const OFFER: u8 = 2;
pub(super) const FREEZE: u8 = 3;
pub(super) const STATE: u8 = 4;
pub(super) const READY: u8 = 5;
pub(super) const SERVING: u8 = 7;
pub(super) const RELEASED: u8 = 8;
pub(super) const REFUSED: u8 = 9;
pub(super) const RELAYS: u8 = 10;

/// What stands in a deed.
pub(super) const SIGNED: u8 = 1;
pub(super) const KEPT: u8 = 0;

/// One end of the line.
pub(super) struct End {
    stream: UnixStream,
    received: VecDeque<OwnedFd>,
}

impl End {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            stream,
            received: VecDeque::new(),
        }
    }

    pub(super) fn say(&mut self, kind: u8, body: &str) {
        self.stream
            .write_all(&frame(kind, body.as_bytes()))
            .unwrap();
    }

    fn give(&mut self, kind: u8, body: &str, descriptors: &[BorrowedFd<'_>]) {
        let mut frame = frame(kind, body.as_bytes());
        frame[4] = u8::try_from(descriptors.len()).unwrap();
        self.stream.write_all(&frame).unwrap();
        send_descriptors(&self.stream, &[0], descriptors).unwrap();
    }

    /// The body of the next frame, which is of this kind; and what came with it.
    #[track_caller]
    pub(super) fn hear(&mut self, kind: u8) -> (String, Vec<OwnedFd>) {
        let head = self.read(9);
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let body = String::from_utf8(self.read(number(5))).unwrap();
        self.read(number(1).div_ceil(253));
        assert_eq!(head[0], kind, "{body}");
        (body, self.received.drain(..number(1)).collect())
    }

    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut room = &mut bytes[..];
        while !room.is_empty() {
            let length = self.receive(room);
            assert_ne!(length, 0, "the line has ended");
            room = &mut room[length..];
        }
        bytes
    }

    fn receive(&mut self, room: &mut [u8]) -> usize {
        loop {
            match receive_descriptors(&self.stream, room, &mut self.received) {
                // The test was stopped meanwhile.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => return received.unwrap(),
            }
        }
    }

    /// Waits until the other process has closed its end.
    pub(super) fn ends(&mut self) {
        while self.receive(&mut [0; 256]) > 0 {}
    }
}

/// A new process that the test plays.
pub(super) struct New {
    pub(super) line: End,
    /// The listening sockets.
    pub(super) listeners: Vec<OwnedFd>,
    offer: String,
    /// What it takes the deed by.
    deed: UnixStream,
}

impl New {
    /// One that the server has made an offer.
    pub(super) fn meet(succession: &Succession) -> Self {
        let mut line = End::new(pretender(succession, HELLO));
        let (offer, mut listeners) = line.hear(OFFER);
        let deed = UnixStream::from(listeners.pop().unwrap());
        listeners.truncate(offer.matches("\"Clients\"").count());
        Self {
            line,
            listeners,
            offer,
            deed,
        }
    }

    /// One that has everything and has taken the deed.
    pub(super) fn with_deed(succession: &Succession) -> Self {
        let take = || {
            let mut new = Self::meet(succession);
            new.hear_states();
            new.line.say(READY, "");
            new.await_deed();
            // A test that was slow finds it kept.
            (new.take_deed() == Some(SIGNED)).then_some(new)
        };
        std::iter::repeat_with(take).flatten().next().unwrap()
    }

    /// Hears the state of the two shards.
    pub(super) fn hear_states(&mut self) -> [String; 3] {
        self.line.say(FREEZE, "");
        [RELAYS, STATE, STATE].map(|kind| self.line.hear(kind).0)
    }

    /// Waits until something stands in the deed.
    pub(super) fn await_deed(&self) {
        let stands = || ioctl_fionread(&self.deed).unwrap() > 0;
        assert!(until(LIMIT, stands), "nobody signs");
    }

    /// What stands in the deed; none while nothing does.
    #[track_caller]
    pub(super) fn take_deed(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.deed.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            Ok(_) => panic!("the old process has died"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    /// Whether the old process has died without a word.
    pub(super) fn is_orphaned(&mut self) -> bool {
        matches!(self.deed.read(&mut [0]), Ok(0))
    }
}

/// An old process that the test plays: what one without clients says, its sockets and a deed.
pub(super) struct Old {
    offer: String,
    listeners: Vec<OwnedFd>,
    pub(super) states: [String; 3],
    socket: UnixListener,
    writes: UnixStream,
    reads: UnixStream,
}

impl Old {
    /// It has come from a server, which has ended.
    pub(super) fn new(succession: &Succession) -> Self {
        let server = succession.start();
        let mut new = New::meet(succession);
        let states = new.hear_states();
        let New {
            listeners, offer, ..
        } = new;
        server.stop();
        let (writes, reads) = UnixStream::pair().unwrap();
        reads.set_nonblocking(true).unwrap();
        Self {
            offer: with_descriptors(&offer, listeners.len()),
            listeners,
            states,
            socket: UnixListener::bind(succession.socket()).unwrap(),
            writes,
            reads,
        }
    }

    /// Answers the next new process up to the offer.
    pub(super) fn greet(&self) -> End {
        let (stream, _) = self.socket.accept().unwrap();
        let mut line = End::new(stream);
        assert_eq!(line.read(10), b"take-over\n");
        line.stream.write_all(b"ok\n").unwrap();
        line.hear(HELLO_KIND);
        let descriptors = self.listeners.iter().map(|one| one.as_fd());
        let others = [self.socket.as_fd(), self.reads.as_fd()];
        let descriptors: Vec<_> = descriptors.chain(others).collect();
        line.give(OFFER, &self.offer, &descriptors);
        line
    }

    /// Gives away everything; the new process is ready.
    pub(super) fn give_states(&self, line: &mut End) {
        line.hear(FREEZE);
        for (kind, state) in [RELAYS, STATE, STATE].into_iter().zip(&self.states) {
            line.say(kind, state);
        }
        line.hear(READY);
    }

    pub(super) fn sign(&self) {
        (&self.writes).write_all(&[SIGNED]).unwrap();
    }

    pub(super) fn keep(&self) {
        (&self.writes).write_all(&[KEPT]).unwrap();
    }

    /// Reads back what is signed; tells whether that was possible.
    pub(super) fn take_back(&self) -> bool {
        matches!((&self.reads).read(&mut [0]), Ok(1))
    }

    /// Its listening sockets, which outlive it.
    pub(super) fn listeners(&self) -> Vec<OwnedFd> {
        let copies = self.listeners.iter().map(OwnedFd::try_clone);
        copies.map(Result::unwrap).collect()
    }
}

/// The offer with so many sockets for clients, that for control and the way to a deed, and nothing else.
fn with_descriptors(offer: &str, listeners: usize) -> String {
    let (before, list) = offer.split_once("\"descriptors\":[").unwrap();
    let (_, after) = list.split_once(']').unwrap();
    let descriptors = "\"Clients\",".repeat(listeners);
    format!("{before}\"descriptors\":[{descriptors}\"Control\",\"Claim\"]{after}")
}
