//! Which seeds a test runs, and what it says of the one that fails.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::rng::Rng;

/// Runs `test` for `usual` seeds, or for what the environment says; for how many.
///
/// # Panics
/// With the seed and how to run it again, when the test panics.
pub(crate) fn each_seed(usual: u64, test: impl Fn(&mut Rng)) -> u64 {
    let seeds = seeds(usual);
    for seed in seeds.clone() {
        let run = AssertUnwindSafe(|| test(&mut Rng::new(seed)));
        if let Err(cause) = catch_unwind(run) {
            panic!(
                "seed {seed}: {}\nrun it again: TURNSTONE_SIM_SEED={seed} cargo test --test sim",
                message(&*cause)
            );
        }
    }
    seeds.end - seeds.start
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| {
        let text = env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number in TURNSTONE_SIM_*"))
    };
    match (number("TURNSTONE_SIM_SEED"), number("TURNSTONE_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(usual),
    }
}

fn message(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
