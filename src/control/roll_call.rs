//! What the shards say before a server ends that seems to be empty.
//!
//! What they have published is a while old, for as long as the machine leaves a thread alone, and an
//! allocation that moves from shard to shard is seen in neither. So all of them are asked to publish once
//! more, and when nobody is seen then, a second time: what was on its way at the first time has arrived at
//! the second, and has been counted.

use std::sync::mpsc::{Receiver, TryRecvError};

/// What all shards have published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// Who is there.
    pub(super) left: u64,
    /// Allocations that were ever made or have moved, which never get fewer.
    pub(super) arrivals: u64,
}

/// Asks whether anybody is left, again and again.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// The shards that have yet to answer; none while they are not asked.
    unheard: Option<Vec<Receiver<u32>>>,
    /// What was counted when all had answered and nobody was there.
    before: Option<Count>,
}

impl RollCall {
    /// Whether nobody is left, as every shard has said after the first call; `ask` has each of them publish,
    /// `count` adds up what they have published. To be called now and then.
    pub(super) fn finds_nobody<Asked>(
        &mut self,
        ask: impl FnOnce() -> Asked,
        count: impl FnOnce() -> Count,
    ) -> bool
    where
        Asked: Iterator<Item = Receiver<u32>>,
    {
        // What they have published is looked at when they have answered, and not before.
        let have_answered = self.have_answered();
        let count = count();
        if count.left > 0 {
            *self = Self::default();
            return false;
        }
        match have_answered {
            Some(false) => return false,
            Some(true) if self.before == Some(count) => return true,
            Some(true) => self.before = Some(count),
            None => {}
        }
        self.unheard = Some(ask().collect());
        false
    }

    /// Whether all have answered; none while they are not asked. Who has ended has nobody.
    fn have_answered(&mut self) -> Option<bool> {
        let unheard = self.unheard.as_mut()?;
        unheard.retain(|shard| shard.try_recv() == Err(TryRecvError::Empty));
        Some(unheard.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Two shards that answer when they are told to.
    #[derive(Default)]
    struct Shards {
        roll_call: RollCall,
        asked: RefCell<Vec<Sender<u32>>>,
    }

    impl Shards {
        fn look(&mut self, left: u64, arrivals: u64) -> bool {
            let ask = || {
                let asked = (0..2).map(|_| channel());
                asked.map(|(sender, answer)| {
                    self.asked.borrow_mut().push(sender);
                    answer
                })
            };
            self.roll_call
                .finds_nobody(ask, || Count { left, arrivals })
        }

        /// Has so many of those that were asked answer; how many those were.
        fn answer(&self, most: usize) -> usize {
            let mut asked = self.asked.borrow_mut();
            let most = most.min(asked.len());
            let answered = asked.drain(..most);
            answered
                .map(|sender| sender.send(1).expect("heard"))
                .count()
        }
    }

    #[test]
    fn nobody_is_left_when_every_shard_has_said_so_twice() {
        let mut shards = Shards::default();
        for _ in 0..2 {
            assert!(!shards.look(0, 7));
            assert_eq!(shards.answer(2), 2);
        }
        assert!(shards.look(0, 7));
    }

    #[test]
    fn a_shard_that_does_not_answer_is_waited_for() {
        let mut shards = Shards::default();
        for round in 0..2 {
            assert!(!shards.look(0, 7));
            assert_eq!(shards.answer(1), 1, "round {round}");
            for _ in 0..1000 {
                assert!(!shards.look(0, 7));
            }
            assert_eq!(shards.answer(2), 1, "nobody is asked twice");
        }
        assert!(shards.look(0, 7));
    }

    #[test]
    fn who_is_seen_only_when_all_have_answered_is_left() {
        let mut shards = Shards::default();
        assert!(!shards.look(0, 7));
        shards.answer(2);
        assert!(!shards.look(1, 8));
        assert_eq!(
            shards.answer(2),
            0,
            "nobody is asked while somebody is seen"
        );
        // From the beginning.
        for _ in 0..2 {
            assert!(!shards.look(0, 8));
            assert_eq!(shards.answer(2), 2);
        }
        assert!(shards.look(0, 8));
    }

    /// It was on its way when the shards answered first, came to one that had answered, and went on to
    /// another before they were asked again.
    #[test]
    fn who_came_between_two_answers_may_be_there() {
        let mut shards = Shards::default();
        assert!(!shards.look(0, 7));
        shards.answer(2);
        assert!(!shards.look(0, 7));
        shards.answer(2);
        assert!(!shards.look(0, 8));
        shards.answer(2);
        assert!(shards.look(0, 8));
    }

    #[test]
    fn a_shard_that_has_ended_has_nobody() {
        let mut shards = Shards::default();
        for _ in 0..2 {
            assert!(!shards.look(0, 7));
            shards.asked.borrow_mut().clear();
        }
        assert!(shards.look(0, 7));
    }
}
