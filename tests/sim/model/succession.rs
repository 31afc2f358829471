//! Another process takes the place of the server, and no answer changes.

use turnstone::turn::{AllocationEnd, Counter, FiveTuple};

use super::{Run, short_policy};
use crate::common::World;
use crate::properties::Property;

impl Run {
    /// Clients over TCP leave first: their sessions cannot move.
    pub(super) fn succeed(&mut self) {
        let entries = self.table.entries.iter();
        let streams: Vec<FiveTuple> = entries
            .map(|(client, _)| *client)
            .filter(|client| client.transport.is_stream())
            .collect();
        streams
            .into_iter()
            .for_each(|client| self.client_gone(client));
        let mut group = World::successors(std::slice::from_ref(&self.world), short_policy(), 0);
        let mut new = group.remove(0);
        new.now = self.world.now;
        let bytes = self.world.export();
        let imported = new.import(&bytes);
        self.world.release(&bytes);
        let what = || format!("not taken over: {:?}", imported.problems);
        Property::AnswersArePredicted.holds(imported.problems.is_empty(), what);
        let old = std::mem::replace(&mut self.world, new);
        check_released(&old);
        self.retired.push(old.server.stats().clone());
        if imported.allocations > 1 && imported.reservations > 0 {
            self.seen.insert("a succession");
        }
    }
}

fn check_released(old: &World) {
    let hold = |condition, what: &str| {
        Property::EverythingReturns.holds(condition, || what.to_owned());
    };
    hold(
        old.relays.is_empty() && old.held().is_empty(),
        "old sockets",
    );
    hold(old.shared.is_idle(), "old quota");
    let stats = old.server.stats();
    let all = |counters: &[Counter]| counters.iter().map(|one| stats.get(*one)).sum::<u64>();
    let gauges = [Counter::Permissions, Counter::Channels, Counter::RelayPorts];
    hold(all(&gauges) == 0, "old gauges");
    let ended: Vec<Counter> = AllocationEnd::ALL
        .iter()
        .map(|end| Counter::AllocationsEnded(*end))
        .collect();
    let mut begun = vec![Counter::AllocationsTakenOver];
    begun.extend(super::created());
    hold(all(&begun) == all(&ended), "created + taken over = ended");
}
