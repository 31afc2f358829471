//! The deed: who has it serves, and nobody else.
//!
//! It is one byte in a socket that both processes can read. The old process signs it over by writing it, and
//! keeps it by reading it back; the new one takes it by reading it. The kernel gives a byte to one of them
//! only, whoever is stopped, slow or dead meanwhile.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::line::LineError;

/// The deed is the new process's.
const SIGNED: u8 = 1;
/// It stays with the old one for good.
const KEPT: u8 = 0;
/// How often a new process looks that waits for it.
const GLANCE: Duration = Duration::from_micros(500);

/// The deed in the hands of the old process.
#[derive(Debug)]
pub(super) struct Deed {
    /// None when it is to stay open as long as this process lives.
    writes: Option<UnixStream>,
    reads: UnixStream,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsigned,
    /// Whoever reads first has it.
    Signed,
    Kept,
    Taken,
}

impl Deed {
    /// One that nobody has signed, and what the new process takes it by.
    pub(super) fn draw() -> io::Result<(Self, OwnedFd)> {
        let (writes, reads) = UnixStream::pair()?;
        writes.set_nonblocking(true)?;
        // Holds for the copies as well.
        reads.set_nonblocking(true)?;
        let copy = reads.try_clone()?;
        let deed = Self {
            writes: Some(writes),
            reads,
            state: State::Unsigned,
        };
        Ok((deed, copy.into()))
    }

    /// From here on the new process may take it.
    ///
    /// # Errors
    /// It was kept; or the kernel has no room for a byte.
    pub(super) fn sign(&mut self) -> Result<(), LineError> {
        if self.state != State::Unsigned {
            return Err(LineError::Withdrawn);
        }
        self.write(SIGNED)?;
        self.state = State::Signed;
        Ok(())
    }

    /// Keeps it for good, unless the new process has taken it; tells whether it is kept.
    pub(super) fn keep(&mut self) -> bool {
        self.state = match self.state {
            State::Signed if read(&mut self.reads) != Some(SIGNED) => State::Taken,
            State::Signed | State::Unsigned => {
                if self.write(KEPT).is_err() {
                    // If this end closed, the new process would take us for dead.
                    mem::forget(self.writes.take());
                }
                State::Kept
            }
            decided => decided,
        };
        self.state == State::Kept
    }

    fn write(&mut self, byte: u8) -> io::Result<()> {
        let mut writes = self.writes.as_ref().ok_or(ErrorKind::BrokenPipe)?;
        writes.write_all(&[byte])
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        self.keep();
    }
}

/// The deed as the new process sees it.
#[derive(Debug)]
pub(super) struct Claim(UnixStream);

/// What has become of the deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Title {
    /// This process has it.
    Ours,
    /// The old process has died, and nobody else can ever have it.
    Orphaned,
    /// The old process keeps it.
    Theirs,
    /// It is not signed, or the old process is about to keep it.
    Open,
}

impl Title {
    /// Whether this process serves.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Orphaned)
    }
}

impl Claim {
    /// The one to the deed behind `descriptor`.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Takes the deed, if that is possible now.
    fn take(&mut self) -> Title {
        let mut byte = [0];
        loop {
            return match self.0.read(&mut byte) {
                Ok(0) => Title::Orphaned,
                Ok(_) if byte == [SIGNED] => Title::Ours,
                Ok(_) => Title::Theirs,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => Title::Open,
            };
        }
    }

    /// Takes the deed as soon as anything has become of it, within `patience`.
    pub(super) fn take_within(&mut self, patience: Duration) -> Title {
        let until = Instant::now() + patience;
        loop {
            let title = self.take();
            if title != Title::Open || Instant::now() >= until {
                return title;
            }
            sleep(GLANCE);
        }
    }
}

/// The byte, if it is there.
fn read(reads: &mut UnixStream) -> Option<u8> {
    let mut byte = [0];
    loop {
        match reads.read(&mut byte) {
            Ok(1) => return Some(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn drawn() -> (Deed, Claim) {
        let (deed, copy) = Deed::draw().expect("descriptors");
        (deed, Claim::new(copy))
    }

    #[test]
    fn nobody_takes_what_is_not_signed() {
        let (mut deed, mut claim) = drawn();
        assert_eq!(claim.take(), Title::Open);
        assert!(deed.keep());
        assert_eq!(claim.take(), Title::Theirs);
        assert!(matches!(deed.sign(), Err(LineError::Withdrawn)));
        assert!(deed.keep());
    }

    #[test]
    fn what_was_taken_cannot_be_kept() {
        let (mut deed, mut claim) = drawn();
        deed.sign().expect("signed");
        assert_eq!(claim.take(), Title::Ours);
        assert!(!deed.keep() && !deed.keep());
    }

    #[test]
    fn what_was_kept_cannot_be_taken() {
        let (mut deed, mut claim) = drawn();
        deed.sign().expect("signed");
        assert!(deed.keep() && deed.keep());
        assert_eq!(claim.take(), Title::Theirs);
    }

    #[test]
    fn one_that_lets_it_fall_keeps_it_and_one_that_dies_does_not() {
        let (deed, mut claim) = drawn();
        drop(deed);
        assert_eq!(claim.take_within(Duration::ZERO), Title::Theirs);
        let (mut deed, mut claim) = drawn();
        // As the kernel does when the process ends.
        deed.writes = None;
        assert!(claim.take().is_ours());
        drop(deed);
    }

    #[test]
    fn of_two_who_reach_for_it_one_has_it() {
        for _ in 0..2000 {
            let (mut deed, mut claim) = drawn();
            deed.sign().expect("signed");
            let together = Barrier::new(2);
            let (kept, title) = thread::scope(|scope| {
                let taking = scope.spawn(|| {
                    together.wait();
                    claim.take()
                });
                together.wait();
                (deed.keep(), taking.join().expect("no panic"))
            });
            assert_eq!(kept, !title.is_ours());
        }
    }
}
