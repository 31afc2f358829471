//! Sums the shards' pages into metric families.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::Error;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::families::{Family, Sample, families};
use super::page::Page;
use super::sample::{metric, metric_family};
use crate::turn::SLOTS;

/// The families of all shards' counters.
#[derive(Debug)]
pub(super) struct ShardCollector {
    pages: Vec<Arc<Page>>,
    families: Vec<Described>,
}

/// A family as the registry wants it, prepared once.
#[derive(Debug)]
struct Described {
    desc: Desc,
    kind: MetricType,
    /// A slot and its labels.
    series: Vec<(usize, Vec<LabelPair>)>,
}

impl ShardCollector {
    pub(super) fn new(pages: Vec<Arc<Page>>) -> Result<Self, Error> {
        let families = families()
            .iter()
            .map(Described::new)
            .collect::<Result<_, _>>()?;
        Ok(Self { pages, families })
    }

    fn totals(&self) -> [u64; SLOTS] {
        let mut totals = [0_u64; SLOTS];
        for page in &self.pages {
            for (total, value) in totals.iter_mut().zip(page.snapshot()) {
                *total = total.wrapping_add(value);
            }
        }
        totals
    }
}

impl Collector for ShardCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().map(|family| &family.desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let totals = self.totals();
        self.families
            .iter()
            .map(|family| family.collect(&totals))
            .collect()
    }
}

impl Described {
    fn new(family: &Family) -> Result<Self, Error> {
        let names = family.labels.iter().map(|name| (*name).to_owned());
        Ok(Self {
            desc: Desc::new(
                family.name.to_owned(),
                family.help.to_owned(),
                names.collect(),
                HashMap::new(),
            )?,
            kind: family.kind,
            series: family
                .samples
                .iter()
                .map(|sample| (sample.counter.slot(), label_pairs(&family.labels, sample)))
                .collect(),
        })
    }

    fn collect(&self, totals: &[u64; SLOTS]) -> MetricFamily {
        let metrics = self.series.iter().map(|(slot, labels)| {
            let mut metric = metric(self.kind, totals[*slot] as f64);
            metric.set_label(labels.clone());
            metric
        });
        metric_family(&self.desc, self.kind, metrics.collect())
    }
}

fn label_pairs(names: &[&'static str], sample: &Sample) -> Vec<LabelPair> {
    let pair = |(name, value): (&&str, &String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    };
    names.iter().zip(&sample.values).map(pair).collect()
}
