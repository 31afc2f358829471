//! The configuration as an operator meets it: files in, values or problems out.

mod cases;
mod default_file;
mod hostile;
mod problems;
mod tls;
mod values;

use std::path::Path;

use turnstone::config::{Config, Overrides, Report};

/// What the file `text` means.
fn load(text: &[u8]) -> Result<Config, Report> {
    load_with(text, &Overrides::default())
}

/// What the file `text` means under the flags `overrides`.
fn load_with(text: &[u8], overrides: &Overrides) -> Result<Config, Report> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("turnserver.toml");
    std::fs::write(&path, text).expect("a file in it");
    Config::load(Some(&path), overrides)
}

/// What is wrong with the file `text`, one line each, without the directory of the file.
fn problems(text: &[u8]) -> Vec<String> {
    match load(text) {
        Ok(_) => Vec::new(),
        Err(report) => shown(&report),
    }
}

fn shown(report: &Report) -> Vec<String> {
    let without_directory = |line: String| match line.split_once("turnserver.toml") {
        Some((directory, rest)) if Path::new(directory).is_absolute() => {
            format!("turnserver.toml{rest}")
        }
        _ => line,
    };
    let problems = report.problems().iter();
    problems
        .map(|problem| without_directory(problem.to_string()))
        .collect()
}

fn defaults() -> Config {
    Config::load(None, &Overrides::default()).expect("defaults are valid")
}
