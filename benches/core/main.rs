//! What one packet costs the core: nanoseconds and heap allocations, without a socket.
//!
//! `cargo bench --bench core` prints a table, `-- --json` one JSON object, `-- WORD` only the cases whose
//! names hold the word. `-- --instructions` counts instructions with callgrind and fails when they are
//! more than the committed figures; `-- --instructions --bless` commits to the new counts. Without cargo's `--bench`, as under `cargo test`, every case runs for a moment
//! to see that it works and allocates nothing where it must not.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

mod cases;
#[path = "../../tests/common/mod.rs"]
mod common;
mod counting;
mod figures;
mod instructions;
mod measure;

use std::process::ExitCode;

use serde_json::json;

use cases::Case;
use measure::{Effort, Measured};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has(instructions::COUNT) {
        let is_named = |case: &Case| arguments.iter().any(|name| name == case.name);
        let cases = cases::all();
        cases
            .iter()
            .filter(|case| is_named(case))
            .for_each(instructions::run_counted);
        return ExitCode::SUCCESS;
    }
    if has("--instructions") {
        return instructions::check(&cases::all(), has("--bless"));
    }
    measure(&arguments);
    ExitCode::SUCCESS
}

fn measure(arguments: &[String]) {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let effort = if has("--bench") {
        Effort::Full
    } else {
        Effort::Smoke
    };
    let words: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted =
        |case: &Case| words.is_empty() || words.iter().any(|word| case.name.contains(*word));

    let results: Vec<(&'static str, Measured)> = cases::all()
        .into_iter()
        .filter(wanted)
        .map(|case| (case.name, run(case, effort)))
        .collect();
    let memory = cases::heap_per_idle_allocation();
    if has("--json") {
        print_json(&results, memory);
    } else {
        print_table(&results, memory);
    }
}

fn run(case: Case, effort: Effort) -> Measured {
    let measured = measure::run((case.prepare)(), effort);
    if case.allocates_nothing {
        assert_eq!(
            measured.allocations, 0.0,
            "{} allocates on the heap",
            case.name
        );
    }
    measured
}

fn print_table(results: &[(&'static str, Measured)], memory: usize) {
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>17}",
        "one thread, no sockets", "median ns", "least", "most", "heap allocations"
    );
    for (name, measured) in results {
        let Measured {
            median,
            least,
            most,
            allocations,
        } = measured;
        println!("{name:<44} {median:>9.1} {least:>9.1} {most:>9.1} {allocations:>17.2}");
    }
    println!(
        "heap bytes of an idle allocation, of {}: {memory}",
        cases::IDLE_ALLOCATIONS
    );
}

fn print_json(results: &[(&'static str, Measured)], memory: usize) {
    let case = |(name, measured): &(&'static str, Measured)| {
        json!({
            "name": name,
            "median_ns": measured.median,
            "least_ns": measured.least,
            "most_ns": measured.most,
            "heap_allocations": measured.allocations,
        })
    };
    let cases: Vec<_> = results.iter().map(case).collect();
    println!(
        "{}",
        json!({ "cases": cases, "heap_bytes_per_idle_allocation": memory })
    );
}
