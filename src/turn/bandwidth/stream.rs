//! The connections of TCP allocations: nothing of them is dropped, so they are measured by what has
//! passed, and wait until that is within the limits.

use std::sync::Arc;

use super::bucket::{SharedBucket, depth};
use super::metering::UserPlace;
use super::{Packet, bytes_per_second};
use crate::time::Now;
use crate::turn::owner::Person;
use crate::turn::peer_connection_id::PeerConnectionId;
use crate::turn::server::Server;
use crate::turn::stats::Direction;

/// What all connections of one TCP allocation are measured by, by direction, whichever shards they are at.
#[derive(Debug, Default)]
pub(in crate::turn) struct StreamMeter([SharedBucket; 2]);

/// What a connection that is bound at this shard is measured by.
#[derive(Debug)]
pub(in crate::turn) struct BoundMeter {
    allocation: Arc<StreamMeter>,
    person: Person,
    /// Where its user is measured; none before its first measured bytes.
    user: Option<UserPlace>,
    /// By direction: what was asked for last is within the allocation's limit, but not within others.
    halfway: [bool; 2],
}

impl BoundMeter {
    pub(in crate::turn) fn new(allocation: Arc<StreamMeter>, person: Person) -> Self {
        Self {
            allocation,
            person,
            user: None,
            halfway: [false; 2],
        }
    }
}

impl Server {
    /// Whether the `bytes` that a peer data connection bound at this shard has relayed are within the
    /// limits. Until they are, it should relay no more that way, and ask again for the same bytes.
    pub fn admits_stream(
        &mut self,
        now: Now,
        connection: PeerConnectionId,
        direction: Direction,
        bytes: usize,
    ) -> bool {
        if self.policy.bandwidth.is_unlimited() {
            return true;
        }
        let Some(mut meter) = self.bound.remove(&connection) else {
            return true;
        };
        let packet = Packet {
            direction,
            bytes: bytes as u64,
            at: now.instant,
        };
        let admits = self.measure_stream(&mut meter, &packet);
        self.bound.insert(connection, meter);
        admits
    }

    fn measure_stream(&mut self, meter: &mut BoundMeter, packet: &Packet) -> bool {
        let limits = self.policy.bandwidth;
        let direction = packet.direction as usize;
        if let Some(limit) = limits.per_allocation.filter(|_| !meter.halfway[direction]) {
            let bucket = &meter.allocation.0[direction];
            let rate = bytes_per_second(limit);
            if !bucket.take(packet.bytes, rate, packet.at, depth(packet.bytes)) {
                return false;
            }
        }
        let (metering, shared) = (&mut self.metering, &self.shared.meters);
        let admits = if limits.per_user.is_none() && limits.total.is_none() {
            true
        } else {
            let attach = || metering.attach(&meter.person, shared);
            let user = *meter.user.get_or_insert_with(attach);
            metering.measure(user, packet, &limits, shared).is_ok()
        };
        meter.halfway[direction] = !admits;
        admits
    }

    /// Ends the measuring of a connection that was bound at this shard.
    pub(in crate::turn) fn detach_stream(&mut self, connection: PeerConnectionId) {
        let meter = self.bound.remove(&connection);
        if let Some(user) = meter.and_then(|meter| meter.user) {
            self.metering.detach(user, &self.shared.meters);
        }
    }
}
