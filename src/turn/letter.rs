//! What shards tell one another of an allocation that moves (RFC 8016).

use super::allocation_key::AllocationKey;
use super::five_tuple::{Family, FiveTuple};
use crate::time::Instant;

/// From the server of one shard to that of another. Letters between the same two shards keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// The client of the receiver's allocation is heard on `client`, at the shard that asks for it.
    Claim {
        /// The allocation.
        key: AllocationKey,
        /// Its new five-tuple.
        client: FiveTuple,
        /// The shard that asks.
        by: u16,
    },
    /// The allocation that was claimed for `client` is on its way; its sockets are held.
    Arrived {
        /// Its new five-tuple.
        client: FiveTuple,
    },
    /// The allocation that was claimed for `client` cannot be had.
    Gone {
        /// The five-tuple that gets none.
        client: FiveTuple,
    },
    /// The receiver's allocation was refreshed with its ticket.
    Renew {
        /// The allocation.
        key: AllocationKey,
        /// One of its families; none for all.
        family: Option<Family>,
        /// When it expires now.
        expires: Instant,
    },
    /// The receiver's allocation was deleted with its ticket.
    Delete {
        /// The allocation.
        key: AllocationKey,
        /// One of its families; none for all.
        family: Option<Family>,
    },
}
