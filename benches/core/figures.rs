//! The committed figures of instructions, and how a new count stands against them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How far a count may be from its figure, in percent of the figure.
const TOLERANCE: f64 = 3.0;

/// Instructions of one message, by case, and what they were counted with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// What the counts depend on besides our source: name and value.
    pub(crate) conditions: BTreeMap<String, String>,
    pub(crate) cases: BTreeMap<String, f64>,
}

/// How a count stands against its figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Within the tolerance.
    Kept,
    /// Fewer instructions, beyond the tolerance.
    Gain,
    /// More instructions, beyond the tolerance.
    Loss,
    /// The case has no figure.
    New,
    /// The figure has no case.
    Gone,
}

/// A case, its figure, its count and what to say of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) committed: Option<f64>,
    pub(crate) now: Option<f64>,
    pub(crate) standing: Standing,
}

impl Figures {
    /// Reads what [`to_text`](Self::to_text) wrote; none if it is anything else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let entries = |name: &str| Some(value.get(name)?.as_object()?.iter());
        let conditions = entries("conditions")?
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let cases =
            entries("instructions")?.map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        Some(Self {
            conditions: conditions.collect::<Option<_>>()?,
            cases: cases.collect::<Option<_>>()?,
        })
    }

    pub(crate) fn set_condition(&mut self, name: &str, value: String) {
        self.conditions.insert(name.to_owned(), value);
    }

    pub(crate) fn to_text(&self) -> String {
        let value = json!({ "conditions": self.conditions, "instructions": self.cases });
        format!("{value:#}\n")
    }

    /// Why counts made under the conditions of `now` say nothing about these figures, a line for each
    /// reason; none if they do.
    pub(crate) fn differing_conditions(&self, now: &Self) -> Vec<String> {
        let names = self.conditions.keys().chain(now.conditions.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let value = |of: &Self, name| of.conditions.get(name).cloned().unwrap_or_default();
        names
            .into_iter()
            .map(|name| (name, value(self, name), value(now, name)))
            .filter(|(_, then, now)| then != now)
            .map(|(name, then, now)| format!("{name}: figures of \"{then}\", here \"{now}\""))
            .collect()
    }

    /// A row for every case that one of the two has.
    pub(crate) fn compare(&self, now: &Self) -> Vec<Row> {
        let mut names: Vec<&String> = self.cases.keys().chain(now.cases.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let row = |name: &String| {
            let (committed, now) = (self.cases.get(name).copied(), now.cases.get(name).copied());
            Row {
                name: name.clone(),
                committed,
                now,
                standing: Standing::of(committed, now),
            }
        };
        names.into_iter().map(row).collect()
    }
}

impl Standing {
    fn of(committed: Option<f64>, now: Option<f64>) -> Self {
        match (committed, now) {
            (None, _) => Self::New,
            (_, None) => Self::Gone,
            (Some(committed), Some(now)) if now > committed * (1.0 + TOLERANCE / 100.0) => {
                Self::Loss
            }
            (Some(committed), Some(now)) if now < committed * (1.0 - TOLERANCE / 100.0) => {
                Self::Gain
            }
            _ => Self::Kept,
        }
    }

    /// Whether the check fails: something got slower, or nobody would notice if it did.
    pub(crate) const fn fails(self) -> bool {
        matches!(self, Self::Loss | Self::New | Self::Gone)
    }

    /// What to do about it.
    pub(crate) const fn remark(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::Gain => "a gain: renew the figures",
            Self::Loss => "A LOSS",
            Self::New => "WITHOUT A FIGURE: renew the figures",
            Self::Gone => "A FIGURE WITHOUT A CASE: renew the figures",
        }
    }
}

impl Row {
    /// How many percent more than committed.
    pub(crate) fn difference(&self) -> Option<f64> {
        Some((self.now? / self.committed? - 1.0) * 100.0)
    }
}
