//! All shards of a process at once, while another process takes over from them.
//!
//! In the order of the methods of [`Freezer`]: the listening sockets are lent, every shard is frozen, each
//! gives its state away, and then all of them either go on as if nothing had been or let go.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::mailbox::{Mail, Message};
use super::word::{Give, Lent, Word};
use crate::turn::Handover;

/// How long a frozen shard waits for a word at most before it goes on by itself.
pub(super) const LONGEST: Duration = Duration::from_secs(20);
/// How long a shard may take to hear a word.
const PATIENCE: Duration = Duration::from_secs(5);
/// Letters go between shards in a few rounds at most; more are a mistake of ours.
const ROUNDS: usize = 1000;

/// All shards of a process.
#[derive(Clone, Debug)]
pub struct Freezer(Arc<Mail>);

impl Freezer {
    /// The shards that `mail` goes to.
    pub const fn new(mail: Arc<Mail>) -> Self {
        Self(mail)
    }

    /// Copies of the listening sockets of each shard.
    ///
    /// # Errors
    /// No descriptor is left, or a shard does not answer within seconds.
    pub fn lend(&self) -> io::Result<Vec<Lent>> {
        let answers = self.ask_all(Word::Lend);
        answers.iter().map(|answer| hear(answer)?).collect()
    }

    /// Has the shards read no socket from now on; returns when nothing is on its way between them. What
    /// arrives waits in the kernel. A shard that hears nothing for twenty seconds goes on by itself.
    ///
    /// # Errors
    /// A shard does not answer within seconds.
    pub fn freeze(&self) -> io::Result<()> {
        // In the first round one shard may still write to another that has answered.
        for round in 0..ROUNDS {
            let answers = self.ask_all(Word::Settle);
            let heard: io::Result<Vec<usize>> = answers.iter().map(hear).collect();
            if heard?.iter().sum::<usize>() == 0 && round > 0 {
                return Ok(());
            }
        }
        Err(io::Error::other("the workers do not settle"))
    }

    /// Has every shard give its state to what `give` makes for it, one after the other; returns how many
    /// allocations went. The shards must be frozen.
    ///
    /// # Errors
    /// What the gift says; a shard is not frozen, or does not answer.
    pub fn export(&self, mut give: impl FnMut() -> Give) -> io::Result<usize> {
        let mut allocations = 0;
        for shard in 0..self.0.shards() {
            let (sender, answer) = channel();
            self.tell(shard, Word::Export(give(), sender));
            // The gift has a time of its own.
            let given = answer.recv_timeout(LONGEST);
            allocations += given.map_err(|_| deaf())??;
        }
        Ok(allocations)
    }

    /// Has the shards go on as if nothing had been.
    pub fn resume(&self) {
        (0..self.0.shards()).for_each(|shard| self.tell(shard, Word::Resume));
    }

    /// Has the shards stay frozen until [`release`](Self::release) or [`resume`](Self::resume), after
    /// [`export`](Self::export): none goes on by itself any more.
    ///
    /// # Errors
    /// A shard has gone on by itself before, or does not answer: nothing may be released, and the others are
    /// to be resumed.
    pub fn hold(&self) -> io::Result<()> {
        let answers = self.ask_all(Word::Hold);
        let held: io::Result<Vec<bool>> = answers.iter().map(hear).collect();
        let all = held?.into_iter().all(|held| held);
        all.then_some(()).ok_or_else(went_on)
    }

    /// Has the shards forget what they gave away, let go of the listening sockets and go on with the rest;
    /// returns how many allocations are left.
    ///
    /// # Errors
    /// A shard does not answer within seconds, and lets go all the same; or it has gone on by itself, and
    /// goes on as it was.
    pub fn release(&self) -> io::Result<usize> {
        let answers = self.ask_all(Word::Release);
        let left = answers
            .iter()
            .map(|answer| hear(answer)?.ok_or_else(went_on));
        left.sum()
    }

    /// Tells the shards, once they were released, that the process that took over has ended.
    pub fn bereave(&self) {
        (0..self.0.shards()).for_each(|shard| self.tell(shard, Word::Bereave));
    }

    fn ask_all<T>(&self, word: fn(Sender<T>) -> Word) -> Vec<Receiver<T>> {
        let ask = |shard| {
            let (sender, answer) = channel();
            self.tell(shard, word(sender));
            answer
        };
        (0..self.0.shards()).map(ask).collect()
    }

    fn tell(&self, shard: usize, word: Word) {
        self.0.send(shard, Message::Freeze(word));
    }
}

fn hear<T>(answer: &Receiver<T>) -> io::Result<T> {
    answer.recv_timeout(PATIENCE).map_err(|_| deaf())
}

fn went_on() -> io::Error {
    io::Error::other("a worker has gone on by itself")
}

fn deaf() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a worker does not answer")
}

/// A shard that reads no socket.
#[derive(Debug)]
pub(super) struct Frozen {
    /// When it goes on by itself; never once another process may serve.
    pub(super) until: Option<Instant>,
    /// Who wants to know how many letters it read, once its pass is over.
    pub(super) asked: Option<Sender<usize>>,
    /// Letters that it read since it was asked.
    pub(super) heard: usize,
    /// Another process may have copies of its relay sockets.
    pub(super) lent: bool,
    /// What it gave away.
    pub(super) given: Option<Handover>,
}

impl Default for Frozen {
    fn default() -> Self {
        Self {
            until: Some(Instant::now() + LONGEST),
            asked: None,
            heard: 0,
            lent: false,
            given: None,
        }
    }
}
