//! The clocks of the process.

use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Now, UnixTime};

/// Tells the time to the rooms that never ask. Copies share the origin, so that all shards agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self {
            origin: StdInstant::now(),
        }
    }

    /// The time that it calls zero.
    pub const fn origin(&self) -> StdInstant {
        self.origin
    }

    /// What time it is. Costs some tens of nanoseconds: read it once per pass.
    pub fn now(&self) -> Now {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Now {
            instant: Instant::from_nanos(nanos),
            unix: UnixTime(unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_and_time_does_not_go_back() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        let second = copy.now();
        assert!(second.instant >= first.instant);
        assert!(second.unix.0 > 1_700_000_000);
    }
}
