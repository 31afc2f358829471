//! Turnstone against Debian's coturn in the same run: what a packet, an allocation, an answer costs.
//!
//! `cargo bench --bench compare` starts both servers by turns on the first core, loads them from the
//! second by the room `load` (what `turnstone bench` is made of), prints medians and ratios and writes
//! `compare.json` and `compare.html` below `target/compare`. Without coturn (`apt install coturn`) it
//! measures Turnstone alone and says so. `benches/README.md` says what the figures mean.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its result"
)]

mod cases;
mod outcome;
mod process;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cases::{Case, Series};
use outcome::{Outcome, Runs};
use process::{Process, Server};
use turnstone::load::{self, Progress, Report};

/// What the command line asks for: `cargo bench --bench compare -- --rounds 5 --only tcp`.
struct Options {
    /// How often each server is measured; medians count.
    rounds: usize,
    /// How long each time.
    duration: Duration,
    /// Only the cases whose name contains this.
    only: Option<String>,
    /// Fail when something is grossly wrong.
    assert: bool,
}

impl Options {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            rounds: 3,
            duration: Duration::from_secs(2),
            only: None,
            assert: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(value()?)?,
                "--seconds" => options.duration = Duration::from_secs(number(value()?)? as u64),
                "--only" => options.only = Some(value()?.clone()),
                "--assert" => options.assert = true,
                // What cargo passes.
                "--bench" => {}
                _ => {
                    return Err(format!(
                        "{argument} is not known; there are --rounds N, --seconds N, --only NAME, --assert"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// What is to be measured.
    fn series(&self) -> Result<Vec<Series>, String> {
        let all = cases::all();
        let Some(only) = &self.only else {
            return Ok(all);
        };
        let names: Vec<&str> = all.iter().flat_map(Series::names).collect();
        let wanted = all.into_iter().filter_map(|series| series.only(only));
        let wanted: Vec<Series> = wanted.collect();
        if wanted.is_empty() {
            let names = names.join("\n  ");
            return Err(format!(
                "--only {only:?}: no workload is called so; there are\n  {names}"
            ));
        }
        Ok(wanted)
    }
}

fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or(format!("{text:?}: write a number from 1 on"))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = directory()?;
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if given("--test") || !given("--bench") {
        // `cargo test --benches`, which passes nothing, only wants to know that it still works.
        return smoke(&directory);
    }
    let options = Options::of(&arguments)?;
    let wanted = options.series()?;
    process::take_precedence();
    process::pin(1)?;
    let installed = Server::ALL.into_iter().filter(Server::is_installed);
    let servers: Vec<Server> = installed.collect();
    if !servers.contains(&Server::Coturn) {
        eprintln!("coturn is not installed: Turnstone is measured alone (apt install coturn)");
    }
    let mut outcomes = Vec::new();
    for series in &wanted {
        outcomes.extend(compare(series, &servers, &options, &directory)?);
    }
    outcome::publish(&outcomes, &directory)?;
    if options.assert {
        outcome::assert_sane(&outcomes)?;
    }
    Ok(())
}

/// By turns, so that the machine's moods strike all alike.
fn compare(
    series: &Series,
    servers: &[Server],
    options: &Options,
    directory: &Path,
) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let mut runs: Vec<Runs> = servers.iter().copied().map(Runs::of).collect();
    for round in 1..=options.rounds {
        for runs in &mut runs {
            let mut reports = Vec::new();
            for case in &series.cases {
                let report = measure(case, runs.server, options.duration, directory)?;
                tell(case, round, runs.server, &report);
                reports.push(report);
            }
            runs.rounds.push(reports);
        }
    }
    Ok(outcome::of(series, &runs))
}

fn tell(case: &Case, round: usize, server: Server, report: &Report) {
    let value = (case.value)(report).map(|value| format!("{value:.2} {}", case.unit));
    let value = value.unwrap_or_else(|| "nothing measured".to_owned());
    eprintln!("{}, round {round}, {server}: {value}", case.name);
}

fn measure(
    case: &Case,
    server: Server,
    duration: Duration,
    directory: &Path,
) -> Result<Report, Box<dyn Error>> {
    let process = Process::start(server, directory)?;
    let plan = cases::plan(case, &process, duration);
    Ok(load::run(
        &plan,
        &Progress::default(),
        &AtomicBool::new(false),
    )?)
}

fn smoke(directory: &Path) -> Result<(), Box<dyn Error>> {
    for mut series in cases::all() {
        let mut runs = Runs::of(Server::Turnstone);
        let mut reports = Vec::new();
        for case in &mut series.cases {
            case.clients = case.clients.min(4);
            let duration = Duration::from_millis(100);
            reports.push(measure(case, Server::Turnstone, duration, directory)?);
        }
        runs.rounds.push(reports);
        outcome::publish(&outcome::of(&series, &[runs]), directory)?;
    }
    Ok(())
}

/// `target/compare`, made if it is not there.
fn directory() -> Result<PathBuf, Box<dyn Error>> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let directory = target.ok_or("no target directory")?.join("compare");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
