//! What the operating system says of the process, under the names that every exporter uses.

use std::collections::HashMap;
use std::fs;

use prometheus::Error;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::sample::{metric, metric_family};

/// The figures of this process, read from `/proc` at each scrape; what cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    /// Seconds since 1970 at which the kernel booted; none where it does not say.
    boot_time: Option<f64>,
    figures: Vec<Figure>,
}

#[derive(Debug)]
struct Figure {
    desc: Desc,
    kind: MetricType,
    read: fn(&Reading) -> Option<f64>,
}

/// One look at `/proc`.
#[derive(Debug)]
struct Reading {
    boot_time: Option<f64>,
    stat: String,
    status: String,
    limits: String,
}

impl ProcessCollector {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            boot_time: boot_time(&text_of("/proc/stat")),
            figures: figures()?,
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.figures.iter().map(|figure| &figure.desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let reading = Reading {
            boot_time: self.boot_time,
            stat: text_of("/proc/self/stat"),
            status: text_of("/proc/self/status"),
            limits: text_of("/proc/self/limits"),
        };
        self.figures
            .iter()
            .filter_map(|figure| figure.collect(&reading))
            .collect()
    }
}

impl Figure {
    fn collect(&self, reading: &Reading) -> Option<MetricFamily> {
        let value = (self.read)(reading)?;
        let metrics = vec![metric(self.kind, value)];
        Some(metric_family(&self.desc, self.kind, metrics))
    }
}

fn figures() -> Result<Vec<Figure>, Error> {
    Ok(vec![
        figure(
            "process_cpu_seconds_total",
            "User and system CPU time spent, in seconds.",
            MetricType::COUNTER,
            Reading::cpu_seconds,
        )?,
        figure(
            "process_resident_memory_bytes",
            "Resident memory, in bytes.",
            MetricType::GAUGE,
            Reading::resident_bytes,
        )?,
        figure(
            "process_virtual_memory_bytes",
            "Virtual memory, in bytes.",
            MetricType::GAUGE,
            Reading::virtual_bytes,
        )?,
        figure(
            "process_open_fds",
            "Open file descriptors.",
            MetricType::GAUGE,
            |_| open_descriptors(),
        )?,
        figure(
            "process_max_fds",
            "The soft limit on open file descriptors.",
            MetricType::GAUGE,
            Reading::descriptor_limit,
        )?,
        figure(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970-01-01T00:00:00Z.",
            MetricType::GAUGE,
            Reading::start_time,
        )?,
        figure(
            "process_threads",
            "Threads of the process.",
            MetricType::GAUGE,
            Reading::threads,
        )?,
    ])
}

fn figure(
    name: &str,
    help: &str,
    kind: MetricType,
    read: fn(&Reading) -> Option<f64>,
) -> Result<Figure, Error> {
    let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())?;
    Ok(Figure { desc, kind, read })
}

impl Reading {
    /// Ticks per second in which the kernel tells times to programs (USER_HZ).
    const TICKS_PER_SECOND: f64 = 100.0;

    fn cpu_seconds(&self) -> Option<f64> {
        let ticks = self.stat_field(14)? + self.stat_field(15)?;
        Some(ticks / Self::TICKS_PER_SECOND)
    }

    fn start_time(&self) -> Option<f64> {
        Some(self.boot_time? + self.stat_field(22)? / Self::TICKS_PER_SECOND)
    }

    fn threads(&self) -> Option<f64> {
        self.stat_field(20)
    }

    fn resident_bytes(&self) -> Option<f64> {
        Some(number_after(&self.status, "VmRSS:")? * 1024.0)
    }

    fn virtual_bytes(&self) -> Option<f64> {
        Some(number_after(&self.status, "VmSize:")? * 1024.0)
    }

    fn descriptor_limit(&self) -> Option<f64> {
        number_after(&self.limits, "Max open files")
    }

    /// A field of `/proc/self/stat`, counted from 1 as in proc(5). The program's name, field 2, may
    /// hold spaces and parentheses; what follows its last parenthesis starts with field 3.
    fn stat_field(&self, number: usize) -> Option<f64> {
        let (_, fields) = self.stat.rsplit_once(')')?;
        fields.split_whitespace().nth(number - 3)?.parse().ok()
    }
}

/// The directory's size is the number of descriptors since Linux 6.2; before, it is zero.
fn open_descriptors() -> Option<f64> {
    let directory = "/proc/self/fd";
    let size = fs::metadata(directory).ok()?.len();
    let open = if size > 0 {
        size
    } else {
        fs::read_dir(directory).ok()?.count() as u64
    };
    Some(open as f64)
}

fn boot_time(stat: &str) -> Option<f64> {
    number_after(stat, "btime")
}

/// The number behind `key` in the line that starts with it.
fn number_after(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The text of a file of `/proc`; nothing where it cannot be read.
fn text_of(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 4 18 2000 20000 21";
        Reading {
            boot_time: boot_time("cpu 1 2\nbtime 1000000\nprocesses 5\n"),
            stat: format!("42 (a) name) {fields}"),
            status: "Name:\ta\nVmSize:\t    8 kB\nVmRSS:\t     4 kB\n".into(),
            limits: "Limit  Soft Limit\nMax open files            1024   4096   files\n".into(),
        }
    }

    #[test]
    fn figures_are_in_base_units() {
        let reading = reading();
        assert_eq!(reading.cpu_seconds(), Some(2.0));
        assert_eq!(reading.threads(), Some(4.0));
        assert_eq!(reading.start_time(), Some(1_000_020.0));
        assert_eq!(reading.resident_bytes(), Some(4096.0));
        assert_eq!(reading.virtual_bytes(), Some(8192.0));
        assert_eq!(reading.descriptor_limit(), Some(1024.0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let nothing = Reading {
            boot_time: None,
            stat: String::new(),
            status: String::new(),
            limits: "Max open files  unlimited unlimited files".into(),
        };
        assert_eq!(nothing.cpu_seconds(), None);
        assert_eq!(nothing.start_time(), None);
        assert_eq!(nothing.resident_bytes(), None);
        assert_eq!(nothing.descriptor_limit(), None);
    }
}
