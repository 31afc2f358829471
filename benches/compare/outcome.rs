//! Medians, ratios, and where they are written.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use turnstone::load::{self, Report, Section};

use crate::cases::Case;
use crate::process::Server;

/// What a comparison found.
pub(crate) struct Outcome {
    case: Case,
    medians: Vec<Median>,
}

/// The run in the middle of a server's runs, and the figures of all.
struct Median {
    server: Server,
    value: Option<f64>,
    all: Vec<f64>,
    report: Option<Report>,
}

impl Outcome {
    pub(crate) fn of(case: Case, reports: impl IntoIterator<Item = (Server, Vec<Report>)>) -> Self {
        let medians = reports.into_iter().map(|(server, reports)| {
            let values = reports
                .into_iter()
                .filter_map(|report| Some(((case.value)(&report)?, report)));
            let mut values: Vec<(f64, Report)> = values.collect();
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            let all = values.iter().map(|(value, _)| *value).collect();
            let middle = values.len() / 2;
            let (value, report) = values.into_iter().nth(middle).unzip();
            Median {
                server,
                value,
                all,
                report,
            }
        });
        Self {
            medians: medians.collect(),
            case,
        }
    }

    fn of_server(&self, server: Server) -> Option<f64> {
        let median = self.medians.iter().find(|median| median.server == server);
        median.and_then(|median| median.value)
    }

    /// Turnstone's figure as a share of coturn's.
    fn ratio(&self) -> Option<f64> {
        let (own, other) = self
            .of_server(Server::Turnstone)
            .zip(self.of_server(Server::Coturn))?;
        (other > 0.0).then(|| own / other)
    }

    fn row(&self) -> Vec<String> {
        let figure =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let own = self.of_server(Server::Turnstone);
        let met = own.and_then(|own| self.case.goal.is_met(own, self.ratio()));
        vec![
            self.case.name.to_owned(),
            self.case.unit.to_owned(),
            figure(own),
            figure(self.of_server(Server::Coturn)),
            figure(self.ratio()),
            self.case.goal.text(),
            match met {
                None => "-",
                // Then it is the load tester that was measured.
                Some(_) if self.own_limit() => "?",
                Some(true) => "yes",
                Some(false) => "no",
            }
            .to_owned(),
        ]
    }

    /// Whether a median is not the server's.
    fn own_limit(&self) -> bool {
        let limited = |report: &Report| {
            report
                .result()
                .is_some_and(|trial| trial.own_limit().is_some())
        };
        self.reports().any(|(_, report)| limited(report))
    }

    fn json(&self) -> Value {
        let medians = self.medians.iter().map(|median| {
            json!({
                "server": median.server.to_string(),
                "median": median.value,
                "all": median.all,
                "report": median.report.as_ref().map(Report::to_json),
            })
        });
        json!({
            "case": self.case.name,
            "unit": self.case.unit,
            "goal": self.case.goal.text(),
            "ratio": self.ratio(),
            "servers": medians.collect::<Vec<_>>(),
        })
    }

    fn reports(&self) -> impl Iterator<Item = (String, &Report)> {
        self.medians.iter().filter_map(|median| {
            let title = format!("{}: {}", self.case.name, median.server);
            Some((title, median.report.as_ref()?))
        })
    }

    /// What is so wrong that no noise explains it.
    fn gross(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(ratio) = self.ratio().filter(|ratio| *ratio > 1.5) {
            wrong.push(format!("{}: {ratio:.2} of coturn's figure", self.case.name));
        }
        for (title, report) in self.reports() {
            let misplaced = report.result().map_or(0, |trial| trial.misplaced);
            if misplaced > 0 {
                wrong.push(format!(
                    "{title}: {misplaced} packets where they did not belong"
                ));
            }
        }
        if self.of_server(Server::Turnstone).is_none() {
            wrong.push(format!("{}: nothing was measured", self.case.name));
        }
        wrong
    }
}

/// Prints the table and writes JSON and the page into `directory`.
pub(crate) fn publish(outcomes: &[Outcome], directory: &Path) -> Result<(), Box<dyn Error>> {
    let heading = [
        "workload",
        "unit",
        "turnstone",
        "coturn",
        "ratio",
        "goal",
        "met",
    ];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    table.extend(outcomes.iter().map(Outcome::row));
    println!("{}", aligned(&table));
    for (title, report) in outcomes.iter().flat_map(Outcome::reports) {
        for note in report.notes() {
            println!("note: {title}: {note}");
        }
    }
    let cases: Vec<Value> = outcomes.iter().map(Outcome::json).collect();
    let json = json!({ "conditions": conditions(), "cases": cases });
    fs::write(
        directory.join("compare.json"),
        serde_json::to_string_pretty(&json)?,
    )?;
    let reports = outcomes.iter().flat_map(Outcome::reports);
    let sections = reports.map(|(title, report)| Section { title, report });
    let sections: Vec<Section<'_>> = sections.collect();
    let page = load::html("Turnstone and coturn", &conditions(), &table, &sections);
    fs::write(directory.join("compare.html"), page)?;
    Ok(())
}

/// Fails with everything that no noise explains.
pub(crate) fn assert_sane(outcomes: &[Outcome]) -> Result<(), Box<dyn Error>> {
    let wrong: Vec<String> = outcomes.iter().flat_map(Outcome::gross).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n").into())
}

/// What the figures depend on.
fn conditions() -> String {
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let processor = line("/proc/cpuinfo", "model name").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{processor}, Linux {}, loopback; the server on one core, the load on another; load average {} \
         at the end, of which 2 are this; {}; medians.",
        kernel.trim(),
        busy.split_whitespace().next().unwrap_or_default(),
        Server::ALL
            .iter()
            .filter_map(Server::version)
            .collect::<Vec<_>>()
            .join(", "),
    )
}

fn aligned(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let lines = table.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            match column {
                2..=4 => format!("{cell:>width$}"),
                _ => format!("{cell:width$}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
