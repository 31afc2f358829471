//! Values and families as the `prometheus` crate's encoder takes them.

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

/// One series without labels. Every `kind` but a counter is a gauge here.
pub(super) fn metric(kind: MetricType, value: f64) -> Metric {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// A family of such series.
pub(super) fn metric_family(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
