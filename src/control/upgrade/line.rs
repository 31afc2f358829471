//! The line between two processes: frames with descriptors, over a Unix stream.
//!
//! A frame is its kind (1 byte), how many descriptors come with it and how long it is (4 bytes each, in
//! network order), the bytes, and a byte for every 253 descriptors, which carries them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::net::{MOST_DESCRIPTORS, receive_descriptors, send_descriptors};

/// The longest frame in bytes: the state of a shard with a million allocations.
const LONGEST: usize = 1 << 30;
/// What is read at a time of a long frame.
const PIECE: usize = 1 << 20;
/// How long to wait while the kernel has too many descriptors on their way.
const PAUSE: Duration = Duration::from_millis(1);
const HEAD: usize = 9;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The new process says who it is.
    Hello = 1,
    /// The old process says what there is, with the listening sockets.
    Offer = 2,
    /// The new process is prepared: the old one shall stop serving for a moment.
    Freeze = 3,
    /// The state of one shard, with its sockets.
    State = 4,
    /// The new process has taken in the state of all shards.
    Ready = 5,
    /// It has taken the deed and serves.
    Serving = 7,
    /// The old process has let go.
    Released = 8,
    /// Nothing comes of it; the text says why.
    Refused = 9,
    /// The relays that live in the process that says so.
    Relays = 10,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Hello,
        Self::Offer,
        Self::Freeze,
        Self::State,
        Self::Ready,
        Self::Serving,
        Self::Released,
        Self::Refused,
        Self::Relays,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why the line is of no use.
#[derive(Debug)]
pub(in crate::control) enum LineError {
    /// The other process has gone.
    Gone,
    /// It has said nothing for too long.
    Silent,
    /// It does not keep to the order, or speaks another language.
    Confused,
    /// It says that nothing comes of it, and why.
    Refused(String),
    /// This process has something else to do now.
    Withdrawn,
    /// What the kernel says.
    Io(io::Error),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Gone,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the other process has gone"),
            Self::Silent => f.write_str("the other process does not answer"),
            Self::Confused => f.write_str(
                "the other process says what cannot be understood; if the versions are far apart, stop the \
                 server and start it anew",
            ),
            Self::Refused(why) => f.write_str(why),
            Self::Withdrawn => f.write_str("it was told to drain or to stop meanwhile"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// One thing that was said.
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    pub(super) descriptors: VecDeque<OwnedFd>,
}

impl fmt::Debug for Frame {
    /// Without what the body says: it may hold keys and passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind)
            .field("length", &self.body.len())
            .field("descriptors", &self.descriptors)
            .finish()
    }
}

/// One end of the line.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    /// Descriptors that came and belong to no frame yet.
    received: VecDeque<OwnedFd>,
}

impl Line {
    /// The line over `stream`.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self {
            stream,
            received: VecDeque::new(),
        })
    }

    /// Says that nothing comes of it.
    pub(super) fn refuse(&mut self, why: &str, patience: Duration) {
        // Whoever does not listen learns by the end of the line.
        let _ = self.say(Kind::Refused, why.as_bytes(), &[], patience);
    }

    /// Says a frame; the other process gets copies of `descriptors`. Takes `patience` at most, or a little
    /// longer.
    pub(super) fn say(
        &mut self,
        kind: Kind,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<(), LineError> {
        let until = Instant::now() + patience;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        let mut head = vec![kind as u8];
        head.extend(count(descriptors.len()));
        head.extend(count(body.len()));
        self.send(&head, &[], until)?;
        self.send(body, &[], until)?;
        for batch in descriptors.chunks(MOST_DESCRIPTORS) {
            self.send(&[0], batch, until)?;
        }
        Ok(())
    }

    /// The next frame, within `patience`; one that refuses is an error.
    pub(super) fn hear(&mut self, patience: Duration) -> Result<Frame, LineError> {
        self.hear_begun(patience, patience)
    }

    /// The next frame, if it begins within `begin` and arrives within `patience`; one that refuses is an
    /// error.
    pub(super) fn hear_begun(
        &mut self,
        begin: Duration,
        patience: Duration,
    ) -> Result<Frame, LineError> {
        let mut head = [0; HEAD];
        self.fill(&mut head[..1], Instant::now() + begin)?;
        let until = Instant::now() + patience;
        self.fill(&mut head[1..], until)?;
        let [kind, numbers @ ..] = head;
        let (descriptors, length) = halves(numbers);
        let kind = Kind::of(kind).ok_or(LineError::Confused)?;
        if length > LONGEST {
            return Err(LineError::Confused);
        }
        let body = self.read(length, until)?;
        self.read(descriptors.div_ceil(MOST_DESCRIPTORS), until)?;
        if self.received.len() < descriptors {
            return Err(LineError::Confused);
        }
        let descriptors = self.received.drain(..descriptors).collect();
        match kind {
            Kind::Refused => Err(LineError::Refused(
                String::from_utf8_lossy(&body).into_owned(),
            )),
            kind => Ok(Frame {
                kind,
                body,
                descriptors,
            }),
        }
    }

    /// The next frame, which is of this kind.
    pub(super) fn expect(&mut self, kind: Kind, patience: Duration) -> Result<Frame, LineError> {
        let frame = self.hear(patience)?;
        (frame.kind == kind)
            .then_some(frame)
            .ok_or(LineError::Confused)
    }

    /// What ends the waiting of this end.
    pub(super) fn copy(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Waits until the other process has closed its end, for `patience` at most; what it says until then is
    /// lost.
    pub(super) fn await_end(&mut self, patience: Duration) -> Result<(), LineError> {
        let until = Instant::now() + patience;
        let mut room = vec![0; PIECE];
        loop {
            self.stream.set_read_timeout(Some(left(until)?))?;
            match receive_descriptors(&self.stream, &mut room, &mut self.received) {
                Ok(0) => return Ok(()),
                Ok(_) => self.received.clear(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return match LineError::from(error) {
                        LineError::Silent => Err(LineError::Silent),
                        _ => Ok(()),
                    };
                }
            }
        }
    }

    fn send(
        &mut self,
        mut bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        until: Instant,
    ) -> Result<(), LineError> {
        let mut descriptors = descriptors;
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left(until)?))?;
            match send_descriptors(&self.stream, bytes, descriptors) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    descriptors = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other process is still taking out the last ones.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, length: usize, until: Instant) -> Result<Vec<u8>, LineError> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let start = bytes.len();
            bytes.resize(length.min(start + PIECE), 0);
            self.fill(&mut bytes[start..], until)?;
        }
        Ok(bytes)
    }

    fn fill(&mut self, mut room: &mut [u8], until: Instant) -> Result<(), LineError> {
        while !room.is_empty() {
            self.stream.set_read_timeout(Some(left(until)?))?;
            match receive_descriptors(&self.stream, room, &mut self.received) {
                Ok(0) => return Err(LineError::Gone),
                Ok(length) => room = &mut room[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The two numbers of a head.
fn halves(numbers: [u8; HEAD - 1]) -> (usize, usize) {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    (number(&numbers[..4]), number(&numbers[4..]))
}

fn left(until: Instant) -> Result<Duration, LineError> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left).ok_or(LineError::Silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::thread;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(60);

    fn pair() -> (Line, Line) {
        let (one, other) = UnixStream::pair().expect("descriptors");
        (
            Line::new(one).expect("line"),
            Line::new(other).expect("line"),
        )
    }

    #[test]
    fn frames_arrive_whole_with_their_descriptors() {
        let (mut one, mut other) = pair();
        let saying = thread::spawn(move || {
            let null = File::open("/dev/null").expect("file");
            let many = vec![null.as_fd(); 600];
            let long = vec![7; 3 << 20];
            one.say(Kind::State, &long, &many, LATE).expect("said");
            one.say(Kind::Ready, &[], &[], LATE).expect("said");
            one.say(Kind::State, b"x", &many[..1], LATE).expect("said");
            one.refuse("enough", LATE);
        });
        let frame = other.expect(Kind::State, LATE).expect("heard");
        assert_eq!((frame.body.len(), frame.descriptors.len()), (3 << 20, 600));
        assert!(
            other
                .expect(Kind::Ready, LATE)
                .expect("heard")
                .body
                .is_empty()
        );
        let frame = other.hear(LATE).expect("heard");
        assert_eq!((&frame.body[..], frame.descriptors.len()), (&b"x"[..], 1));
        assert!(matches!(other.hear(LATE), Err(LineError::Refused(why)) if why == "enough"));
        saying.join().expect("no panic");
        assert!(matches!(other.hear(LATE), Err(LineError::Gone)));
    }

    #[test]
    fn no_secret_is_shown_with_a_frame() {
        let frame = Frame {
            kind: Kind::Offer,
            body: b"hush".to_vec(),
            descriptors: VecDeque::new(),
        };
        let shown = format!("{frame:?}");
        assert!(shown.contains("Offer") && shown.contains("length: 4"));
        assert!(!shown.contains("hush") && !shown.contains("104"), "{shown}");
    }

    #[test]
    fn whoever_is_silent_or_confused_is_not_waited_for() {
        let (mut one, mut other) = pair();
        assert!(matches!(other.hear(SOON), Err(LineError::Silent)));
        one.say(Kind::Hello, b"hi", &[], LATE).expect("said");
        let heard = other.expect(Kind::Ready, LATE);
        assert!(matches!(heard, Err(LineError::Confused)));
        let full = vec![0; 64 << 20];
        assert!(matches!(
            one.say(Kind::State, &full, &[], SOON),
            Err(LineError::Silent)
        ));
    }

    #[test]
    fn nonsense_is_no_frame() {
        for head in [
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 255, 0, 0, 0],
            [1, 0, 0, 0, 1, 0, 0, 0, 0],
        ] {
            let (mut one, mut other) = pair();
            let until = Instant::now() + LATE;
            one.send(&head, &[], until).expect("sent");
            one.send(&[0], &[], until).expect("sent");
            assert!(matches!(other.hear(LATE), Err(LineError::Confused)));
        }
    }
}
