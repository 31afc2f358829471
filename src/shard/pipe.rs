//! Two connections joined: what each says goes to the other, no faster than the other takes it.
//!
//! Bytes are read while fewer than the allowed number wait for the other end; beyond it the sender has to
//! wait in its own kernel. An end that has said all is told to the other behind its last byte, and the
//! opposite direction goes on.

use std::io::{self, Write};
use std::time::Duration;

use super::wire::{End, Wire};
use crate::time::Instant;
use crate::transport::TlsScratch;

/// Reads of one direction in one pass; the rest has its turn when others had theirs.
const READS: usize = 8;
/// Memory of bytes that waited is kept up to this size.
const KEPT: usize = 4096;
/// After one end broke, the other has so long to take the last bytes and to close.
const LINGER: Duration = Duration::from_secs(5);

/// What is needed to carry bytes.
pub(super) struct Tools<'t> {
    /// Where to read into; see [`Wire::read`].
    pub(super) room: &'t mut [u8],
    pub(super) scratch: &'t mut TlsScratch,
    pub(super) most: Most,
}

/// How many bytes may wait for each end before who speaks to it is not read; none while zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) for_near: usize,
    pub(super) for_far: usize,
}

impl Most {
    /// The same for both ends.
    pub(super) const fn each(bytes: usize) -> Self {
        Self {
            for_near: bytes,
            for_far: bytes,
        }
    }
}

/// How many bytes each end took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) to_near: usize,
    pub(super) to_far: usize,
}

/// What a pipe waits for at one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Needs {
    /// It waits for the other end.
    pub(super) const NOTHING: Self = Self {
        read: false,
        write: false,
    };
    /// It waits until bytes can be written.
    pub(super) const WRITE: Self = Self {
        read: false,
        write: true,
    };
}

/// The two directions between a client's connection, which is near, and another one, which is far.
#[derive(Debug)]
pub(super) struct Pipe {
    out: Lane,
    back: Lane,
    /// When something last happened.
    stirred: Instant,
    broken: bool,
}

impl Pipe {
    /// A pipe whose near end is to be told `early` before all else.
    pub(super) fn new(now: Instant, early: &[u8]) -> Self {
        Self {
            out: Lane::default(),
            back: Lane {
                waiting: early.to_vec(),
                ..Lane::default()
            },
            stirred: now,
            broken: false,
        }
    }

    /// Takes bytes that the near end said before it was joined.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.out.waiting.extend_from_slice(bytes);
    }

    /// The near end has said all, with what was pushed.
    pub(super) fn near_ended(&mut self, end: End) {
        self.out.source_ended(end);
    }

    /// Carries what can be carried without waiting.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        near: &mut Wire,
        far: &mut Wire,
        tools: &mut Tools<'_>,
    ) -> Moved {
        let before = (self.out.stage, self.back.stage);
        let moved = Moved {
            to_far: self.out.pump(near, far, tools, tools.most.for_far),
            to_near: self.back.pump(far, near, tools, tools.most.for_near),
        };
        let after = (self.out.stage, self.back.stage);
        if before != after || moved != Moved::default() {
            self.stirred = now;
        }
        self.broken |= self.out.broken || self.back.broken;
        moved
    }

    /// Whether both directions have come to their end.
    pub(super) fn is_done(&self) -> bool {
        self.out.stage == Stage::Done && self.back.stage == Stage::Done
    }

    /// Whether one end broke instead of closing.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// When to give up if nothing more happens; never while both ends may speak.
    pub(super) fn deadline(&self, idle_after: Duration) -> Instant {
        if self.broken {
            self.stirred + LINGER
        } else if self.out.stage != Stage::Open || self.back.stage != Stage::Open {
            self.stirred + idle_after
        } else {
            Instant::FAR_FUTURE
        }
    }

    /// What it waits for at the near end. `far_gone` tells that the poller will not speak of the far end
    /// any more, so that its last bytes have to be fetched when there is room for them.
    pub(super) fn needs_near(&self, near: &Wire, most: Most, far_gone: bool) -> Needs {
        let fetches = far_gone && self.back.reads(most.for_near);
        Needs {
            read: self.out.reads(most.for_far),
            write: self.back.has_more() || near.has_unsent() || fetches,
        }
    }

    /// What it waits for at the far end, likewise.
    pub(super) fn needs_far(&self, far: &Wire, most: Most, near_gone: bool) -> Needs {
        let fetches = near_gone && self.out.reads(most.for_far);
        Needs {
            read: self.back.reads(most.for_near),
            write: self.out.has_more() || far.has_unsent() || fetches,
        }
    }
}

/// How far one direction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The source has said all; the sink has not heard all.
    Ending,
    /// The sink was told in the session, and is still to be told by TCP.
    Closing,
    /// The sink broke: what the source still says is thrown away, that it may close in peace.
    Void,
    Done,
}

/// One direction, from a source to a sink.
#[derive(Debug, Default)]
struct Lane {
    /// Read and not taken by the sink, but for the first `taken` bytes.
    waiting: Vec<u8>,
    taken: usize,
    stage: Stage,
    broken: bool,
}

impl Lane {
    fn pump(
        &mut self,
        source: &mut Wire,
        sink: &mut Wire,
        tools: &mut Tools<'_>,
        most: usize,
    ) -> usize {
        let mut moved = self.deliver(sink, tools.scratch);
        for _ in 0..READS {
            if !self.reads(most) {
                break;
            }
            let arrival = source.read(tools.room);
            moved += self.take(&tools.room[..arrival.length], sink, tools.scratch);
            match arrival.end {
                Some(end) => self.source_ended(end),
                None if arrival.length == 0 => break,
                None => {}
            }
        }
        self.finish(sink);
        moved
    }

    /// Whether the source is to be read.
    fn reads(&self, most: usize) -> bool {
        match self.stage {
            Stage::Open => self.waiting.len() - self.taken < most,
            Stage::Void => true,
            Stage::Ending | Stage::Closing | Stage::Done => false,
        }
    }

    /// Whether the sink is still to be told something.
    fn has_more(&self) -> bool {
        !self.waiting.is_empty() || self.stage == Stage::Closing
    }

    fn source_ended(&mut self, end: End) {
        self.broken |= end != End::Closed;
        self.stage = match self.stage {
            Stage::Open => Stage::Ending,
            Stage::Void => Stage::Done,
            other => other,
        };
    }

    fn sink_broke(&mut self) {
        self.broken = true;
        self.waiting = Vec::new();
        self.taken = 0;
        self.stage = match self.stage {
            Stage::Open | Stage::Void => Stage::Void,
            Stage::Ending | Stage::Closing | Stage::Done => Stage::Done,
        };
    }

    /// Gives `bytes` to the sink, behind what waits, and keeps what it does not take.
    fn take(&mut self, bytes: &[u8], sink: &mut Wire, scratch: &mut TlsScratch) -> usize {
        if self.stage == Stage::Void {
            return 0;
        }
        let mut taken = 0;
        if self.waiting.is_empty() {
            taken = self.write(bytes, sink, scratch);
        }
        if self.stage == Stage::Open {
            self.waiting.extend_from_slice(&bytes[taken..]);
        }
        taken
    }

    /// Gives the sink what waits: here, or as the last ciphertext in its session.
    fn deliver(&mut self, sink: &mut Wire, scratch: &mut TlsScratch) -> usize {
        if self.waiting.is_empty() {
            if self.stage == Stage::Open && sink.flush_session().is_err() {
                self.sink_broke();
            }
            return 0;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let taken = self.write(&waiting[self.taken..], sink, scratch);
        if self.stage == Stage::Void || self.stage == Stage::Done {
            return taken;
        }
        self.waiting = waiting;
        self.forget(taken);
        taken
    }

    /// Forgets so many more bytes at the front, and gives back memory.
    fn forget(&mut self, taken: usize) {
        self.taken += taken;
        if self.taken == self.waiting.len() {
            self.waiting.clear();
            self.waiting.shrink_to(KEPT);
            self.taken = 0;
        } else if self.taken > self.waiting.len() / 2 {
            self.waiting.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// How many of `bytes` the sink takes now.
    fn write(&mut self, bytes: &[u8], sink: &mut Wire, scratch: &mut TlsScratch) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match sink.writer(scratch).write(&bytes[done..]) {
                Ok(written @ 1..) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    self.sink_broke();
                    break;
                }
            }
        }
        done
    }

    /// Tells the sink of the end when it has taken all.
    fn finish(&mut self, sink: &mut Wire) {
        if self.stage == Stage::Ending && self.waiting.is_empty() {
            if !self.broken {
                sink.say_goodbye();
            }
            self.stage = Stage::Closing;
        }
        if self.stage == Stage::Closing {
            let flushed = sink.flush_session();
            if flushed.is_err() || !sink.has_unsent() {
                sink.shut_down();
                self.stage = Stage::Done;
            }
        }
    }
}

#[cfg(test)]
mod tests;
