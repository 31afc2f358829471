//! Numbered application data that proves where it comes from and that nobody touched it.

use crate::rng::Rng;

const MAGIC: [u8; 2] = *b"TS";
const HEAD: usize = 2 + 2 + 2 + 4;

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The client that wrote it.
    pub(crate) origin: u16,
    /// The port of the relayed transport address by which it reaches a client.
    pub(crate) through: u16,
    pub(crate) number: u32,
}

impl Payload {
    /// Its bytes: the head, and up to 200 bytes that follow from it.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.origin.to_be_bytes());
        bytes.extend(self.through.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        let mut rng = Rng::new(u64::from(self.origin) << 32 | u64::from(self.number));
        let length = rng.below(200);
        bytes.extend(rng.bytes(length));
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; none when a byte differs.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let [_, _, o0, o1, t0, t1, n0, n1, n2, n3] = *head;
        let payload = Self {
            origin: u16::from_be_bytes([o0, o1]),
            through: u16::from_be_bytes([t0, t1]),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
        };
        Some(payload).filter(|payload| payload.encode() == bytes)
    }
}
