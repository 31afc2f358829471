//! How many packets are on their way, when as many are sent as come back.

/// Nanoseconds of one epoch.
const EPOCH: u64 = 10_000_000;
/// A packet that has not come after so many epochs is given up.
const PATIENCE: usize = 20;
/// A power of two above [`PATIENCE`].
const RING: usize = 32;

/// Counts packets on their way by the epoch in which they were sent, so that lost ones leave the window
/// without any being remembered singly.
#[derive(Clone, Debug)]
pub(super) struct Window {
    limit: usize,
    on_way: usize,
    sent: [usize; RING],
    epoch: u64,
}

impl Window {
    /// At most `limit` packets on their way.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            on_way: 0,
            sent: [0; RING],
            epoch: 0,
        }
    }

    /// Gives up what was sent too long before `now`.
    pub(super) fn advance(&mut self, now: u64) {
        let epoch = now / EPOCH;
        let first = self.epoch.max(epoch.saturating_sub(RING as u64));
        for passed in first..epoch {
            // The epoch that is now PATIENCE old.
            let old = &mut self.sent[slot(passed + 1 + (RING - PATIENCE) as u64)];
            self.on_way -= *old;
            *old = 0;
        }
        self.epoch = epoch.max(self.epoch);
    }

    /// Whether `packets` more may be sent. An empty window admits any number.
    pub(super) const fn admits(&self, packets: usize) -> bool {
        self.on_way == 0 || self.on_way + packets <= self.limit
    }

    /// Counts `packets` sent at `now`, the time of the last [`advance`](Self::advance).
    pub(super) const fn send(&mut self, packets: usize) {
        self.sent[slot(self.epoch)] += packets;
        self.on_way += packets;
    }

    /// Counts the return of a packet sent at `sent`.
    pub(super) const fn come(&mut self, sent: u64) {
        let count = &mut self.sent[slot(sent / EPOCH)];
        // One that was given up may come after all.
        if *count > 0 {
            *count -= 1;
            self.on_way -= 1;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below RING")]
const fn slot(epoch: u64) -> usize {
    (epoch % RING as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_full_until_packets_come() {
        let mut window = Window::new(4);
        window.advance(0);
        assert!(window.admits(4) && window.admits(9));
        window.send(4);
        assert!(!window.admits(1));
        window.come(0);
        assert!(window.admits(1) && !window.admits(2));
    }

    #[test]
    fn lost_packets_leave_the_window_in_time() {
        let mut window = Window::new(2);
        window.advance(EPOCH / 2);
        window.send(2);
        for epoch in 1..PATIENCE as u64 {
            window.advance(epoch * EPOCH);
            assert!(!window.admits(1), "epoch {epoch}");
        }
        window.advance(PATIENCE as u64 * EPOCH);
        assert!(window.admits(2));
        window.come(EPOCH / 2);
        assert_eq!(window.on_way, 0);
    }

    #[test]
    fn a_long_pause_empties_the_window() {
        let mut window = Window::new(2);
        window.advance(0);
        window.send(2);
        window.advance(1000 * EPOCH);
        assert_eq!(window.on_way, 0);
        window.send(1);
        window.come(1000 * EPOCH);
        assert_eq!(window.on_way, 0);
    }
}
