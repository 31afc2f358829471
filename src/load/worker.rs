//! A thread with clients of its own, which does what it is told.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use hdrhistogram::Histogram;

use super::drive::{Course, drive};
use super::error::LoadError;
use super::fleet::{Fleet, after};
use super::plan::Plan;
use super::progress::Progress;
use super::stamp::Origin;
use super::tally::{Stretch, Tally};
use super::wire::Step;

/// What a worker is told to do.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Make the allocations of these clients.
    Enrol(Range<usize>),
    /// Send packets.
    Drive(Course),
    /// Make and end allocations.
    Cycle(Stretch),
    /// End all allocations.
    Release,
}

/// What became of it.
pub(super) type Reply = Result<Done, LoadError>;

/// What a worker has to tell after an order.
pub(super) struct Done {
    /// What it counted.
    pub(super) tally: Option<Tally>,
    /// How long its handshakes took, in nanoseconds, if there were any.
    pub(super) handshakes: Option<Histogram<u64>>,
}

/// One worker's side of the talk.
pub(super) struct Worker<'w> {
    pub(super) plan: &'w Plan,
    /// How many clients it has.
    pub(super) clients: usize,
    pub(super) origin: Origin,
    pub(super) halt: &'w AtomicBool,
    pub(super) progress: &'w Progress,
    pub(super) orders: Receiver<Order>,
    pub(super) replies: Sender<Reply>,
}

impl Worker<'_> {
    /// Opens its sockets and does what it is told until nobody tells it anything any more.
    pub(super) fn work(self) {
        let mut fleet = Fleet::open(
            self.plan,
            self.clients,
            self.origin,
            self.halt,
            self.progress,
        );
        while let Ok(order) = self.orders.recv() {
            let reply = match &mut fleet {
                Ok(fleet) => self.obey(fleet, order).map(|tally| Done {
                    tally,
                    handshakes: fleet.take_handshakes(),
                }),
                // Said once; there is nothing to release.
                Err(error) => Err(std::mem::replace(error, LoadError::Interrupted)),
            };
            if self.replies.send(reply).is_err() {
                break;
            }
        }
    }

    fn obey(&self, fleet: &mut Fleet, order: Order) -> Result<Option<Tally>, LoadError> {
        match order {
            Order::Enrol(clients) => fleet
                .enrol(&clients, self.halt, &self.progress.allocations)
                .map(|()| None),
            Order::Drive(course) => {
                let traffic = *self
                    .plan
                    .workload
                    .traffic()
                    .ok_or(LoadError::Bug("no traffic"))?;
                drive(fleet, traffic, course, self.halt, self.progress).map(Some)
            }
            Order::Cycle(stretch) => self.cycle(fleet, stretch).map(Some),
            Order::Release => fleet.release(self.halt).map(|()| None),
        }
    }

    /// Has every client make and end allocations, one after the other.
    fn cycle(&self, fleet: &mut Fleet, stretch: Stretch) -> Result<Tally, LoadError> {
        let peer = fleet.peer_address()?;
        let mut tally = Tally::new(stretch);
        let mut began = vec![0; self.clients];
        let (idle, mut idle_before) = (Cell::new(0), None);
        let performed = fleet.perform_and_count(self.halt, &idle, &mut |client, done| {
            if !matches!(done, None | Some(Step::Release)) {
                return after(done, peer);
            }
            let now = self.origin.nanos();
            if now >= stretch.from {
                idle_before.get_or_insert(idle.get());
            }
            if done.is_some() {
                // Counted here, so that those which a user breaks off do not look lost.
                tally.send(began[client], began[client], 1);
                tally.receive(began[client], now);
                self.progress.packets(0, 1);
            }
            if now >= stretch.to || self.halt.load(Ordering::Relaxed) {
                return None;
            }
            began[client] = now;
            self.progress.packets(1, 0);
            after(None, peer)
        });
        tally.idle = idle.get() - idle_before.unwrap_or_default();
        match performed {
            Ok(()) | Err(LoadError::Interrupted) => Ok(tally),
            Err(error) => Err(error),
        }
    }
}
