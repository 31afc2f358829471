//! What the server does, in a line for the service manager: `systemctl status` shows it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// What the server does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    allocations: u64,
    /// Processes that were here before and still serve.
    older: u64,
    /// When a server that drains ends at the latest, in seconds of a day (UTC).
    until: Option<u64>,
}

const DAY: u64 = 24 * 3600;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.allocations == 1 { "" } else { "s" };
        let allocations = format_args!("{} allocation{plural}", self.allocations);
        match self.until {
            None => write!(f, "serving {allocations}")?,
            Some(until) => {
                let (hour, minute, second) = (until / 3600, until / 60 % 60, until % 60);
                write!(
                    f,
                    "draining: {allocations} left, ends by {hour:02}:{minute:02}:{second:02} UTC"
                )?;
            }
        }
        match self.older {
            0 => Ok(()),
            1 => f.write_str("; the process before this one still has clients"),
            more => write!(f, "; {more} processes before this one still have clients"),
        }
    }
}

impl Status {
    /// A server with so many allocations, beside so many older processes, that ends at `ends` if it drains.
    pub(super) fn new(allocations: u64, older: u64, ends: Option<Instant>) -> Self {
        Self {
            allocations,
            older,
            until: ends.map(time_of_end),
        }
    }
}

fn time_of_end(ends: Instant) -> u64 {
    let left = ends.saturating_duration_since(Instant::now());
    // To the nearest second, which is the same one every time.
    let end = SystemTime::now() + left + Duration::from_millis(500);
    let since = end.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() % DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_there_are_and_until_when() {
        let serving = Status::default();
        let draining = Status {
            allocations: 1,
            until: Some(DAY - 1),
            ..serving
        };
        let succeeding = Status {
            allocations: 12,
            older: 1,
            ..serving
        };
        let third = Status {
            older: 2,
            ..serving
        };
        for (status, line) in [
            (serving, "serving 0 allocations"),
            (
                draining,
                "draining: 1 allocation left, ends by 23:59:59 UTC",
            ),
            (
                succeeding,
                "serving 12 allocations; the process before this one still has clients",
            ),
            (
                third,
                "serving 0 allocations; 2 processes before this one still have clients",
            ),
        ] {
            assert_eq!(status.to_string(), line);
        }
    }
}
