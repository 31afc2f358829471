//! What a client data connection is joined with: the peer's connection, and the pipe between them
//! (RFC 6062 §5.4).

use std::io;
use std::time::Duration;

use super::pipe::{Most, Moved, Pipe, Tools};
use super::token::{ConnectionId, Token};
use super::watch::Watch;
use super::wire::{End, Wire};
use crate::net::{Epoll, Interest, Readiness};
use crate::time::Instant;
use crate::turn::{PeerConnectionId, PeerEnd};

/// How long a connection that was too fast waits before it asks again.
const PAUSE: Duration = Duration::from_millis(10);

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The client's connection.
    Near,
    /// The peer's.
    Far,
}

/// The far end and the pipe that leads to it.
#[derive(Debug)]
pub(super) struct Joined {
    /// What the peer data connection is called.
    pub(super) id: PeerConnectionId,
    /// How it ends, once something else than its two ends decides.
    pub(super) end: Option<PeerEnd>,
    pipe: Pipe,
    far: Wire,
    near_watch: Watch,
    far_watch: Watch,
    /// What was relayed and is not within the limits on bandwidth yet.
    pub(super) owed: Moved,
    /// When to ask for it again.
    resume_at: Option<Instant>,
}

impl Joined {
    /// Joins with the peer's connection `far`, which the poller watches for what can be read. `early` is
    /// what found no room in the client's connection before.
    pub(super) fn new(id: PeerConnectionId, far: Wire, early: &[u8], now: Instant) -> Self {
        Self {
            id,
            end: None,
            pipe: Pipe::new(now, early),
            far,
            near_watch: Watch::Unknown,
            far_watch: Watch::For(Interest::Read),
            owed: Moved::default(),
            resume_at: None,
        }
    }

    /// Takes what the client said behind its ConnectionBind.
    pub(super) fn push(&mut self, bytes: &[u8], end: Option<End>) {
        self.pipe.push(bytes);
        if let Some(end) = end {
            self.pipe.near_ended(end);
        }
    }

    /// Notes what the poller said of the end at `side`.
    pub(super) fn note(&mut self, side: Side, ready: Readiness, near: &Wire, poller: &Epoll) {
        if !ready.ended {
            return;
        }
        match side {
            Side::Near => self.near_watch.end(near, poller),
            Side::Far => self.far_watch.end(&self.far, poller),
        }
    }

    /// Carries what can be carried without waiting.
    pub(super) fn pump(&mut self, now: Instant, near: &mut Wire, tools: &mut Tools<'_>) -> Moved {
        self.pipe.pump(now, near, &mut self.far, tools)
    }

    /// Whether the client has not heard all that the peer said.
    pub(super) fn is_cut(&self) -> bool {
        self.end != Some(PeerEnd::Closed)
    }

    /// How the connection has ended, if it has.
    pub(super) fn outcome(&self) -> Option<PeerEnd> {
        let both_gone = self.near_watch.is_gone() && self.far_watch.is_gone();
        if !self.pipe.is_done() && !both_gone {
            return None;
        }
        Some(if self.pipe.is_broken() || !self.pipe.is_done() {
            PeerEnd::Reset
        } else {
            PeerEnd::Closed
        })
    }

    /// Has the poller tell of what the pipe waits for, and of nothing else.
    pub(super) fn watch(
        &mut self,
        id: ConnectionId,
        near: &Wire,
        poller: &Epoll,
        most: Most,
    ) -> io::Result<()> {
        let (near_gone, far_gone) = (self.near_watch.is_gone(), self.far_watch.is_gone());
        let needs = self.pipe.needs_near(near, most, far_gone);
        let token = Token::Connection(id);
        self.near_watch.set(near, token, needs, poller)?;
        let needs = self.pipe.needs_far(&self.far, most, near_gone);
        let token = Token::Far(id);
        self.far_watch.set(&self.far, token, needs, poller)
    }

    /// Notes what is not within the limits on bandwidth: while there is any that way, nothing is read.
    pub(super) fn owe(&mut self, owed: Moved, now: Instant) {
        let pauses = owed != Moved::default();
        self.owed = owed;
        self.resume_at = pauses.then(|| now + PAUSE);
    }

    /// How much may wait each way, when it is `most` at most.
    pub(super) fn most(&self, most: usize) -> Most {
        let unless = |owed: usize| if owed == 0 { most } else { 0 };
        Most {
            for_near: unless(self.owed.to_near),
            for_far: unless(self.owed.to_far),
        }
    }

    /// Whether it waits for bandwidth.
    pub(super) const fn is_paused(&self) -> bool {
        self.resume_at.is_some()
    }

    /// When to go on, or to give up if nothing more happens.
    pub(super) fn deadline(&self, idle_after: Duration) -> Instant {
        let idle = || self.pipe.deadline(idle_after);
        self.resume_at.unwrap_or_else(idle)
    }
}
