//! Stays with a running server: signals, a shard that dies, the end.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::certificates::Certificates;
use super::notify::Notify;
use super::start::Running;
use crate::shard::ShardHandle;
use crate::transport::TlsServer;
use crate::turn::{Counter, Direction, Family, Stats, Transport};

/// How long the shards may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signals that a server heeds; from here on none of them ends the process by itself.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
enum Wish {
    Stop(&'static str),
    Reload,
}

impl Signals {
    /// Heeds them from now on. Needs the control thread's runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        select! {
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }

    /// The next signal that asks to stop.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Wish::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

/// Stays until the server ends: 0 when it was told to stop and stopped, otherwise 1.
pub(super) async fn supervise(running: Running, mut signals: Signals) -> ExitCode {
    let started = Instant::now();
    let notify = Notify::from_environment();
    notify.ready();
    let Running {
        shards,
        mut ended,
        readiness,
        mut certificates,
    } = running;
    let told = loop {
        select! {
            wish = signals.next() => match wish {
                Wish::Stop(name) => { info!("{name}: stopping"); break true; }
                Wish::Reload => reload(certificates.as_mut(), &shards),
            },
            Some(index) = ended.recv() => { error!("worker {index} has died: stopping"); break false; }
            renewed = changed(certificates.as_mut()) => renew(renewed, &shards),
        }
    };
    readiness.set(false);
    notify.stopping();
    let stopped = select! {
        stopped = stop(shards) => stopped,
        name = signals.stop() => { warn!("{name} once more: ending at once"); None }
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

/// SIGHUP.
fn reload(certificates: Option<&mut Certificates>, shards: &[ShardHandle]) {
    match certificates {
        Some(certificates) => {
            renew(certificates.reload(), shards);
            info!("SIGHUP: the certificates were read again; all else needs a restart for now");
        }
        None => warn!("SIGHUP: reloading needs a restart for now; nothing has changed"),
    }
}

/// The next look at the certificates' files; never while there are none.
async fn changed(certificates: Option<&mut Certificates>) -> Option<TlsServer> {
    match certificates {
        Some(certificates) => certificates.changed().await,
        None => std::future::pending().await,
    }
}

/// New connections start from `server`, if there is a new one.
fn renew(server: Option<TlsServer>, shards: &[ShardHandle]) {
    if let Some(server) = server {
        shards
            .iter()
            .for_each(|shard| shard.set_tls(server.clone()));
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
