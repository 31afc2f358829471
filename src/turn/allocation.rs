//! An allocation and the table of them (RFC 8656 §3, §6).

use std::time::Duration;

use super::allocation_key::AllocationKey;
use super::bandwidth::AllocationMeter;
use super::by_client::ByClient;
use super::channel::Channels;
use super::five_tuple::{Family, FiveTuple};
use super::mobile_id::MobileId;
use super::owner::Owner;
use super::peer_connection::PeerConnections;
use super::permission::Permissions;
use super::relay::{Relay, Relays};
use super::reply::{Missing, Reply, Signature};
use super::reservation::{Account, Token};
use super::stats::RequestMethod;
use crate::stun::{Algorithm, TransactionId};
use crate::time::Instant;

/// The Allocate request that made the allocation, to answer its retransmissions alike (S14).
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) transaction: TransactionId,
    pub(super) fingerprint: bool,
    /// What the response is signed with.
    pub(super) integrity: Algorithm,
    pub(super) lifetime: Duration,
    /// What becomes of the port above (EVEN-PORT).
    pub(super) neighbour: Neighbour,
    /// The family that was asked for too and could not be had.
    pub(super) missing: Option<Missing>,
    /// A ticket was asked for (RFC 8016 §3.1).
    pub(super) mobile: bool,
}

/// The port above the relayed transport address (RFC 8656 §7.2 step 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// It is none of ours.
    None,
    /// It is being bound together with ours.
    Wanted,
    /// It is, or was, reserved under this token.
    Reserved(Token),
}

impl Origin {
    /// A response to the request, sent to `client`.
    pub(super) fn reply(&self, client: FiveTuple) -> Reply {
        let Self {
            transaction,
            fingerprint,
            ..
        } = *self;
        Reply {
            to: client,
            method: RequestMethod::Allocate,
            transaction,
            fingerprint,
        }
    }
}

/// Where an allocation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its relay sockets are being opened.
    Opening,
    /// It relays.
    Live,
    /// It comes from another shard, with its relay sockets.
    Arriving,
    /// It comes from another process, with its relay sockets.
    HandedOver,
}

/// One allocation. What a packet looks at lies together and first, in the order of its way: with tens of
/// thousands of allocations every cache line of it comes from memory.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Allocation {
    pub(super) client: FiveTuple,
    pub(super) state: State,
    /// When the last of its relays ends.
    pub(super) expires: Instant,
    pub(super) channels: Channels,
    pub(super) permissions: Permissions,
    /// The peer data connections of a TCP allocation (RFC 6062); none of a UDP allocation.
    pub(super) peers: Option<Box<PeerConnections>>,
    pub(super) meter: AllocationMeter,
    pub(super) relays: Relays,
    /// When the deadlines will have us looked at; later entries are stale.
    pub(super) scheduled: Instant,
    /// When it will have recovered all of its allowance of ICMP reports.
    pub(super) icmp_recovered: Instant,
    pub(super) owner: Owner,
    /// Whose quota it is counted against, as long as it lives.
    pub(super) account: Account,
    pub(super) origin: Origin,
    /// What its tickets know it by, if it has one.
    pub(super) mobile: Option<MobileId>,
}

impl Allocation {
    /// What the response to the request that made the allocation is signed with.
    pub(super) fn signature(&self) -> Signature {
        Signature {
            algorithm: self.origin.integrity,
            key: self.owner.mac_key(),
        }
    }

    /// Whether its relays are TCP listeners.
    pub(super) fn is_tcp(&self) -> bool {
        self.peers.is_some()
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// The relayed address of `family`, if the allocation has one.
    pub(super) fn relay(&self, family: Family) -> Option<&Relay> {
        self.relays.get(family)
    }

    /// When something of it expires next.
    pub(super) fn next_expiry(&self) -> Instant {
        let parts = [
            self.permissions.next_expiry(),
            self.channels.next_expiry(),
            self.peers
                .as_deref()
                .and_then(PeerConnections::next_deadline),
        ];
        parts
            .into_iter()
            .flatten()
            .fold(self.relays.first_expiry(), Instant::min)
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    allocation: Option<Box<Allocation>>,
}

/// The allocations of one shard, by key and by five-tuple.
#[derive(Debug)]
pub(super) struct Allocations {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: ByClient,
}

impl Allocations {
    /// An empty table whose hashes nobody outside can predict.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_client: ByClient::new(seed),
        }
    }

    pub(super) fn key(&self, client: &FiveTuple) -> Option<AllocationKey> {
        let slot = |index: u32| self.slots.get(index as usize);
        let is_theirs = |index| {
            let allocation = slot(index).and_then(|slot| slot.allocation.as_deref());
            allocation.is_some_and(|allocation| allocation.client == *client)
        };
        let index = self.by_client.find(client, is_theirs)?;
        let generation = slot(index)?.generation;
        Some(AllocationKey { index, generation })
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(super) fn get(&self, key: AllocationKey) -> Option<&Allocation> {
        let slot = self
            .slots
            .get(key.index())
            .filter(|slot| slot.generation == key.generation)?;
        slot.allocation.as_deref()
    }

    pub(super) fn get_mut(&mut self, key: AllocationKey) -> Option<&mut Allocation> {
        let slots = &mut self.slots;
        let slot = slots
            .get_mut(key.index())
            .filter(|slot| slot.generation == key.generation)?;
        slot.allocation.as_deref_mut()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "ports run out long before u32"
    )]
    pub(super) fn iter(&self) -> impl Iterator<Item = (AllocationKey, &Allocation)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| {
            let key = AllocationKey {
                index: index as u32,
                generation: slot.generation,
            };
            Some((key, slot.allocation.as_deref()?))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Allocation> {
        let slots = self.slots.iter_mut();
        slots.filter_map(|slot| slot.allocation.as_deref_mut())
    }

    /// Adds an allocation whose five-tuple has none.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ports run out long before u32"
    )]
    pub(super) fn insert(&mut self, allocation: Allocation) -> AllocationKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let key = AllocationKey {
            index,
            generation: slot.generation,
        };
        self.by_client.insert(&allocation.client, index);
        slot.allocation = Some(Box::new(allocation));
        key
    }

    /// Gives an allocation to `client`, whose five-tuple has none; returns the one that it had.
    pub(super) fn rename(&mut self, key: AllocationKey, client: FiveTuple) -> Option<FiveTuple> {
        let allocation = self.get_mut(key)?;
        let old = std::mem::replace(&mut allocation.client, client);
        self.by_client.remove(&old, key.index);
        self.by_client.insert(&client, key.index);
        Some(old)
    }

    pub(super) fn remove(&mut self, key: AllocationKey) -> Option<Box<Allocation>> {
        let slots = &mut self.slots;
        let slot = slots
            .get_mut(key.index())
            .filter(|slot| slot.generation == key.generation)?;
        let allocation = slot.allocation.take()?;
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        self.free.push(key.index);
        self.by_client.remove(&allocation.client, key.index);
        Some(allocation)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn what_a_packet_looks_at_is_three_cache_lines_of_few() {
        assert!(offset_of!(Allocation, meter) <= 3 * 64);
        // With what malloc adds, 464 bytes for every idle allocation.
        assert!(size_of::<Allocation>() <= 456);
    }
}
