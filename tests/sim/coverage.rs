//! What happened over many seeds: properties mean nothing of what never happens.

use std::cell::RefCell;

use turnstone::turn::{Counter, RequestMethod, ResultCode, SLOTS, Stats};

/// The sum of the counters of many servers.
#[derive(Debug)]
pub(crate) struct Coverage(RefCell<[u64; SLOTS]>);

impl Coverage {
    pub(crate) fn new() -> Self {
        Self(RefCell::new([0; SLOTS]))
    }

    pub(crate) fn add(&self, stats: &Stats) {
        let mut sums = self.0.borrow_mut();
        let slots = sums.iter_mut().zip(stats.slots());
        slots.for_each(|(sum, slot)| *sum += slot);
    }

    /// Panics when one of `counters` never counted.
    pub(crate) fn check(&self, counters: &[Counter]) {
        for counter in counters {
            let sum = self.0.borrow()[counter.slot()];
            assert!(sum > 0, "{counter:?} never happened");
        }
    }
}

/// The counters of requests of `method` that end in success or in one of `codes`.
pub(crate) fn answers(method: RequestMethod, codes: &[u16]) -> Vec<Counter> {
    let codes = codes.iter().map(|code| ResultCode::error(*code));
    let results = codes.chain([ResultCode::SUCCESS]);
    results
        .map(|result| Counter::Requests(method, result))
        .collect()
}
