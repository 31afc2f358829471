//! Stays with a running server: signals, a shard that dies, the end.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{error, info, warn};

use super::certificates::{Certificates, Secured};
use super::logging::LogGuard;
use super::notify::Notify;
use super::socket::{Answer, Command, Order};
use super::start::Running;
use crate::shard::ShardHandle;
use crate::turn::{Counter, Direction, Family, Stats, Transport};

/// How long the shards may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a server that drains looks whether an allocation is left.
const GLANCE: Duration = Duration::from_millis(100);

/// How often the server looks whether its host has other addresses than before.
const HOST_GLANCE: Duration = Duration::from_secs(5);
/// How long after the last allocation was made, or has moved, every shard has told of it.
const SETTLED: Duration = Duration::from_millis(250);

/// The signals that a server heeds; from here on none of them ends the process by itself.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
}

/// What a signal asks for.
enum Wish {
    /// To end now.
    End(&'static str),
    /// To end soon.
    Stop,
    Drain,
    Reload,
}

impl Signals {
    /// Heeds them from now on. Needs the control thread's runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Wish {
        select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
            _ = self.user_1.recv() => Wish::Drain,
        }
    }

    /// The next signal that asks to end.
    async fn end(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Wish::End(name) => return name,
                Wish::Stop => return "SIGTERM",
                Wish::Drain | Wish::Reload => {}
            }
        }
    }
}

/// A server that makes no new allocations.
#[derive(Clone, Copy)]
struct Drain {
    since: Instant,
    /// When it ends whatever is left.
    ends: Instant,
    /// Since when no allocation is seen, nor a connection that goes on to a web server. One that moves between shards may be unseen for a moment.
    empty: Option<Instant>,
}

/// A server that serves, until it shall not.
struct Supervisor<'l> {
    running: Running,
    notify: Notify,
    log: &'l LogGuard,
    drain: Option<Drain>,
    /// It was told to stop.
    stopping: bool,
}

/// Stays until the server ends: 0 when it was told to stop and stopped, otherwise 1.
pub(super) async fn supervise(running: Running, mut signals: Signals, log: &LogGuard) -> ExitCode {
    let started = Instant::now();
    let notify = Notify::from_environment();
    notify.ready();
    let mut supervisor = Supervisor {
        running,
        notify,
        log,
        drain: None,
        stopping: false,
    };
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
                Some(index) = self.running.ended.recv() => {
                    error!("worker {index} has died: stopping");
                    return false;
                }
                () = sleep(GLANCE), if self.drain.is_some() => {}
                _ = glances.tick() => self.running.configuration.follow_host(&self.running.shards),
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
        let answer = match order.command {
            Command::Preview => self.running.configuration.preview(),
            Command::Reload => self.reload(),
            Command::Drain => {
                let limit = self.running.configuration.config.drain.limit;
                self.drain("drain", limit);
                let left = self.allocations();
                Ok(format!(
                    "{left} allocations are left; the server ends with the last one\n"
                ))
            }
        };
        // Whoever asked may have gone.
        let _ = order.answer.send(answer);
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
        self.notify.ready();
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
        let since = Instant::now();
        let ends = since + limit;
        let earlier = self.drain.map_or(ends, |drain| drain.ends);
        self.drain = Some(Drain {
            since,
            ends: ends.min(earlier),
            empty: None,
        });
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
    }

    fn has_drained(&mut self) -> bool {
        let (now, left, passing) = (Instant::now(), self.allocations(), self.passing());
        let Some(drain) = &mut self.drain else {
            return false;
        };
        drain.empty = (left + passing == 0).then(|| drain.empty.unwrap_or(now));
        let settled = |empty: Instant| now >= empty.max(drain.since) + SETTLED;
        if now < drain.ends && !drain.empty.is_some_and(settled) {
            return false;
        }
        info!(allocations = left, passed_on = passing, "drained: stopping");
        true
    }

    /// Allocations that live, as the shards last told.
    fn allocations(&self) -> u64 {
        let pages = self.running.pages.iter();
        pages.map(|page| page.allocations()).sum()
    }

    /// Connections that go on to a web server, as the shards last told.
    fn passing(&self) -> u64 {
        self.running.pages.iter().map(|page| page.passing()).sum()
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

/// What the server did in its life.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    allocations: u64,
    relayed_packets: u64,
    relayed_bytes: u64,
}

impl Totals {
    fn of<'s>(shards: impl Iterator<Item = &'s Stats>) -> Self {
        let mut totals = Self::default();
        for stats in shards {
            totals.add(stats);
        }
        totals
    }

    fn add(&mut self, stats: &Stats) {
        for transport in Transport::ALL {
            for family in Family::ALL {
                self.allocations += stats.get(Counter::AllocationsCreated(transport, family));
            }
        }
        for direction in Direction::ALL {
            self.relayed_packets += stats.get(Counter::RelayedPackets(*direction));
            self.relayed_bytes += stats.get(Counter::RelayedBytes(*direction));
        }
    }

    fn log(&self, uptime: Duration) {
        info!(
            uptime_seconds = uptime.as_secs(),
            allocations = self.allocations,
            relayed_packets = self.relayed_packets,
            relayed_bytes = self.relayed_bytes,
            "stopped"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_of_all_shards() {
        let mut stats = Stats::default();
        stats.increment(Counter::AllocationsCreated(Transport::Tcp, Family::V6));
        stats.increment(Counter::AllocationsCreated(Transport::Udp, Family::V4));
        stats.increment(Counter::RelayedPackets(Direction::ToPeer));
        stats.add(Counter::RelayedBytes(Direction::ToClient), 10);
        let totals = Totals {
            allocations: 4,
            relayed_packets: 2,
            relayed_bytes: 20,
        };
        assert_eq!(Totals::of([&stats, &stats].into_iter()), totals);
    }
}
