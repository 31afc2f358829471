//! Whether a packet may be relayed, as far as bandwidth goes.

use super::{AllocationMeter, Packet, bytes_per_second};
use crate::time::Now;
use crate::turn::allocation_key::AllocationKey;
use crate::turn::outcome::Reason;
use crate::turn::server::Server;
use crate::turn::stats::Direction;

impl Server {
    /// Whether `bytes` of application data may be relayed for the allocation.
    pub(in crate::turn) fn admit(
        &mut self,
        now: Now,
        key: AllocationKey,
        direction: Direction,
        bytes: usize,
    ) -> Result<(), Reason> {
        if self.policy.bandwidth.is_unlimited() {
            return Ok(());
        }
        let packet = Packet {
            direction,
            bytes: bytes as u64,
            at: now.instant,
        };
        self.measure(key, &packet)
    }

    fn measure(&mut self, key: AllocationKey, packet: &Packet) -> Result<(), Reason> {
        let limits = self.policy.bandwidth;
        let allocation = self.allocations.get_mut(key).ok_or(Reason::NoAllocation)?;
        if let Some(limit) = limits.per_allocation {
            let bucket = &mut allocation.meter.buckets[packet.direction as usize];
            if !bucket.take(packet.bytes, bytes_per_second(limit), packet.at) {
                return Err(Reason::AllocationBandwidth);
            }
        }
        if limits.per_user.is_none() && limits.total.is_none() {
            return Ok(());
        }
        let (metering, shared) = (&mut self.metering, &self.shared.meters);
        let person = &allocation.account.person;
        let user = *allocation
            .meter
            .user
            .get_or_insert_with(|| metering.attach(person, shared));
        metering.measure(user, packet, &limits, shared)
    }

    /// Ends the measuring of an allocation that leaves this shard or ends.
    pub(in crate::turn) fn detach_meter(&mut self, meter: &mut AllocationMeter) {
        if let Some(user) = meter.user.take() {
            self.metering.detach(user, &self.shared.meters);
        }
    }
}
