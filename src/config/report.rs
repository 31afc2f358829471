//! What is wrong with a configuration: every problem, each with its place and its remedy.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Whether a problem stops the server from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is started.
    Error,
    /// Odd but allowed.
    Warning,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// The file, as the operator named it.
        file: Arc<str>,
        /// Line from 1; none for the file as a whole.
        line: Option<usize>,
        /// Character in the line from 1, where it helps.
        column: Option<usize>,
    },
    /// On the command line, behind this flag.
    Flag(&'static str),
    /// Nowhere: a default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => {
                f.write_str(file)?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
                column.map_or(Ok(()), |column| write!(f, ":{column}"))
            }
            Self::Flag(flag) => f.write_str(flag),
            Self::Default => f.write_str("defaults"),
        }
    }
}

/// Where a value was written and which key it is the value of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) place: Place,
    /// Dotted path; empty where there is none.
    pub(super) key: String,
}

impl Spot {
    /// The value of a command-line flag.
    pub(super) fn flag(flag: &'static str) -> Self {
        Self {
            place: Place::Flag(flag),
            key: String::new(),
        }
    }

    /// A line of a file that has no keys, or the whole file.
    pub(super) fn in_file(file: &str, line: Option<usize>) -> Self {
        let place = Place::File {
            file: file.into(),
            line,
            column: None,
        };
        Self {
            place,
            key: String::new(),
        }
    }
}

/// One thing that is wrong. Its `Display` is one line: place, key, what is wrong, remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    place: Place,
    key: String,
    message: String,
}

impl Problem {
    /// Whether it stops the server from starting.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Where the value was written.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The line, counted from 1, of a problem in a file.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Place::File { line, .. } => line,
            Place::Flag(_) | Place::Default => None,
        }
    }

    /// Dotted path of the key, like `auth.users[0].name`; empty where there is none.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{}: {warning}{}", self.place, self.message)
    }
}

/// All problems of one configuration, in the order of the file, flags last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// All problems and warnings.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems stop the server from starting.
    pub fn errors(&self) -> usize {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        self.problems.iter().filter(is_error).count()
    }

    /// Records what is wrong with the value at `spot`.
    pub(super) fn error(&mut self, spot: &Spot, what: impl fmt::Display) {
        self.add(Severity::Error, spot, prefixed(&spot.key, what));
    }

    /// Records what is odd about the value at `spot`.
    pub(super) fn warning(&mut self, spot: &Spot, what: impl fmt::Display) {
        self.add(Severity::Warning, spot, prefixed(&spot.key, what));
    }

    /// Records a problem whose message names its key in its own way.
    pub(super) fn error_in_full(&mut self, spot: &Spot, message: String) {
        self.add(Severity::Error, spot, message);
    }

    /// Adds what `other` found, but for the `lines` that are no TOML anyway.
    pub(super) fn append_except(&mut self, other: Self, lines: &BTreeSet<usize>) {
        let stands = |problem: &Problem| problem.line().is_none_or(|line| !lines.contains(&line));
        self.problems
            .extend(other.problems.into_iter().filter(stands));
    }

    /// Whether something was found at `spot` or in the elements of its list.
    pub(super) fn speaks_of(&self, spot: &Spot) -> bool {
        let is_there = |problem: &Problem| match spot.key.as_str() {
            "" => problem.place == spot.place,
            key => problem.key.starts_with(key),
        };
        self.problems.iter().any(is_there)
    }

    /// Whether something was found at the key `key` itself.
    pub(super) fn speaks_of_key(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    pub(super) fn sort(&mut self) {
        self.problems.sort_by(|a, b| a.place.cmp(&b.place));
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn add(&mut self, severity: Severity, spot: &Spot, message: String) {
        self.problems.push(Problem {
            severity,
            place: spot.place.clone(),
            key: spot.key.clone(),
            message,
        });
    }
}

fn prefixed(key: &str, what: impl fmt::Display) -> String {
    if key.is_empty() {
        what.to_string()
    } else {
        format!("{key}: {what}")
    }
}

impl fmt::Display for Report {
    /// One line each; when there are several, how many at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = &*self.problems {
            return write!(f, "{problem}");
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.errors() {
            1 => write!(f, "1 problem; nothing was started"),
            errors => write!(f, "{errors} problems; nothing was started"),
        }
    }
}

impl std::error::Error for Report {}
