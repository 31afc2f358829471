//! What peer data connections are named by (RFC 6062 §6.2.1).

/// The bits of an id that nobody knows before.
const RANDOM: u32 = 0x00FF_FFFF;

/// CONNECTION-ID (RFC 6062 §6.2.1): names one peer data connection of the process, at random but for its
/// first byte, which tells the process from those that it took over from and that still serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerConnectionId(u32);

impl PeerConnectionId {
    /// One of the process that is the `generation`th, as far as a byte counts.
    pub(super) const fn new(generation: u8, random: u32) -> Self {
        Self((generation as u32) << RANDOM.count_ones() | random & RANDOM)
    }

    /// Which process gave it out.
    pub(super) const fn generation(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The value of the attribute.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The id that the attribute names; whether it exists is another matter.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}
