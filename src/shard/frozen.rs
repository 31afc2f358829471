//! A shard that another process takes over from: frozen, and then as before or with what is left.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::event_loop::Shard;
use super::ways::Ends;
use super::word::{Give, Lent, Word};
use crate::turn::{Counter, Family, Handed, Handover};

impl Shard {
    /// Does what it is told in the course of a take-over.
    pub(super) fn heed(&mut self, word: Word) {
        // Whoever asked may have given up.
        match word {
            Word::Lend(answer) => drop(answer.send(self.lend())),
            Word::Settle(answer) => {
                self.frozen.get_or_insert_default().asked = Some(answer);
            }
            Word::Export(give, answer) => drop(answer.send(self.export(give))),
            Word::Resume => self.thaw(),
            Word::Bereave => self.bereave(),
            Word::Hold(answer) => drop(answer.send(self.hold())),
            Word::Release(answer) => drop(answer.send(self.release())),
        }
    }

    /// Waits for letters, and for nothing else.
    pub(super) fn rest(&mut self) {
        self.tell_what_was_heard();
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        let left = frozen
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        let Some(message) = self.mailbox.wait(left) else {
            tracing::warn!(
                shard = self.index,
                "the process that took over has gone silent: going on without it"
            );
            self.thaw();
            return;
        };
        frozen.heard += usize::from(!message.is_freeze());
        self.now = self.clock.now();
        self.read_letter(message);
        self.finish_pass();
    }

    /// Answers who wants to know, with what other shards have given counted as a letter.
    fn tell_what_was_heard(&mut self) {
        let asked = self.frozen.as_mut().and_then(|frozen| frozen.asked.take());
        let Some(asked) = asked else {
            return;
        };
        let hopped = self.receive_all_hops();
        self.finish_pass();
        if let Some(frozen) = &mut self.frozen {
            let heard = std::mem::take(&mut frozen.heard) + usize::from(hopped);
            // Whoever asked may have given up.
            let _ = asked.send(heard);
        }
    }

    /// Goes on as if nothing had been.
    fn thaw(&mut self) {
        let frozen = self.frozen.take();
        if frozen.is_some_and(|frozen| frozen.lent) {
            self.relays.suspect();
        }
        // What came behind this word is read when the bell rings.
        self.mailbox.bell.ring();
    }

    /// Stays frozen until it is told otherwise, if the state is given away; tells whether it is.
    fn hold(&mut self) -> bool {
        let given = self.frozen.as_mut().filter(|frozen| frozen.given.is_some());
        let held = given.map(|frozen| frozen.until = None);
        held.is_some()
    }

    fn lend(&mut self) -> io::Result<Lent> {
        let (ways, ends) = Ends::pair(self.dtls.is_some())?;
        self.successor = ends;
        let intakes = self.intakes.iter().map(|intake| intake.listener.as_fd());
        let acceptors = self.acceptors.listeners.iter();
        let acceptors = acceptors.map(|acceptor| acceptor.listener.as_fd());
        let all = intakes.chain(acceptors);
        let copies = all.map(|listener| listener.try_clone_to_owned());
        Ok(Lent {
            listeners: copies.collect::<io::Result<_>>()?,
            ways,
        })
    }

    fn export(&mut self, give: Give) -> io::Result<usize> {
        if self.frozen.is_none() {
            return Err(io::Error::other("the worker is not frozen"));
        }
        let handover = self.server.export(self.now);
        let copies = self.copies_of_reserved(&handover)?;
        if let Some(frozen) = &mut self.frozen {
            frozen.lent = true;
        }
        self.give(&handover, &copies, give)?;
        let allocations = handover.allocations();
        if let Some(frozen) = &mut self.frozen {
            frozen.given = Some(handover);
        }
        Ok(allocations)
    }

    /// Of the sockets that all shards share.
    fn copies_of_reserved(&self, handover: &Handover) -> io::Result<Vec<OwnedFd>> {
        let reserved = handover.sockets().filter_map(|handed| match handed {
            Handed::Reserved { local } => Some(local),
            Handed::Relay { .. } => None,
        });
        reserved.map(|local| self.held.copy(local)).collect()
    }

    fn give(&self, handover: &Handover, reserved: &[OwnedFd], give: Give) -> io::Result<()> {
        let mut reserved = reserved.iter();
        let descriptors: Option<Vec<BorrowedFd<'_>>> = handover
            .sockets()
            .map(|handed| match handed {
                Handed::Relay { key, local } => {
                    let relay = self.relays.peek(key, Family::of(local.ip()));
                    relay.map(|relay| relay.as_fd())
                }
                Handed::Reserved { .. } => reserved.next().map(OwnedFd::as_fd),
            })
            .collect();
        let missing = || io::Error::other("an allocation has no socket");
        give(handover, &descriptors.ok_or_else(missing)?)
    }

    /// Goes on with what was not given away, and takes no further clients; tells how many allocations those
    /// are. One that has given nothing away goes on as it was.
    fn release(&mut self) -> Option<usize> {
        let handover = self.frozen.as_mut()?.given.take()?;
        self.frozen = None;
        // What other shards have for an allocation goes out before that is forgotten.
        self.receive_all_hops();
        self.finish_pass();
        self.server.release(&handover);
        self.drain();
        self.let_go_of_listeners();
        self.watch_successor();
        if self.successor.records.is_none() {
            self.close_listeners();
        }
        // What came behind this word is read when the bell rings.
        self.mailbox.bell.ring();
        Some(self.allocations())
    }

    /// The process that took over has ended; one that has not let go reads its listeners itself.
    fn bereave(&mut self) {
        if self.listening == 0 {
            self.close_listeners();
        }
    }

    /// Nobody reads them for us: clients over DTLS are told, while that is possible.
    fn close_listeners(&mut self) {
        self.close_dtls();
        self.finish_pass();
        self.intakes.clear();
    }

    fn allocations(&self) -> usize {
        let stats = self.server.stats();
        let all: u64 = Counter::allocations()
            .map(|counter| stats.get(counter))
            .sum();
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    /// The sockets live on elsewhere, so that closing them alone does not take them from the poller.
    fn let_go_of_listeners(&mut self) {
        self.listening = 0;
        for intake in &self.intakes {
            if let Err(error) = self.poller.remove(&intake.listener) {
                tracing::debug!(shard = self.index, %error, "cannot let go of a listener");
            }
        }
        for acceptor in self.acceptors.listeners.drain(..) {
            if let Err(error) = self.poller.remove(&acceptor.listener) {
                tracing::debug!(shard = self.index, %error, "cannot let go of a listener");
            }
        }
    }
}
