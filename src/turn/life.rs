//! How allocations begin, change and end (RFC 8656 §6 to §9, §12).

use std::net::{IpAddr, SocketAddr};

use super::allocation::{Allocation, AllocationKey, State};
use super::five_tuple::FiveTuple;
use super::keys::person_of;
use super::peer_filter::Scope;
use super::ports::Parity;
use super::reply::Refusal;
use super::server::{Action, Server};
use super::stats::{AllocationEnd, Counter};
use crate::stun::ChannelNumber;
use crate::time::{Instant, Now};

/// How many ports are tried before an Allocate is answered with 508.
const MAX_TRIES: u8 = 8;

impl Server {
    /// The relay socket is bound: the allocation begins to live and its client learns of it.
    pub(super) fn relay_opened(&mut self, now: Now, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.is_live() {
            return;
        }
        allocation.state = State::Live;
        let lifetime = allocation.origin.lifetime;
        let (relay, transport) = (allocation.relay, allocation.client.transport);
        self.shared.live.insert(relay.public, relay.local);
        self.stats
            .increment(Counter::AllocationsCreated(transport, relay.family()));
        self.stats
            .increment(Counter::Allocations(transport, relay.family()));
        self.stats.increment(Counter::RelayPorts);
        self.set_expiry(key, now.instant + lifetime);
        self.answer_allocate(key);
    }

    /// The relay socket could not be bound: another port, or 508.
    pub(super) fn relay_failed(&mut self, now: Now, key: AllocationKey, retry: bool) {
        self.stats.increment(Counter::RelayFailures);
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        let State::Opening { tries } = allocation.state else {
            return;
        };
        let failed = allocation.relay;
        let again = retry && tries + 1 < MAX_TRIES;
        // The failed port goes back only after the next one is drawn.
        let next = if again {
            // An even port may have been asked for, so an even one follows.
            self.take_port(failed.local, Parity::of(failed.public.port()))
        } else {
            None
        };
        self.ports
            .give_back(failed.public.ip(), failed.public.port());
        let (Some(relay), Some(allocation)) = (next, self.allocations.get_mut(key)) else {
            return self.give_up(now, key);
        };
        allocation.relay = relay;
        allocation.state = State::Opening { tries: tries + 1 };
        self.actions.push_back(Action::OpenRelay {
            key,
            local: relay.bind_address(),
        });
    }

    /// Answers the parked Allocate with 508.
    fn give_up(&mut self, now: Now, key: AllocationKey) {
        let Some(allocation) = self.allocations.remove(key) else {
            return;
        };
        self.release_quota(&allocation);
        let reply = allocation.origin.reply(allocation.client);
        let signature = allocation.signature();
        self.refuse(
            now,
            &reply,
            &Refusal::InsufficientCapacity,
            Some(&signature),
        );
    }

    /// Ends the allocation of a client whose connection is gone.
    pub(super) fn client_gone(&mut self, client: &FiveTuple) {
        if let Some(key) = self.allocations.key(client) {
            self.end(key, AllocationEnd::ClientGone);
        }
    }

    /// Ends an allocation: its socket, port, quota, permissions and channels go.
    pub(super) fn end(&mut self, key: AllocationKey, how: AllocationEnd) {
        let Some(allocation) = self.allocations.remove(key) else {
            return;
        };
        let (relay, transport) = (allocation.relay, allocation.client.transport);
        self.actions.push_back(Action::CloseRelay {
            key,
            family: relay.family(),
        });
        self.ports.give_back(relay.public.ip(), relay.public.port());
        self.release_quota(&allocation);
        self.prune_deadlines();
        if !allocation.is_live() {
            return;
        }
        self.shared.live.remove(relay.public, relay.local);
        self.stats.increment(Counter::AllocationsEnded(how));
        self.stats
            .subtract(Counter::Allocations(transport, relay.family()), 1);
        self.stats.subtract(Counter::RelayPorts, 1);
        self.stats
            .subtract(Counter::Permissions, allocation.permissions.len() as u64);
        self.stats
            .subtract(Counter::Channels, allocation.channels.len() as u64);
    }

    fn prune_deadlines(&mut self) {
        let allocations = &self.allocations;
        self.deadlines.prune(allocations.len(), |at, key| {
            let allocation = allocations.get(key);
            allocation.is_some_and(|allocation| allocation.scheduled == at)
        });
    }

    fn release_quota(&self, allocation: &Allocation) {
        let person = person_of(&allocation.owner.username);
        self.shared
            .quota
            .give_back(person, allocation.client.client.ip());
    }

    /// Sets when the allocation expires.
    pub(super) fn set_expiry(&mut self, key: AllocationKey, expires: Instant) {
        if let Some(allocation) = self.allocations.get_mut(key) {
            allocation.expires = expires;
        }
        self.schedule(key, expires);
    }

    /// Installs or refreshes a permission that passed every check.
    pub(super) fn install_permission(
        &mut self,
        key: AllocationKey,
        peer: IpAddr,
        scope: Scope,
        now: Instant,
    ) {
        let expires = now + self.policy.lifetimes.permission;
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.permissions.install(peer, scope, expires) {
            self.stats.increment(Counter::Permissions);
        }
        self.schedule(key, expires);
    }

    /// Binds or refreshes a channel that passed every check.
    pub(super) fn bind_channel(
        &mut self,
        key: AllocationKey,
        number: ChannelNumber,
        peer: SocketAddr,
        now: Instant,
    ) {
        let expires = now + self.policy.lifetimes.channel;
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let before = allocation.channels.len();
        allocation.channels.bind(number, peer, expires);
        let new = allocation.channels.len() - before;
        self.stats.add(Counter::Channels, new as u64);
        self.schedule(key, expires);
    }

    /// Has the allocation looked at by `at`, unless it is looked at earlier anyway.
    fn schedule(&mut self, key: AllocationKey, at: Instant) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if at < allocation.scheduled {
            allocation.scheduled = at;
            self.deadlines.push(at, key);
        }
    }

    /// Ends what has expired of the allocation whose deadline `at` has come.
    pub(super) fn expire(&mut self, now: Instant, at: Instant, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.scheduled != at {
            return;
        }
        if allocation.expires <= now {
            return self.end(key, AllocationEnd::Expired);
        }
        let permissions = allocation.permissions.expire(now);
        let channels = allocation.channels.expire(now);
        allocation.scheduled = Instant::FAR_FUTURE;
        let next = allocation.next_expiry();
        self.stats
            .subtract(Counter::Permissions, permissions as u64);
        self.stats.subtract(Counter::Channels, channels as u64);
        self.schedule(key, next);
    }
}
