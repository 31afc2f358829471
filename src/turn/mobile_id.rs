//! What mobile allocations are named by.

/// Names a mobile allocation for ever, whichever shard it moves to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MobileId(pub(super) u64);
