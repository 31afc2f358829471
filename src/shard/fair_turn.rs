//! How long relay sockets are served before requests and other shards have their turn.

/// After so many sockets the listeners have a turn again: requests must not wait for media.
const SOCKETS: usize = 32;
/// After so many datagrams of peers too, whatever becomes of them: one message may hold 64.
const DATAGRAMS: usize = 512;

/// What was served since the listeners had their turn.
#[derive(Debug, Default)]
pub(super) struct FairTurn {
    sockets: usize,
    datagrams: usize,
}

impl FairTurn {
    /// Notes that so many datagrams of peers were handled.
    pub(super) const fn note_datagrams(&mut self, count: usize) {
        self.datagrams += count;
    }

    /// Notes that a socket was served; tells whether it is the turn of others, and begins anew then.
    pub(super) fn is_over(&mut self) -> bool {
        self.sockets += 1;
        let is_over = self.sockets >= SOCKETS || self.datagrams >= DATAGRAMS;
        if is_over {
            *self = Self::default();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_after_so_many_sockets() {
        let mut turn = FairTurn::default();
        for _ in 0..3 {
            let ends = (1..).find(|_| turn.is_over());
            assert_eq!(ends, Some(SOCKETS));
        }
    }

    #[test]
    fn a_turn_ends_after_so_many_datagrams() {
        let mut turn = FairTurn::default();
        for _ in 0..3 {
            let ends = (1..).find(|_| {
                turn.note_datagrams(128);
                turn.is_over()
            });
            assert_eq!(ends, Some(4));
        }
    }
}
