//! Stays with a running server: signals, a shard that dies, the end.

use std::process::ExitCode;
use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{error, info, warn};

use super::certificates::{Certificates, Secured};
use super::logging::LogGuard;
use super::notify::Notify;
use super::roll_call::{Count, RollCall};
use super::signals::{Signals, Wish};
use super::socket::{Answer, Command, Order};
use super::start::Running;
use super::status::Status;
use super::totals::Totals;
use super::upgrade::{Giving, Outcome};
use crate::metrics::Page;
use crate::shard::ShardHandle;
use crate::turn::Stats;

/// How long the shards may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a server that drains looks whether anybody is left.
const GLANCE: Duration = Duration::from_millis(100);

/// How often the server looks whether its host has other addresses than before, and tells the service
/// manager what it does if that has changed.
const HOST_GLANCE: Duration = Duration::from_secs(5);

/// A server that ends when it is empty.
pub(super) struct Drain {
    /// When it ends even if somebody is left.
    ends: Instant,
    /// Who must have left.
    of: Leaving,
    /// What the shards say when nobody is seen, nor a connection that goes on to a web server.
    roll_call: RollCall,
}

/// Who must have left before a server ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The allocations: it makes no new ones.
    Allocations,
    /// Every client of a stream, and the process from which this one took over and which it connects with
    /// the one that took over from it: no new ones come.
    Clients,
}

/// A server that serves, until it shall not.
pub(super) struct Supervisor<'l> {
    pub(super) running: Running,
    pub(super) notify: Notify,
    log: &'l LogGuard,
    pub(super) drain: Option<Drain>,
    /// It was told to stop.
    stopping: bool,
    /// The conversation with a process that takes over.
    pub(super) giving: Option<Giving>,
    /// How that goes.
    pub(super) outcome: Outcomes,
    /// What the service manager was told last.
    pub(super) told: Option<Status>,
}

/// How a take-over goes: where that is said, and where it is heard.
pub(super) type Outcomes = (UnboundedSender<Outcome>, UnboundedReceiver<Outcome>);

/// Stays until the server ends: 0 when it was told to stop and stopped, otherwise 1.
pub(super) async fn supervise(
    running: Running,
    notify: Notify,
    mut signals: Signals,
    log: &LogGuard,
) -> ExitCode {
    let started = Instant::now();
    let mut supervisor = Supervisor {
        running,
        notify,
        log,
        drain: None,
        stopping: false,
        giving: None,
        outcome: unbounded_channel(),
        told: None,
    };
    supervisor.tell_ready();
    let told = supervisor.serve(&mut signals).await;
    let Supervisor {
        running, notify, ..
    } = supervisor;
    running.readiness.set(false);
    notify.stopping();
    let stopped = select! {
        stopped = stop(running.shards) => stopped,
        name = signals.end() => { warn!("{name} once more: ending at once"); None }
    };
    match stopped {
        Some((totals, whole)) => {
            totals.log(started.elapsed());
            if told && whole {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        None => ExitCode::FAILURE,
    }
}

impl Supervisor<'_> {
    /// Serves until the server is to end; tells whether it was told so.
    async fn serve(&mut self, signals: &mut Signals) -> bool {
        let mut glances = interval(HOST_GLANCE);
        loop {
            select! {
                wish = signals.next() => if self.grant(wish) { return true; },
                Some(order) = self.running.orders.recv() => self.obey(order),
                renewed = changed(self.running.certificates.as_mut()) => self.renew(renewed),
                Some(outcome) = self.outcome.1.recv() => self.note(outcome),
                Some(index) = self.running.ended.recv() => {
                    error!("worker {index} has died: stopping");
                    return false;
                }
                () = sleep(GLANCE), if self.drain.is_some() => {}
                _ = glances.tick() => {
                    self.running.configuration.follow_host(&self.running.shards);
                    self.tell_status();
                }
            }
            if self.has_drained() {
                return true;
            }
        }
    }

    /// Does what a signal asks for; tells whether the server ends now.
    fn grant(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::End(name) => {
                info!("{name}: stopping");
                return true;
            }
            Wish::Stop if self.stopping => {
                warn!("SIGTERM once more: stopping now");
                return true;
            }
            Wish::Stop => {
                self.stopping = true;
                self.notify.stopping();
                self.drain(
                    "SIGTERM",
                    self.running.configuration.config.drain.stop_limit,
                );
            }
            Wish::Drain => {
                self.drain("SIGUSR1", self.running.configuration.config.drain.limit);
            }
            Wish::Reload => {
                // What is wrong is in the log.
                let _ = self.reload();
            }
        }
        false
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Command(command, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.carry_out(command));
            }
            Order::TakeOver(stream) => self.hand_over(stream),
        }
    }

    fn carry_out(&mut self, command: Command) -> Answer {
        if self.giving.as_ref().is_some_and(Giving::is_done) {
            return Err("another process serves now\n".into());
        }
        match command {
            Command::Preview => self.running.configuration.preview(),
            Command::Reload => self.reload(),
            Command::Binary => {
                let binary = self.running.estate.binary.as_ref();
                let binary = binary.map(ToString::to_string);
                binary.map_or_else(|| Err("not known\n".into()), |file| Ok(format!("{file}\n")))
            }
            Command::Drain => {
                let limit = self.running.configuration.config.drain.limit;
                self.drain("drain", limit);
                let left = self.allocations();
                Ok(format!(
                    "{left} allocations are left; the server ends with the last one\n"
                ))
            }
        }
    }

    fn reload(&mut self) -> Answer {
        self.notify.reloading();
        let Running {
            configuration,
            shards,
            certificates,
            ..
        } = &mut self.running;
        let answer = configuration.reload(shards, self.log);
        if let (Ok(_), Some(certificates)) = (&answer, certificates) {
            let renewed = certificates.adopt(&configuration.config.tls);
            self.renew(renewed);
        }
        self.tell_ready();
        answer
    }

    /// New sessions start from `secured`, if that is new.
    fn renew(&mut self, secured: Option<Secured>) {
        let Running {
            configuration,
            shards,
            certificates: Some(certificates),
            ..
        } = &mut self.running
        else {
            return;
        };
        if let Some(Secured { tls, dtls }) = secured {
            configuration.config.tls.certificates = certificates.in_use();
            for shard in shards {
                shard.set_tls(tls.clone());
                shard.set_dtls_identity(dtls.clone());
            }
        }
    }

    /// Makes no new allocations from now on, and has the server end when none is left, or after `limit`.
    fn drain(&mut self, why: &str, limit: Duration) {
        // Nobody takes over from a server that ends.
        self.giving = None;
        self.end_without(Leaving::Allocations, limit);
        let left = self.allocations();
        info!(
            allocations = left,
            seconds = limit.as_secs(),
            "{why}: draining; the server ends with the last call, or when the time is up"
        );
        self.running.readiness.set(false);
        let Running {
            configuration,
            shards,
            ..
        } = &mut self.running;
        configuration.drain(shards);
        self.tell_status();
    }

    /// Has the server end when `of` have left, or after `limit`.
    pub(super) fn end_without(&mut self, of: Leaving, limit: Duration) {
        let ends = Instant::now() + limit;
        let earlier = self.drain.as_ref().map_or(ends, |drain| drain.ends);
        self.drain = Some(Drain {
            ends: ends.min(earlier),
            of,
            roll_call: RollCall::default(),
        });
    }

    fn has_drained(&mut self) -> bool {
        let Some(mut drain) = self.drain.take() else {
            return false;
        };
        let is_empty = drain.roll_call.finds_nobody(
            || self.running.shards.iter().map(ShardHandle::publish),
            || Count {
                left: self.left(drain.of),
                arrivals: self.sum(Page::arrivals),
            },
        );
        let is_over = is_empty || Instant::now() >= drain.ends;
        if is_over {
            self.tell_end(drain.of);
        }
        self.drain = Some(drain);
        is_over
    }

    fn tell_end(&self, of: Leaving) {
        match of {
            Leaving::Allocations => {
                info!(
                    allocations = self.allocations(),
                    passed_on = self.passing(),
                    "drained: stopping"
                );
            }
            Leaving::Clients => info!(
                clients = self.left(of),
                "the clients that stayed have left: stopping"
            ),
        }
    }

    /// How many are left of those that must leave.
    fn left(&self, of: Leaving) -> u64 {
        match of {
            Leaving::Allocations => self.allocations() + self.passing(),
            Leaving::Clients => self.sum(Page::clients) + self.running.estate.kin.older(),
        }
    }

    /// Allocations that live, as the shards last told.
    pub(super) fn allocations(&self) -> u64 {
        self.sum(Page::allocations)
    }

    /// Tells the service manager that the server serves, and how.
    pub(super) fn tell_ready(&mut self) {
        let status = self.status();
        self.notify.ready(&status);
        self.told = Some(status);
    }

    /// Tells the service manager what the server does, unless it knows.
    pub(super) fn tell_status(&mut self) {
        let status = self.status();
        if self.told != Some(status) {
            self.notify.status(&status);
            self.told = Some(status);
        }
    }

    /// What the server does now, as the shards last told.
    fn status(&self) -> Status {
        let older = self.running.estate.kin.older();
        let ends = self.drain.as_ref().map(|drain| drain.ends);
        Status::new(self.allocations(), older, ends)
    }

    fn sum(&self, of: fn(&Page) -> u64) -> u64 {
        let pages = self.running.pages.iter();
        pages.map(|page| of(page)).sum()
    }

    /// Connections that go on to a web server, or to an older process whose calls they carry over TLS, as the
    /// shards last told.
    fn passing(&self) -> u64 {
        self.sum(Page::passing)
    }
}

/// The next look at the certificates' files; never while there are none.
async fn changed(certificates: Option<&mut Certificates>) -> Option<Secured> {
    match certificates {
        Some(certificates) => certificates.changed().await,
        None => std::future::pending().await,
    }
}

/// Stops all shards. Returns what they did, and whether each ended well; nothing if they take too long.
async fn stop(shards: Vec<ShardHandle>) -> Option<(Totals, bool)> {
    shards.iter().for_each(ShardHandle::stop);
    let joined = spawn_blocking(|| shards.into_iter().map(join).collect::<Vec<_>>());
    let Ok(Ok(ends)) = timeout(PATIENCE, joined).await else {
        let seconds = PATIENCE.as_secs();
        error!("the workers have not stopped within {seconds} s: ending at once");
        return None;
    };
    let totals = Totals::of(ends.iter().flatten());
    Some((totals, ends.iter().all(Option::is_some)))
}

fn join(shard: ShardHandle) -> Option<Stats> {
    let index = shard.index();
    shard
        .join()
        .inspect_err(|failure| error!("worker {index}: {failure}"))
        .ok()
}
