//! A connection that goes on to an upstream, or back to the process from which this one took over.

use std::io;
use std::time::Duration;

use super::pipe::{Most, Moved, Needs, Pipe, Tools};
use super::token::{ConnectionId, Token};
use super::watch::Watch;
use super::wire::{End, Wire};
use crate::net::{Epoll, Interest};
use crate::time::Instant;

/// Pumps of what is left when the poller speaks of neither end any more.
const LAST_PUMPS: usize = 256;

/// The far side of a client's connection, and what is on the way.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) far: Wire,
    pipe: Pipe,
    idle_after: Duration,
    /// Nothing need happen while both ends may speak.
    may_rest: bool,
    /// The upstream, and until when it must have accepted; none when it has.
    connecting: Option<(usize, Instant)>,
    /// When something last moved.
    stirred: Instant,
    near: Watch,
    distant: Watch,
}

impl Passage {
    /// Over a connection `far` that is being opened.
    pub(super) fn new(
        upstream: usize,
        far: Wire,
        now: Instant,
        connect_timeout: Duration,
        idle_after: Duration,
    ) -> Self {
        Self {
            far,
            pipe: Pipe::new(now, b""),
            idle_after,
            may_rest: false,
            connecting: Some((upstream, now + connect_timeout)),
            stirred: now,
            near: Watch::For(Interest::Read),
            distant: Watch::For(Interest::Write),
        }
    }

    /// Over `far`, to a process that closes it by its own rules. The client is to be told `early` before all
    /// else.
    pub(super) fn back(far: Wire, early: &[u8], now: Instant, idle_after: Duration) -> Self {
        Self {
            far,
            pipe: Pipe::new(now, early),
            idle_after,
            may_rest: true,
            connecting: None,
            stirred: now,
            near: Watch::Unknown,
            distant: Watch::For(Interest::Read),
        }
    }

    /// Takes bytes for the upstream that came before it was there.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pipe.push(bytes);
    }

    /// The client has said all.
    pub(super) fn near_ended(&mut self, end: End) {
        self.pipe.near_ended(end);
    }

    /// The upstream, if it has not accepted yet.
    pub(super) fn connecting_to(&self) -> Option<usize> {
        self.connecting.map(|(upstream, _)| upstream)
    }

    /// The upstream has accepted.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connecting = None;
        self.stirred = now;
    }

    /// Whether the client has not heard all that the upstream said.
    pub(super) fn is_cut(&self) -> bool {
        !self.pipe.is_done() || self.pipe.is_broken()
    }

    /// When it is to be closed if nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        let idle = if self.may_rest {
            Instant::FAR_FUTURE
        } else {
            self.stirred + self.idle_after
        };
        let ending = self.pipe.deadline(self.idle_after);
        let connecting = self.connecting.map(|(_, until)| until);
        connecting.unwrap_or(idle.min(ending))
    }

    /// Notes that the poller has told of the end of one side.
    pub(super) fn note_gone(&mut self, token: Token, near: &Wire, poller: &Epoll) {
        let (watch, wire) = match token {
            Token::Far(_) => (&mut self.distant, &self.far),
            _ => (&mut self.near, near),
        };
        watch.end(wire, poller);
    }

    /// Carries what can be carried; true when nothing is left to do.
    pub(super) fn pump(&mut self, now: Instant, near: &mut Wire, tools: &mut Tools<'_>) -> bool {
        if self.connecting.is_some() {
            return false;
        }
        let both_gone = self.near.is_gone() && self.distant.is_gone();
        for _ in 0..if both_gone { LAST_PUMPS } else { 1 } {
            let moved = self.pipe.pump(now, near, &mut self.far, tools);
            if moved != Moved::default() {
                self.stirred = now;
            }
            if self.pipe.is_done() {
                break;
            }
        }
        self.pipe.is_done() || both_gone
    }

    /// Asks the poller about both ends what the pipe waits for.
    ///
    /// # Errors
    /// The poller has no room.
    pub(super) fn watch(
        &mut self,
        id: ConnectionId,
        near: &Wire,
        most: Most,
        poller: &Epoll,
    ) -> io::Result<()> {
        let (near_gone, far_gone) = (self.near.is_gone(), self.distant.is_gone());
        let (of_near, of_far) = if self.connecting.is_some() {
            (Needs::NOTHING, Needs::WRITE)
        } else {
            let of_near = self.pipe.needs_near(near, most, far_gone);
            let of_far = self.pipe.needs_far(&self.far, most, near_gone);
            (of_near, of_far)
        };
        let tokens = (Token::Connection(id), Token::Far(id));
        self.near.set(near, tokens.0, of_near, poller)?;
        self.distant.set(&self.far, tokens.1, of_far, poller)
    }
}
