//! Lists in which nothing stands twice.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use super::draft::{List, Located};
use super::report::Report;

/// The elements of `list` without those that were there before, which are reported.
pub(super) fn distinct<T: Copy + Eq + Hash + fmt::Display>(
    key: &str,
    list: Option<List<T>>,
    report: &mut Report,
) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut values = Vec::new();
    for Located { value, spot } in list.map(|list| list.value).unwrap_or_default() {
        if seen.insert(value) {
            values.push(value);
        } else {
            report.error(
                &spot,
                format_args!("{value} stands twice in {key}; leave one"),
            );
        }
    }
    values
}
