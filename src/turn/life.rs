//! How allocations change and end (RFC 8656 §7 to §9, §12).

use std::net::{IpAddr, SocketAddr};

use super::allocation::{Allocation, Neighbour};
use super::allocation_key::AllocationKey;
use super::exchange::Action;
use super::five_tuple::{Family, FiveTuple, Transport};
use super::peer_filter::Scope;
use super::relay::Relay;
use super::server::Server;
use super::stats::{AllocationEnd, Counter};
use super::tcp::take_peers;
use crate::stun::ChannelNumber;
use crate::time::{Instant, Now};

impl Server {
    /// Ends the allocation of a client whose connection is gone. A mobile one outlives it: its client may
    /// come back with the ticket for as long as it lasts.
    pub(super) fn client_gone(&mut self, client: &FiveTuple) {
        self.await_no_more(client);
        if let Some(key) = self.allocations.key(client) {
            let allocation = self.allocations.get(key);
            if allocation.is_some_and(|allocation| allocation.mobile.is_none()) {
                self.end(key, AllocationEnd::ClientGone);
            }
        }
    }

    /// Ends an allocation: its socket, port, quota, permissions and channels go.
    pub(super) fn end(&mut self, key: AllocationKey, how: AllocationEnd) {
        let Some(mut allocation) = self.allocations.remove(key) else {
            return;
        };
        self.end_peers(take_peers(&mut allocation, None));
        for relay in allocation.relays.iter() {
            self.close_relay(key, &allocation, relay, how);
        }
        self.release_quota(&allocation);
        self.detach_meter(&mut allocation.meter);
        self.prune_deadlines();
        if let Some(id) = allocation.mobile {
            self.shared.mobility.end(id);
        }
        if !allocation.is_live() {
            return;
        }
        self.stats
            .subtract(Counter::Permissions, allocation.permissions.len() as u64);
        self.stats
            .subtract(Counter::Channels, allocation.channels.len() as u64);
    }

    /// Ends one family of a dual allocation with its permissions and channels, or the whole of one that
    /// has no other (RFC 8656 §8.1).
    pub(super) fn end_family(&mut self, key: AllocationKey, family: Family, how: AllocationEnd) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let Some(relay) = allocation.relays.remove(family) else {
            return self.end(key, how);
        };
        let permissions = allocation.permissions.remove_family(family);
        let channels = allocation.channels.remove_family(family);
        if let Some(id) = allocation.mobile {
            self.shared.mobility.end_family(id, family);
        }
        allocation.expires = allocation.relays.last_expiry();
        let peers = take_peers(allocation, Some(family));
        let (transport, is_tcp) = (allocation.client.transport, allocation.is_tcp());
        self.end_peers(peers);
        self.actions.push_back(close_action(key, family, is_tcp));
        self.give_back_port(relay.public);
        self.count_ended(transport, &relay, is_tcp, how);
        self.stats
            .subtract(Counter::Permissions, permissions as u64);
        self.stats.subtract(Counter::Channels, channels as u64);
    }

    /// Closes the socket of a relay, or gives up opening it.
    fn close_relay(
        &mut self,
        key: AllocationKey,
        allocation: &Allocation,
        relay: &Relay,
        how: AllocationEnd,
    ) {
        let family = relay.family();
        let is_tcp = allocation.is_tcp();
        self.actions.push_back(close_action(key, family, is_tcp));
        self.give_back_ports(relay, allocation.origin.neighbour);
        if allocation.is_live() {
            self.count_ended(allocation.client.transport, relay, is_tcp, how);
        }
    }

    /// A dual allocation counts in both families.
    fn count_ended(
        &mut self,
        transport: Transport,
        relay: &Relay,
        is_tcp: bool,
        how: AllocationEnd,
    ) {
        tracing::debug!(relayed = %relay.public, why = how.label(), "allocation ended");
        let live = self.shared.live_relays(is_tcp);
        live.remove(relay.public, relay.local);
        self.stats.increment(Counter::AllocationsEnded(how));
        self.stats
            .subtract(Counter::Allocations(transport, relay.family()), 1);
        self.stats.subtract(Counter::RelayPorts, 1);
    }

    pub(super) fn prune_deadlines(&mut self) {
        let allocations = &self.allocations;
        self.deadlines.prune(allocations.len(), |at, key| {
            let allocation = allocations.get(key);
            key == AllocationKey::RESERVATIONS
                || allocation.is_some_and(|allocation| allocation.scheduled == at)
        });
    }

    /// Gives back the quota of an allocation, and of the neighbour that it never got.
    pub(super) fn release_quota(&self, allocation: &Allocation) {
        let wanted = allocation.origin.neighbour == Neighbour::Wanted;
        self.give_back_quota(&allocation.account, 1 + u32::from(wanted));
    }

    /// Sets when the allocation expires, all of it or one family.
    pub(super) fn set_expiry(
        &mut self,
        key: AllocationKey,
        family: Option<Family>,
        expires: Instant,
    ) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let is_meant = |relay: &&mut Relay| family.is_none_or(|family| relay.family() == family);
        let relays = allocation.relays.iter_mut().filter(is_meant);
        relays.for_each(|relay| relay.expires = expires);
        allocation.expires = allocation.relays.last_expiry();
        if let Some(id) = allocation.mobile {
            self.shared.mobility.set_until(id, family, expires);
        }
        self.schedule(key, expires);
    }

    /// Lets an allocation end when its ticket says: at any shard it may have been refreshed.
    pub(super) fn adopt_expiry(&mut self, key: AllocationKey, until: [Option<Instant>; 2]) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        for relay in allocation.relays.iter_mut() {
            relay.expires = until[relay.family() as usize].unwrap_or(Instant::ZERO);
        }
        allocation.expires = allocation.relays.last_expiry();
        let next = allocation.next_expiry();
        self.schedule(key, next);
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
    pub(super) fn schedule(&mut self, key: AllocationKey, at: Instant) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if at < allocation.scheduled {
            allocation.scheduled = at;
            self.deadlines.push(at, key);
        }
    }

    /// Ends what has expired of the allocation whose deadline `at` has come.
    pub(super) fn expire(&mut self, now: Now, at: Instant, key: AllocationKey) {
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        if allocation.scheduled != at {
            return;
        }
        let is_due = allocation.relays.first_expiry() <= now.instant;
        if let Some(id) = allocation.mobile.filter(|_| is_due) {
            let until = self.shared.mobility.expire(id, now.instant);
            self.adopt_expiry(key, until);
        }
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        if allocation.expires <= now.instant {
            return self.end(key, AllocationEnd::Expired);
        }
        let ended = |relay: &&Relay| relay.expires <= now.instant;
        let ended = allocation.relays.iter().find(ended).map(Relay::family);
        if let Some(family) = ended {
            self.end_family(key, family, AllocationEnd::Expired);
        }
        self.expire_peers(now, key);
        self.expire_parts(now.instant, key);
    }

    fn expire_parts(&mut self, now: Instant, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
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

fn close_action(key: AllocationKey, family: Family, is_tcp: bool) -> Action {
    if is_tcp {
        Action::CloseTcpRelay { key, family }
    } else {
        Action::CloseRelay { key, family }
    }
}
