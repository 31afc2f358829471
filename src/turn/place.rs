//! Where an allocation is.

use super::allocation_key::AllocationKey;

/// The shard of an allocation, and its key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counts from zero.
    pub shard: u16,
    /// Its name in that shard.
    pub key: AllocationKey,
}
