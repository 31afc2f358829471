//! `turnstone bench`: loads a server and tells what became of it.

mod args;
mod bars;
mod plan;
mod text;

pub(super) use args::BenchArgs;

use std::fs;
use std::path::Path;

use serde_json::to_string_pretty;

use super::{Failure, output};
use crate::load::{self, Progress, Report, Section};
use crate::net::catch_interrupt;

/// Carries out the run that `args` ask for and prints its report.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let common = args.workload.common();
    let plan = plan::plan(args)?;
    let stop = catch_interrupt().map_err(|error| format!("SIGINT cannot be caught: {error}"))?;
    let progress = Progress::default();
    let report = bars::beside(&plan, &progress, || load::run(&plan, &progress, stop));
    let report = report.map_err(|error| error.to_string())?;
    if let Some(file) = &common.report {
        save(file, &report)?;
    }
    if common.json {
        let json = to_string_pretty(&report.to_json());
        return output::say(&json.map_err(|error| format!("no JSON can be written: {error}"))?);
    }
    output::say(&text::text(&report))
}

fn save(file: &Path, report: &Report) -> Result<(), Failure> {
    let title = format!("turnstone bench {}", report.plan.workload.name());
    let section = Section {
        title: text::headline(&report.plan),
        report,
    };
    let page = load::html(&title, &text::conditions(), &[], &[section]);
    fs::write(file, page).map_err(|error| {
        let file = file.display();
        format!("--report: {file} cannot be written: {error}")
    })
}
