//! What an allocation is called, inside the core and outside.

/// Names one allocation of one shard for ever: a slot and how often the slot was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl AllocationKey {
    /// No allocation: a deadline of the reservations.
    pub(super) const RESERVATIONS: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };

    /// The key as one integer, for a poller's token: the generation (31 bits) above the index.
    pub const fn to_token(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`to_token`](Self::to_token) made; the topmost bit is not part of it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves are taken apart on purpose"
    )]
    pub const fn from_token(token: u64) -> Self {
        Self {
            index: token as u32,
            generation: (token >> 32) as u32 & (u32::MAX >> 1),
        }
    }

    /// The slot, a small number that a freed allocation leaves to a later one.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}
