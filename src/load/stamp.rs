//! What every packet says of itself: 12 bytes, so that they fit a transaction id too.

use std::time::{Duration, Instant};

/// When the run began: all its times count from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin(Instant);

impl Origin {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since then.
    pub(super) fn nanos(self) -> u64 {
        nanos(self.0.elapsed())
    }
}

/// `duration` in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes of a stamp.
pub(super) const STAMP: usize = 12;

/// The due time is kept in 48 bits of nanoseconds: 78 hours.
const DUE_BITS: u64 = (1 << 48) - 1;

/// Where a packet belongs and when it was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Nanoseconds since the run began.
    pub(super) due: u64,
    /// Which flow of its worker, below 2^24.
    pub(super) flow: usize,
    /// Counts the packets of the flow.
    pub(super) sequence: u16,
    /// Which trial of the run.
    pub(super) trial: u8,
}

impl Stamp {
    pub(super) fn write(&self, to: &mut [u8]) {
        let due = (self.due & DUE_BITS).to_be_bytes();
        let flow = (self.flow as u64).to_be_bytes();
        to[..6].copy_from_slice(&due[2..]);
        to[6..9].copy_from_slice(&flow[5..]);
        to[9..11].copy_from_slice(&self.sequence.to_be_bytes());
        to[11] = self.trial;
    }

    /// The stamp at the start of `payload`; none when it is too short.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, f0, f1, f2, s0, s1, trial] =
            *payload.first_chunk::<STAMP>()?;
        let flow = u32::from_be_bytes([0, f0, f1, f2]);
        Some(Self {
            due: u64::from_be_bytes([0, 0, d0, d1, d2, d3, d4, d5]),
            flow: flow as usize,
            sequence: u16::from_be_bytes([s0, s1]),
            trial,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_round_trip() {
        let stamp = Stamp {
            due: 0xABCD_EF01_2345,
            flow: 39_999,
            sequence: 65_535,
            trial: 7,
        };
        let mut bytes = [0; STAMP + 1];
        stamp.write(&mut bytes);
        assert_eq!(Stamp::read(&bytes), Some(stamp));
        assert_eq!(Stamp::read(&bytes[..STAMP - 1]), None);
    }
}
