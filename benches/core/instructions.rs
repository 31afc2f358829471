//! Instructions of one message through the core, counted by valgrind's callgrind and compared with the
//! committed figures. Counts need no quiet machine: the same program has the same ones again.

use std::env;
use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode, Output};

use super::cases::Case;
use super::figures::{Figures, Row, Standing};
use super::measure::Work;

const FILE: &str = "benches/core/instructions.json";
const FIGURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/core/instructions.json"
);
/// How to renew them.
const RENEW: &str = "cargo bench --bench core -- --instructions --bless";
/// The argument before the name of the case that a process under valgrind is to run.
pub(crate) const COUNT: &str = "--count";
/// How often a case is done before counting: tables have their size then, and code its branches.
const WARM_UP: u64 = 300;
/// How often a case is done while counting; the average is told.
const TIMES: u64 = 1000;

/// Does the case under callgrind, and prints what processor it finds there.
pub(crate) fn run_counted(case: &Case) {
    let mut work = (case.prepare)();
    work(WARM_UP);
    count_from_here(&mut work);
    println!("{}", processor());
}

/// Callgrind counts while this function runs, which it finds by its name.
#[inline(never)]
fn count_from_here(work: &mut Work) {
    work(TIMES);
    // Keeps the call from becoming a jump, which would not return here.
    black_box(());
}

/// What the crates that choose their code at run time look for.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("aes", is_x86_feature_detected!("aes")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("sha", is_x86_feature_detected!("sha")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let present = features.iter().filter(|(_, is_there)| *is_there);
    present.fold(env::consts::ARCH.to_owned(), |all, (name, _)| {
        all + " " + name
    })
}

/// Counts all cases and compares them with the figures, or makes the counts the figures.
pub(crate) fn check(cases: &[Case], bless: bool) -> ExitCode {
    let now = count_all(cases);
    let done = now.and_then(|now| if bless { renew(&now) } else { compare(&now) });
    done.unwrap_or_else(|problem| {
        println!("{problem}");
        ExitCode::FAILURE
    })
}

fn renew(now: &Figures) -> Result<ExitCode, String> {
    let before = read().unwrap_or_default();
    print_table(&before.compare(now));
    fs::write(FIGURES, now.to_text())
        .map_err(|error| format!("cannot write {FIGURES}: {error}"))?;
    println!("the counts of now are the figures from now on: commit {FILE}");
    Ok(ExitCode::SUCCESS)
}

/// Fails on a loss, unless the counts differ for another reason than our source.
fn compare(now: &Figures) -> Result<ExitCode, String> {
    let committed = read()?;
    let rows = committed.compare(now);
    print_table(&rows);
    let reasons = committed.differing_conditions(now);
    for reason in &reasons {
        println!("SKIPPED: instructions were not compared with {FILE}, {reason}");
    }
    if !reasons.is_empty() {
        println!("to compare again, on the commit before yours: {RENEW}");
        return Ok(ExitCode::SUCCESS);
    }
    if rows.iter().any(|row| row.standing != Standing::Kept) {
        println!("if it is meant to be so: {RENEW}");
    }
    let fails = rows.iter().any(|row| row.standing.fails());
    Ok(if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<44} {:>10} {:>10} {:>11}",
        "instructions of one message", "committed", "now", "difference"
    );
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for row in rows {
        let count = |count: Option<f64>| or_dash(count.map(|count| format!("{count:.1}")));
        let difference = row.difference().map(|percent| format!("{percent:+.1} %"));
        println!(
            "{:<44} {:>10} {:>10} {:>11}  {}",
            row.name,
            count(row.committed),
            count(row.now),
            or_dash(difference),
            row.standing.remark()
        );
    }
}

fn read() -> Result<Figures, String> {
    let text =
        fs::read_to_string(FIGURES).map_err(|error| format!("cannot read {FILE}: {error}"))?;
    Figures::from_text(&text).ok_or_else(|| format!("{FILE} is damaged; to write it anew: {RENEW}"))
}

fn count_all(cases: &[Case]) -> Result<Figures, String> {
    let mut now = Figures::default();
    now.set_condition("rustc", first_line("rustc", "--version")?);
    now.set_condition("valgrind", first_line("valgrind", "--version")?);
    for case in cases {
        let (instructions, processor) = count(case.name)?;
        now.set_condition("processor", processor);
        now.cases.insert(case.name.to_owned(), instructions);
    }
    Ok(now)
}

/// Instructions of the case on average, and the processor that callgrind shows.
fn count(case: &str) -> Result<(f64, String), String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let output = run(Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*count_from_here*"])
        .arg(this)
        .args([COUNT, case]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse::<u64>().ok())
        .filter(|count| *count >= TIMES);
    let collected = collected.ok_or_else(|| format!("callgrind counted nothing:\n{said}"))?;
    let average = (collected as f64 / TIMES as f64 * 10.0).round() / 10.0;
    Ok((average, text(&output.stdout)))
}

fn first_line(program: &str, argument: &str) -> Result<String, String> {
    let output = run(Command::new(program).arg(argument))?;
    Ok(text(&output.stdout))
}

/// Runs a program to its good end.
fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("cannot run {program}: {error}; is it installed?"))?;
    if output.status.success() {
        Ok(output)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program} ended with {}:\n{said}", output.status))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
