//! Sends and receives the packets of one trial.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::enrol::gone;
use super::error::LoadError;
use super::fleet::{End, Fleet, Flow, PEER};
use super::inbox::{Inbox, PeerInbox};
use super::intake::Intake;
use super::outbound::{PeerBatch, Train, send_burst, shapes};
use super::plan::Traffic;
use super::progress::Progress;
use super::schedule::Schedule;
use super::shape::Shape;
use super::stamp::{Origin, Stamp};
use super::tally::{Stretch, Tally};
use super::window::Window;
use crate::net::{Events, Interest};

/// Bursts sent before receiving has its turn.
const BURSTS_PER_PASS: usize = 32;
/// With less time until the next burst the thread looks around instead of sleeping.
const TOO_SHORT_TO_SLEEP: u64 = 2_000_000;
/// How long after the end a sender that was held up may still send what was due before it.
const GRACE: u64 = 500_000_000;
/// After the end, packets are waited for until all have come, or none has come for so long: a server that
/// was not run meanwhile has lost nothing.
const QUIET: u64 = 3_000_000_000;
/// But not longer than this.
const LONGEST_DRAIN: u64 = 10_000_000_000;
const EVENTS: usize = 256;

/// How hard a worker drives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drive {
    /// Packets a second, and by which part of the distance between bursts they are moved.
    Rate(f64, f64),
    /// Packets on their way.
    Window(usize),
}

/// One trial of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) trial: u8,
    pub(super) drive: Drive,
    pub(super) stretch: Stretch,
}

/// What the passes of a trial work on.
struct Driver<'d> {
    fleet: &'d mut Fleet,
    flows: Vec<Flow>,
    traffic: Traffic,
    course: Course,
    origin: Origin,
    schedule: Option<Schedule>,
    /// Whose turn it is to send.
    next: usize,
    from_client: Option<Train>,
    from_peer: Option<Train>,
    batch: PeerBatch,
    inbox: Inbox,
    peer_inbox: PeerInbox,
    intake: Intake,
    /// Connections that wait for room to write.
    blocked: Vec<usize>,
}

/// Drives `fleet` through `course`.
///
/// # Errors
/// The server has gone, or closed a connection.
pub(super) fn drive(
    fleet: &mut Fleet,
    traffic: Traffic,
    course: Course,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Tally, LoadError> {
    let mut driver = Driver::new(fleet, traffic, course)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut last = driver.origin.nanos();
    let mut shown = (0, 0);
    while last < course.stretch.to && !stop.load(Ordering::Relaxed) {
        let sent = driver.send(last)?;
        driver.wait(&mut events, sent)?;
        let received = driver.receive(&events)?;
        let now = driver.origin.nanos();
        if !sent && !received && course.stretch.holds(now) {
            driver.inbox.tally.idle += now - last;
        }
        last = now;
        let tally = &driver.inbox.tally;
        progress.packets(tally.due - shown.0, tally.received - shown.1);
        shown = (tally.due, tally.received);
    }
    driver.finish(last.min(course.stretch.to))?;
    driver.drain(&mut events)?;
    Ok(driver.into_tally())
}

impl<'d> Driver<'d> {
    fn new(fleet: &'d mut Fleet, traffic: Traffic, course: Course) -> Result<Self, LoadError> {
        let flows = fleet.flows(&traffic)?;
        let (clients, peers) = shapes(&flows)?;
        let train = |shape: &Shape| Train::new(shape, traffic.burst);
        let size = flows.first().map_or(traffic.size, |flow| flow.shape.size);
        let (schedule, window) = match course.drive {
            Drive::Rate(rate, shift) => {
                let schedule = Schedule::new(course.stretch.begin, rate, traffic.burst, shift);
                (Some(schedule), None)
            }
            Drive::Window(packets) => (None, Some(Window::new(packets))),
        };
        Ok(Self {
            origin: fleet.origin,
            fleet,
            traffic,
            course,
            schedule,
            next: 0,
            from_client: clients.as_ref().map(train),
            from_peer: peers.as_ref().map(train),
            batch: PeerBatch::new(size),
            inbox: Inbox {
                trial: course.trial,
                size,
                window,
                tally: Tally::new(course.stretch),
                seen: 0,
            },
            peer_inbox: PeerInbox::new(traffic.gro),
            // What comes to a client together was sent together.
            intake: Intake::new(traffic.burst, traffic.gro),
            blocked: Vec::new(),
            flows,
        })
    }

    /// Sends what is due at `now`; whether there was anything.
    fn send(&mut self, now: u64) -> Result<bool, LoadError> {
        if let Some(window) = &mut self.inbox.window {
            window.advance(now);
        }
        let mut sent = false;
        for _ in 0..BURSTS_PER_PASS {
            let Some(due) = self.take_turn(now) else {
                break;
            };
            sent = true;
            self.inbox.tally.send(due, now, self.traffic.burst);
            self.launch(due)?;
        }
        self.flush_peer();
        Ok(sent)
    }

    /// Sends the last that was due before `end`. What a schedule that could not be kept leaves behind
    /// counts as due and not sent: a sender that is too slow must not look like a server that is fast.
    fn finish(&mut self, end: u64) -> Result<(), LoadError> {
        if self.schedule.is_none() {
            return Ok(());
        }
        while self.send(end)? && self.origin.nanos() < end + GRACE {}
        let rest = self.schedule.as_mut().map(|schedule| schedule.rest(end));
        for (due, bursts) in rest.into_iter().flatten() {
            let packets = bursts * self.traffic.burst;
            self.inbox.tally.send(due, end, packets);
            self.inbox.tally.unsent(due, packets);
        }
        Ok(())
    }

    /// When the next burst was due, if it is due at `now`.
    fn take_turn(&mut self, now: u64) -> Option<u64> {
        if let Some(schedule) = &mut self.schedule {
            return schedule.take(now);
        }
        let window = self.inbox.window.as_mut()?;
        let admitted = now >= self.course.stretch.begin && window.admits(self.traffic.burst);
        admitted.then(|| {
            window.send(self.traffic.burst);
            now
        })
    }

    /// Sends a burst of the flow whose turn it is.
    fn launch(&mut self, due: u64) -> Result<(), LoadError> {
        let number = self.next;
        self.next = (number + 1) % self.flows.len();
        let (trial, burst) = (self.course.trial, self.traffic.burst);
        let flow = &mut self.flows[number];
        match flow.from {
            End::Client(client) => {
                let Some(train) = &mut self.from_client else {
                    return Ok(());
                };
                let (bytes, length) = train.fill(flow, number, due, trial, burst);
                let link = &mut self.fleet.callers[client].link;
                let sent = link.send(bytes, length);
                let sent = sent.map_err(|error| gone(&self.fleet.plan.target, error))?;
                self.inbox.tally.unsent(due, burst - sent);
                if link.is_blocked() {
                    self.wait_for_room(client)?;
                }
            }
            End::Peer(client) => self.launch_from_peer(number, client, due)?,
        }
        Ok(())
    }

    fn launch_from_peer(
        &mut self,
        number: usize,
        client: usize,
        due: u64,
    ) -> Result<(), LoadError> {
        let to = self.fleet.relayed(client)?;
        let (trial, burst) = (self.course.trial, self.traffic.burst);
        let flow = &mut self.flows[number];
        if burst == 1 {
            let stamp = Stamp {
                due,
                flow: number,
                sequence: flow.sequence,
                trial,
            };
            flow.sequence = flow.sequence.wrapping_add(1);
            if self.batch.add(&flow.shape, stamp, to) {
                self.flush_peer();
            }
        } else if let (Some(train), Some(peer)) = (&mut self.from_peer, &self.fleet.peer) {
            let sent = send_burst(peer, to, train.fill(flow, number, due, trial, burst));
            self.inbox.tally.unsent(due, burst - sent);
        }
        Ok(())
    }

    fn flush_peer(&mut self) {
        let tally = &mut self.inbox.tally;
        if let Some(peer) = &self.fleet.peer {
            self.batch.flush(peer, |due| tally.unsent(due, 1));
        }
    }

    fn wait_for_room(&mut self, client: usize) -> Result<(), LoadError> {
        if !self.blocked.contains(&client) {
            self.blocked.push(client);
            let link = &self.fleet.callers[client].link;
            let poller = &self.fleet.poller;
            poller.modify(link, client as u64, Interest::ReadWrite)?;
        }
        Ok(())
    }

    /// Looks what has come. Sleeps only when nothing is due for long: a thread that has to be woken
    /// costs the server, whose send does the waking, and comes late.
    fn wait(&self, events: &mut Events, busy: bool) -> Result<(), LoadError> {
        let until = self.schedule.as_ref().map(Schedule::next_due);
        let until = until.map(|due| due.saturating_sub(self.origin.nanos()));
        let sleep = match until {
            Some(until) if !busy && until > TOO_SHORT_TO_SLEEP => {
                Duration::from_nanos(until - TOO_SHORT_TO_SLEEP / 2)
            }
            _ => Duration::ZERO,
        };
        let longest = Duration::from_millis(50);
        Ok(self.fleet.poller.wait(events, Some(sleep.min(longest)))?)
    }

    /// Takes in what `events` tell of; whether any packet was among it.
    fn receive(&mut self, events: &Events) -> Result<bool, LoadError> {
        for i in 0..events.len() {
            let Some(event) = events.get(i) else {
                break;
            };
            if event.token == PEER {
                self.receive_at_peer()?;
                continue;
            }
            let client = usize::try_from(event.token).unwrap_or(usize::MAX);
            if event.writable {
                self.resume(client)?;
            }
            if event.readable {
                self.receive_at_client(client)?;
            }
        }
        Ok(!events.is_empty())
    }

    fn receive_at_peer(&mut self) -> Result<(), LoadError> {
        let Fleet {
            peer,
            callers,
            origin,
            ..
        } = &*self.fleet;
        let Some(peer) = peer else {
            return Ok(());
        };
        let relayed = |client: usize| -> Option<SocketAddr> {
            callers.get(client).and_then(|caller| caller.relayed)
        };
        let received =
            self.peer_inbox
                .receive(peer, &mut self.inbox, &mut self.flows, relayed, || {
                    origin.nanos()
                });
        // Errors that a relayed address's host sent back are no packets, and no end either.
        received.or_else(|error| match error.raw_os_error() {
            Some(_) => Ok(()),
            None => Err(error.into()),
        })
    }

    fn receive_at_client(&mut self, client: usize) -> Result<(), LoadError> {
        let Self {
            inbox,
            flows,
            origin,
            intake,
            ..
        } = self;
        let Some(caller) = self.fleet.callers.get_mut(client) else {
            return Ok(());
        };
        let mut came = None;
        let received = caller.link.receive(intake, &mut |frame| {
            let now = *came.get_or_insert_with(|| origin.nanos());
            inbox.at_client(flows, client, frame, now);
        });
        received
            .map(drop)
            .map_err(|error| gone(&self.fleet.plan.target, error))
    }

    /// Writes what waits for room on a connection.
    fn resume(&mut self, client: usize) -> Result<(), LoadError> {
        let Some(caller) = self.fleet.callers.get_mut(client) else {
            return Ok(());
        };
        let flushed = caller.link.flush();
        flushed.map_err(|error| gone(&self.fleet.plan.target, error))?;
        if !caller.link.is_blocked() {
            self.blocked.retain(|blocked| *blocked != client);
            let poller = &self.fleet.poller;
            poller.modify(&caller.link, client as u64, Interest::Read)?;
        }
        Ok(())
    }

    /// What was counted.
    fn into_tally(self) -> Tally {
        let mut tally = self.inbox.tally;
        tally.arrivals = self.intake.arrivals();
        tally.arrivals += self.peer_inbox.arrivals();
        tally
    }

    /// Waits for what is still on its way.
    fn drain(&mut self, events: &mut Events) -> Result<(), LoadError> {
        let end = self.origin.nanos();
        let mut last = end;
        loop {
            let tally = &self.inbox.tally;
            let now = self.origin.nanos();
            let complete = tally.received >= tally.due;
            if complete || now > last + QUIET || now > end + LONGEST_DRAIN {
                return Ok(());
            }
            let wait = Duration::from_millis(20);
            self.fleet.poller.wait(events, Some(wait))?;
            let before = self.inbox.seen;
            self.receive(events)?;
            if self.inbox.seen > before {
                last = self.origin.nanos();
            }
        }
    }
}
