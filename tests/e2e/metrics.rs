//! What the server says of itself on `/metrics`.

use std::collections::BTreeMap;

/// One scrape: every sample by its name with labels.
#[derive(Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text exposition format.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let read = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(samples.filter_map(read).collect())
    }

    /// The sum over all label sets of the family `name`.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let belongs = |sample: &str| sample.split('{').next() == Some(name);
        let samples = self.0.iter().filter(|(sample, _)| belongs(sample));
        samples.map(|(_, value)| value).sum()
    }

    /// The sum over the label sets of `name` that contain `label`, written `key="value"`.
    pub(crate) fn with(&self, name: &str, label: &str) -> f64 {
        let belongs =
            |sample: &str| sample.split('{').next() == Some(name) && sample.contains(label);
        let samples = self.0.iter().filter(|(sample, _)| belongs(sample));
        samples.map(|(_, value)| value).sum()
    }

    /// Packets that arrived.
    pub(crate) fn received(&self) -> f64 {
        self.sum("turnstone_received_packets_total")
    }

    /// Packets whose outcome was counted.
    pub(crate) fn outcomes(&self) -> f64 {
        ["relayed", "answered", "parked", "dropped"]
            .iter()
            .map(|outcome| self.sum(&format!("turnstone_{outcome}_packets_total")))
            .sum()
    }

    /// Memory that the process occupies, in bytes.
    pub(crate) fn resident(&self) -> f64 {
        self.sum("process_resident_memory_bytes")
    }
}
