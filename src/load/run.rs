//! A run from its first socket to its report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::drive::{Course, Drive};
use super::error::LoadError;
use super::plan::{Pace, Plan, Traffic, Workload};
use super::progress::{Progress, Stage};
use super::report::Report;
use super::search::Search;
use super::shares::{head, shares};
use super::stamp::Origin;
use super::tally::{Stretch, Tally, join};
use super::trial::{Handshakes, SetUp, Trial, share_of_growth};
use super::watch::Server;
use super::worker::{Done, Order, Reply, Worker};
use crate::net::raise_descriptor_limit;

/// Files that a worker has open besides its clients' sockets.
const OTHER_FILES: usize = 64;
/// Between the order to begin and the beginning.
const RUN_UP: u64 = 20_000_000;
/// How often it is looked whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Carries out `plan` until its end or until `stop` is set, and ends all allocations that it made.
///
/// # Errors
/// The server cannot be loaded; the error says why and what helps.
pub fn run(plan: &Plan, progress: &Progress, stop: &AtomicBool) -> Result<Report, LoadError> {
    let needed = plan.clients + plan.threads * OTHER_FILES;
    let limit = raise_descriptor_limit()?;
    if needed as u64 > limit {
        return Err(LoadError::Descriptors(needed, limit));
    }
    let server = plan.pid.map(Server::new).transpose()?;
    let origin = Origin::now();
    let halt = AtomicBool::new(false);
    let (replies, inbox) = channel();
    thread::scope(|scope| {
        let shares = shares(plan);
        let workers = shares.iter().map(|clients| {
            let (orders, receiver) = channel();
            let worker = Worker {
                plan,
                clients: *clients,
                origin,
                halt: &halt,
                progress,
                orders: receiver,
                replies: replies.clone(),
            };
            scope.spawn(move || worker.work());
            orders
        });
        let mut office = Office {
            plan,
            progress,
            stop,
            halt: &halt,
            origin,
            server,
            workers: workers.collect(),
            replies: inbox,
            shares,
            trials: 0,
            handshakes: None,
        };
        office.run()
    })
}

/// Tells the workers what to do and the server's cost meanwhile.
struct Office<'o> {
    plan: &'o Plan,
    progress: &'o Progress,
    /// The user wants to stop.
    stop: &'o AtomicBool,
    /// The workers are to stop what they do.
    halt: &'o AtomicBool,
    origin: Origin,
    server: Option<Server>,
    workers: Vec<Sender<Order>>,
    replies: Receiver<Reply>,
    shares: Vec<usize>,
    trials: u8,
    /// How long handshakes took, in nanoseconds.
    handshakes: Option<Histogram<u64>>,
}

impl Office<'_> {
    fn run(&mut self) -> Result<Report, LoadError> {
        let loaded = self.load();
        self.progress.enter(Stage::Release);
        self.halt.store(false, Ordering::Relaxed);
        // The report counts more than a server that has gone in the meantime.
        let released = self
            .order(|_| Order::Release)
            .and_then(|()| self.gather(false));
        drop(released);
        loaded
    }

    fn load(&mut self) -> Result<Report, LoadError> {
        let set_up = self.set_up().map_err(|error| match error {
            // One worker knows only its own.
            LoadError::Exhausted(code, _) => {
                LoadError::Exhausted(code, self.progress.allocations())
            }
            error => error,
        })?;
        self.progress.enter(Stage::Load);
        let mut report = Report::new(self.plan.clone(), set_up);
        report.is_anothers = self.server.and_then(|server| {
            let serves = server.has_socket_at(self.plan.target.server.port());
            serves.map(|serves| !serves)
        }) == Some(true);
        self.load_with(&mut report).map_err(LoadError::during_run)?;
        report.handshakes = self.handshakes.as_ref().and_then(Handshakes::of);
        report.interrupted = self.stop.load(Ordering::Relaxed);
        Ok(report)
    }

    fn load_with(&mut self, report: &mut Report) -> Result<(), LoadError> {
        match self.plan.workload {
            Workload::Cycle => report
                .trials
                .push(self.trial(None, |_, _, stretch| Order::Cycle(stretch))?),
            Workload::Idle => report.trials.push(self.hold()?),
            Workload::Relay(traffic) | Workload::Pair(traffic) | Workload::Binding(traffic) => {
                self.drive(&traffic, report)?;
            }
        }
        Ok(())
    }

    /// Makes the allocations.
    fn set_up(&mut self) -> Result<SetUp, LoadError> {
        let began = self.origin.nanos();
        let heads: Vec<usize> = self
            .shares
            .iter()
            .map(|share| head(*share, self.shares.len()))
            .collect();
        self.order(|worker| Order::Enrol(0..heads[worker]))?;
        self.gather(true)?;
        let resident =
            |server: &Option<Server>| server.map(|server| server.resident_bytes()).transpose();
        let before = resident(&self.server)?;
        let shares = self.shares.clone();
        self.order(|worker| Order::Enrol(heads[worker]..shares[worker]))?;
        self.gather(true)?;
        let after = resident(&self.server)?;
        let rest = self.plan.clients - heads.iter().sum::<usize>();
        let has_allocations = matches!(
            self.plan.workload,
            Workload::Relay(_) | Workload::Pair(_) | Workload::Idle
        );
        Ok(SetUp {
            allocations: if has_allocations {
                self.plan.clients as u64
            } else {
                0
            },
            seconds: seconds(began, self.origin.nanos()),
            bytes_each: before
                .zip(after)
                .filter(|_| has_allocations)
                .and_then(|(before, after)| share_of_growth(after.saturating_sub(before), rest)),
        })
    }

    fn drive(&mut self, traffic: &Traffic, report: &mut Report) -> Result<(), LoadError> {
        match traffic.pace {
            Pace::Rate(rate) => report.trials.push(self.at_rate(rate)?),
            Pace::Window(packets) => report.trials.push(self.in_window(packets)?),
            Pace::Search { loss, start } => {
                let mut search = Search::new(start);
                while let Some(rate) = search.next() {
                    let trial = match self.at_rate(rate) {
                        // What was found so far is worth telling.
                        Err(LoadError::Interrupted) if !report.trials.is_empty() => break,
                        trial => trial?,
                    };
                    search.judge(trial.loss() <= loss);
                    report.trials.push(trial);
                    if self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn at_rate(&mut self, rate: f64) -> Result<Trial, LoadError> {
        let (clients, workers) = (self.plan.clients, self.shares.len());
        let shares = self.shares.clone();
        self.trial(Some(rate), |trial, worker, stretch| {
            #[expect(clippy::cast_precision_loss, reason = "counts of clients")]
            let (share, shift) = (
                rate * shares[worker] as f64 / clients as f64,
                worker as f64 / workers as f64,
            );
            Order::Drive(Course {
                trial,
                drive: Drive::Rate(share, shift),
                stretch,
            })
        })
    }

    fn in_window(&mut self, packets: usize) -> Result<Trial, LoadError> {
        let workers = self.shares.len();
        self.trial(None, |trial, _, stretch| {
            Order::Drive(Course {
                trial,
                drive: Drive::Window((packets / workers).max(1)),
                stretch,
            })
        })
    }

    /// Has the workers do what `order` says of the trial, the worker and the stretch, and adds up what
    /// they counted.
    fn trial(
        &mut self,
        rate: Option<f64>,
        order: impl Fn(u8, usize, Stretch) -> Order,
    ) -> Result<Trial, LoadError> {
        self.trials = self.trials.wrapping_add(1);
        let begin = self.origin.nanos() + RUN_UP;
        let stretch = Stretch::new(begin, self.plan.warm_up, self.plan.duration);
        let trial = self.trials;
        self.order(|worker| order(trial, worker, stretch))?;
        let mut tallies = Vec::new();
        let cost = self.cost_of(stretch, &mut tallies)?;
        self.gather_into(&mut tallies, true)?;
        let Some(tally) = add_up(tallies) else {
            return Err(LoadError::Bug("a trial without a count"));
        };
        Ok(self.with_cost(Trial::of(&tally, rate, cost.seconds), cost))
    }

    /// Waits for the end of `stretch` and tells what it cost the server.
    fn cost_of(&mut self, stretch: Stretch, tallies: &mut Vec<Tally>) -> Result<Cost, LoadError> {
        let cpu = |server: &Option<Server>| server.map(|server| server.cpu_time()).transpose();
        self.wait_until(stretch.from, tallies)?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(LoadError::Interrupted);
        }
        let (before, from) = (cpu(&self.server)?, self.origin.nanos());
        self.wait_until(stretch.to, tallies)?;
        let (after, to) = (cpu(&self.server)?, self.origin.nanos());
        Ok(Cost {
            seconds: seconds(stretch.from, to.min(stretch.to)),
            cpu_nanos: after.zip(before).map(|(after, before)| {
                // Both looks come a little late; the cost is brought to the stretch that counts.
                let share = seconds(stretch.from, to.min(stretch.to)) / seconds(from, to).max(1e-6);
                scale(after.since(&before), share)
            }),
        })
    }

    fn with_cost(&self, mut trial: Trial, cost: Cost) -> Trial {
        trial.cpu_nanos = cost.cpu_nanos;
        trial.resident_bytes = self.server.and_then(|server| server.resident_bytes().ok());
        trial
    }

    /// Sends nothing for the duration.
    fn hold(&mut self) -> Result<Trial, LoadError> {
        let begin = self.origin.nanos();
        let stretch = Stretch::new(begin, Duration::ZERO, self.plan.duration);
        let cost = self.cost_of(stretch, &mut Vec::new())?;
        let mut trial = Trial::of(&Tally::new(stretch), None, cost.seconds);
        trial.busy = 0.0;
        trial.moments = Vec::new();
        Ok(self.with_cost(trial, cost))
    }

    fn order(&self, order: impl Fn(usize) -> Order) -> Result<(), LoadError> {
        self.halt.store(false, Ordering::Relaxed);
        for (number, worker) in self.workers.iter().enumerate() {
            // A worker that has ended has said why.
            let _ = worker.send(order(number));
        }
        Ok(())
    }

    /// Waits for the reply of every worker.
    fn gather(&mut self, may_stop: bool) -> Result<(), LoadError> {
        self.gather_into(&mut Vec::new(), may_stop)
    }

    fn gather_into(&mut self, tallies: &mut Vec<Tally>, may_stop: bool) -> Result<(), LoadError> {
        let mut answered = tallies.len();
        let mut exhausted = None;
        while answered < self.workers.len() {
            if may_stop && self.stop.load(Ordering::Relaxed) {
                self.halt.store(true, Ordering::Relaxed);
            }
            match self.replies.recv_timeout(LOOK) {
                Ok(Ok(done)) => {
                    answered += 1;
                    self.take(done, tallies);
                }
                // The others come to the same end, and only then is it known how many there were.
                Ok(Err(error @ LoadError::Exhausted(..))) => {
                    answered += 1;
                    exhausted.get_or_insert(error);
                }
                Ok(Err(error)) => return self.give_up(error, answered + 1),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(LoadError::Bug("a worker has ended"));
                }
            }
        }
        exhausted.map_or(Ok(()), Err)
    }

    fn take(&mut self, done: Done, tallies: &mut Vec<Tally>) {
        tallies.extend(done.tally);
        match (&mut self.handshakes, done.handshakes) {
            (Some(times), Some(more)) => join(times, &more),
            (times, more) => *times = times.take().or(more),
        }
    }

    /// Stops all workers because of `error`, waits for those who have not answered, and returns it.
    fn give_up(&self, error: LoadError, answered: usize) -> Result<(), LoadError> {
        self.halt.store(true, Ordering::Relaxed);
        for _ in answered..self.workers.len() {
            let _ = self.replies.recv_timeout(Duration::from_secs(5));
        }
        Err(error)
    }

    /// Waits until `end`, for the user to stop, or for an error.
    fn wait_until(&mut self, end: u64, tallies: &mut Vec<Tally>) -> Result<(), LoadError> {
        loop {
            let left = Duration::from_nanos(end.saturating_sub(self.origin.nanos()));
            if self.stop.load(Ordering::Relaxed) {
                self.halt.store(true, Ordering::Relaxed);
                return Ok(());
            }
            if left.is_zero() {
                return Ok(());
            }
            match self.replies.recv_timeout(left.min(LOOK)) {
                Ok(Ok(done)) => self.take(done, tallies),
                Ok(Err(error)) => return self.give_up(error, tallies.len() + 1),
                Err(_) => {}
            }
        }
    }
}

/// What a stretch cost the server.
struct Cost {
    seconds: f64,
    cpu_nanos: Option<u64>,
}

fn add_up(tallies: Vec<Tally>) -> Option<Tally> {
    tallies.into_iter().reduce(|mut all, tally| {
        all.add(&tally);
        all
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a run are below 2^52"
)]
fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds of a run are below 2^52"
)]
fn scale(nanos: u64, share: f64) -> u64 {
    (nanos as f64 * share) as u64
}
