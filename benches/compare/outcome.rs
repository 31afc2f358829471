//! Medians, ratios, and where they are written.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use turnstone::load::{self, Report, Section};

use crate::cases::{self, Case, Goal, Growth, Series};
use crate::process::Server;

/// What was measured of a server: in each round, a report of every case.
pub(crate) struct Runs {
    pub(crate) server: Server,
    pub(crate) rounds: Vec<Vec<Report>>,
}

impl Runs {
    /// Nothing yet of `server`.
    pub(crate) const fn of(server: Server) -> Self {
        Self {
            server,
            rounds: Vec::new(),
        }
    }

    /// The reports of one case.
    fn of_case(&self, case: usize) -> impl Iterator<Item = &Report> {
        self.rounds.iter().filter_map(move |round| round.get(case))
    }
}

/// A row: what a comparison found.
pub(crate) struct Outcome {
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    medians: Vec<Median>,
}

/// The run in the middle of a server's runs, and the figures of all.
struct Median {
    server: Server,
    value: Option<f64>,
    all: Vec<f64>,
    /// None where the figure is made of two.
    report: Option<Report>,
    /// It is not the server's: the load tester was the limit.
    own_limit: bool,
    /// Packets where they did not belong, in all runs.
    misplaced: u64,
}

/// What is told of `series`.
pub(crate) fn of(series: &Series, runs: &[Runs]) -> Vec<Outcome> {
    let cases = series.cases.iter().enumerate();
    let cases = cases.map(|(place, case)| Outcome::of_case(case, place, runs));
    let growth = series.growth.map(|growth| Outcome::of_growth(growth, runs));
    cases.chain(growth).collect()
}

impl Median {
    /// Of `values`, each with the reports that it comes from.
    fn of<'r>(
        server: Server,
        values: impl Iterator<Item = (Option<f64>, Vec<&'r Report>)>,
    ) -> Self {
        let (mut known, mut misplaced) = (Vec::new(), 0);
        for (value, reports) in values {
            let results = reports.iter().filter_map(|report| report.result());
            misplaced += results.map(|trial| trial.misplaced).sum::<u64>();
            known.extend(value.map(|value| (value, reports)));
        }
        known.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let middle = known.get(known.len() / 2);
        let reports = middle.map_or(&[][..], |(_, reports)| reports);
        let mut results = reports.iter().filter_map(|report| report.result());
        Self {
            server,
            value: middle.map(|(value, _)| *value),
            all: known.iter().map(|(value, _)| *value).collect(),
            own_limit: results.any(|trial| trial.own_limit().is_some()),
            report: match reports {
                [report] => Some((*report).clone()),
                _ => None,
            },
            misplaced,
        }
    }
}

impl Outcome {
    fn of_case(case: &Case, place: usize, runs: &[Runs]) -> Self {
        let medians = runs.iter().map(|runs| {
            let reports = runs.of_case(place);
            let values = reports.map(|report| ((case.value)(report), vec![report]));
            Median::of(runs.server, values)
        });
        Self {
            name: case.name,
            unit: case.unit,
            goal: case.goal,
            medians: medians.collect(),
        }
    }

    /// Each round's last case against its first: what is measured at the same time compares best.
    fn of_growth(growth: Growth, runs: &[Runs]) -> Self {
        let medians = runs.iter().map(|runs| {
            let rounds = runs.rounds.iter().filter_map(|round| {
                let (first, last) = round.first().zip(round.last())?;
                let values = cases::cpu(last).zip(cases::cpu(first));
                let times = values.map(|(last, first)| last / first);
                Some((times, vec![first, last]))
            });
            Median::of(runs.server, rounds)
        });
        Self {
            name: growth.name,
            unit: growth.unit,
            goal: growth.goal,
            medians: medians.collect(),
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
        let met = own.and_then(|own| self.goal.is_met(own, self.ratio()));
        vec![
            self.name.to_owned(),
            self.unit.to_owned(),
            figure(own),
            figure(self.of_server(Server::Coturn)),
            figure(self.ratio()),
            self.goal.text(),
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
        self.medians.iter().any(|median| median.own_limit)
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
            "case": self.name,
            "unit": self.unit,
            "goal": self.goal.text(),
            "ratio": self.ratio(),
            "servers": medians.collect::<Vec<_>>(),
        })
    }

    fn reports(&self) -> impl Iterator<Item = (String, &Report)> {
        self.medians.iter().filter_map(|median| {
            let title = format!("{}: {}", self.name, median.server);
            Some((title, median.report.as_ref()?))
        })
    }

    /// What is so wrong that no noise explains it.
    fn gross(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(ratio) = self.ratio().filter(|ratio| *ratio > 1.5) {
            wrong.push(format!("{}: {ratio:.2} of coturn's figure", self.name));
        }
        for median in self.medians.iter().filter(|median| median.misplaced > 0) {
            wrong.push(format!(
                "{}: {}: {} packets where they did not belong",
                self.name, median.server, median.misplaced
            ));
        }
        if self.of_server(Server::Turnstone).is_none() {
            wrong.push(format!("{}: nothing was measured", self.name));
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
