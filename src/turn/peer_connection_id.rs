//! What peer data connections are named by (RFC 6062 §6.2.1).

/// CONNECTION-ID (RFC 6062 §6.2.1): names one peer data connection of the process, at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerConnectionId(u32);

impl PeerConnectionId {
    /// The value of the attribute.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The id that the attribute names; whether it exists is another matter.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}
