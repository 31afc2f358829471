//! What a server did in its life, as it says when it ends.

use std::time::Duration;

use tracing::info;

use crate::turn::{Counter, Direction, Family, Stats, Transport};

/// What the server did in its life.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    allocations: u64,
    relayed_packets: u64,
    relayed_bytes: u64,
}

impl Totals {
    /// Those of all shards.
    pub(super) fn of<'s>(shards: impl Iterator<Item = &'s Stats>) -> Self {
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

    /// Says them in one line.
    pub(super) fn log(&self, uptime: Duration) {
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
