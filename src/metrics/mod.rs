//! What the server shows of itself: a page of counters per shard, summed when somebody looks.
//!
//! A shard copies its [`Stats`](crate::turn::Stats) to its [`Page`] and is never asked; a scrape reads
//! the pages. Every label set is closed: no user, address or other input of a client becomes a label.

mod collector;
mod families;
mod page;
mod process;
mod sample;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder};

pub use page::Page;

use collector::ShardCollector;
use process::ProcessCollector;

/// Why metrics could not be set up or written out: two families of one name, a name out of the
/// character set. No input of a client or an operator leads here.
pub use prometheus::Error;

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    relay_ports_limit: IntGauge,
    certificate_expiry: IntGaugeVec,
    certificate_reloads: IntCounterVec,
    reloads: IntCounterVec,
}

impl Metrics {
    /// The media type of [`encode`](Self::encode).
    pub const CONTENT_TYPE: &'static str = TEXT_FORMAT;

    /// The metrics of shards that publish to `pages`, of a server of this `version`.
    pub fn new(pages: Vec<Arc<Page>>, version: &str) -> Result<Self, Error> {
        let shards = gauge("turnstone_shards", "Shards, one thread each.")?;
        shards.set(i64::try_from(pages.len()).unwrap_or(i64::MAX));
        let relay_ports_limit = gauge(
            "turnstone_relay_ports_limit",
            "Relay ports that there are to draw from, over all relay addresses.",
        )?;
        let metrics = Self {
            registry: Registry::new(),
            relay_ports_limit: relay_ports_limit.clone(),
            certificate_expiry: certificate_expiry()?,
            certificate_reloads: certificate_reloads()?,
            reloads: reloads()?,
        };
        metrics.add(metrics.certificate_expiry.clone())?;
        metrics.add(metrics.certificate_reloads.clone())?;
        metrics.add(shards)?;
        metrics.add(relay_ports_limit)?;
        metrics.add(metrics.reloads.clone())?;
        metrics.add(build_info(version)?)?;
        metrics.add(ShardCollector::new(pages)?)?;
        metrics.add(ProcessCollector::new()?)?;
        Ok(metrics)
    }

    /// Says how many relay ports there are: ports in the range, times relay addresses.
    pub fn set_relay_ports_limit(&self, ports: u64) {
        self.relay_ports_limit
            .set(i64::try_from(ports).unwrap_or(i64::MAX));
    }

    /// Says for how many seconds certificate `index` of the configuration, from zero, is still good; less
    /// than zero when it has expired.
    pub fn set_certificate_expiry(&self, index: usize, seconds: i64) {
        let label = index.to_string();
        self.certificate_expiry
            .with_label_values(&[&label])
            .set(seconds);
    }

    /// Forgets certificates that are not configured any more.
    pub fn forget_certificates(&self) {
        self.certificate_expiry.reset();
    }

    /// Counts a certificate whose files changed, and whether they are in use now.
    pub fn count_certificate_reload(&self, applied: bool) {
        self.certificate_reloads
            .with_label_values(&[RELOADS[usize::from(applied)]])
            .inc();
    }

    /// Counts a reload of the configuration.
    pub fn count_reload(&self, applied: bool) {
        self.reloads
            .with_label_values(&[RELOADS[usize::from(applied)]])
            .inc();
    }

    /// All metrics in the text format of Prometheus, families in order of their names.
    pub fn encode(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn add(&self, collector: impl Collector + 'static) -> Result<(), Error> {
        self.registry.register(Box::new(collector))
    }
}

fn gauge(name: &str, help: &str) -> Result<IntGauge, Error> {
    IntGauge::with_opts(Opts::new(name, help))
}

fn certificate_expiry() -> Result<IntGaugeVec, Error> {
    let options = Opts::new(
        "turnstone_certificate_expires_in_seconds",
        "Seconds until a certificate expires, by its place in the configuration, from 0.",
    );
    IntGaugeVec::new(options, &["certificate"])
}

fn certificate_reloads() -> Result<IntCounterVec, Error> {
    reload_counter(
        "turnstone_certificate_reloads_total",
        "Certificates whose files changed, by whether the new ones are in use.",
    )
}

const RELOADS: [&str; 2] = ["refused", "applied"];

fn reloads() -> Result<IntCounterVec, Error> {
    reload_counter(
        "turnstone_configuration_reloads_total",
        "Reloads of the configuration, by result.",
    )
}

fn reload_counter(name: &str, help: &str) -> Result<IntCounterVec, Error> {
    let reloads = IntCounterVec::new(Opts::new(name, help), &["result"])?;
    for result in RELOADS {
        reloads.with_label_values(&[result]);
    }
    Ok(reloads)
}

fn build_info(version: &str) -> Result<IntGauge, Error> {
    let options = Opts::new(
        "turnstone_build_info",
        "The program that runs here, by its labels; the value is always 1.",
    );
    let build = IntGauge::with_opts(options.const_label("version", version))?;
    build.set(1);
    Ok(build)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::turn::{Counter, Direction, Reason, SLOTS, Source, Stats};

    fn metrics(pages: &[Arc<Page>]) -> Metrics {
        Metrics::new(pages.to_vec(), "1.2.3").expect("metrics")
    }

    fn two_pages() -> [Arc<Page>; 2] {
        [Arc::default(), Arc::default()]
    }

    fn value(text: &str, series: &str) -> f64 {
        let line = text
            .lines()
            .find(|line| line.rsplit_once(' ').is_some_and(|(key, _)| key == series));
        let line = line.unwrap_or_else(|| panic!("no series {series} in\n{text}"));
        line.rsplit_once(' ')
            .expect("value")
            .1
            .parse()
            .expect("number")
    }

    #[test]
    fn every_counter_is_one_series() {
        let pages = two_pages();
        let mut stats = Stats::default();
        let slots: Vec<Counter> = families::families()
            .iter()
            .flat_map(|family| family.samples.iter().map(|sample| sample.counter))
            .collect();
        for counter in &slots {
            stats.add(*counter, counter.slot() as u64 + 1000);
        }
        pages[0].publish(&stats);

        let text = metrics(&pages).encode().expect("text");
        let mut seen: Vec<usize> = text
            .lines()
            .filter(|line| line.starts_with("turnstone_"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
            .filter_map(|value| value.checked_sub(1000))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..SLOTS).collect::<Vec<_>>());
    }

    #[test]
    fn no_series_appears_twice() {
        let text = metrics(&two_pages()).encode().expect("text");
        let series: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect();
        let distinct: BTreeSet<&str> = series.iter().copied().collect();
        assert_eq!(series.len(), distinct.len());
    }

    #[test]
    fn shards_are_summed() {
        let pages = two_pages();
        for page in &pages {
            let mut stats = Stats::default();
            stats.add(Counter::RelayedBytes(Direction::ToPeer), 21);
            page.publish(&stats);
        }
        let text = metrics(&pages).encode().expect("text");
        let relayed = value(
            &text,
            r#"turnstone_relayed_bytes_total{direction="to_peer"}"#,
        );
        assert_eq!(relayed, 42.0);
        assert_eq!(value(&text, "turnstone_shards"), 2.0);
    }

    #[test]
    fn label_sets_are_closed() {
        let pages = two_pages();
        let metrics = metrics(&pages);
        let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        let before = series(&metrics.encode().expect("text"));
        let mut stats = Stats::default();
        stats.add(Counter::ReceivedPackets(Source::ClientUdp), 7);
        stats.add(Counter::Dropped(Reason::Malformed), 7);
        pages[1].publish(&stats);
        let text = metrics.encode().expect("text");
        assert_eq!(series(&text), before);
        let dropped = r#"turnstone_dropped_packets_total{reason="malformed"}"#;
        assert_eq!(value(&text, dropped), 7.0);
    }

    #[test]
    fn the_host_is_described() {
        let metrics = metrics(&two_pages());
        metrics.set_relay_ports_limit(16_384);
        let text = metrics.encode().expect("text");
        assert_eq!(value(&text, "turnstone_relay_ports_limit"), 16_384.0);
        assert_eq!(
            value(&text, r#"turnstone_build_info{version="1.2.3"}"#),
            1.0
        );
        assert!(value(&text, "process_resident_memory_bytes") > 0.0);
        assert!(value(&text, "process_open_fds") >= 3.0);
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let text = metrics(&two_pages()).encode().expect("text");
        let checker = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut checker) = checker else {
            eprintln!("SKIPPED promtool_finds_nothing_to_say: promtool is not installed");
            return;
        };
        let mut input = checker.stdin.take().expect("stdin");
        input.write_all(text.as_bytes()).expect("write");
        drop(input);
        let output = checker.wait_with_output().expect("promtool");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success());
    }
}
