//! What is compared, and what must be reached.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use turnstone::load::{Carrier, Login, Pace, Plan, Report, Target, Traffic, Transport, Workload};

use crate::process::{PASSWORD, Process, USER};

/// Before what counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// Packets on their way in saturated runs.
const WINDOW: usize = 256;
const FEW: usize = 100;
const MANY: usize = 10_000;
const PACKET: &str = "µs CPU/packet";
/// How long idle allocations are held: their memory was looked at before.
const HELD: Duration = Duration::from_millis(100);

/// One comparison.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Of [`value`](Self::value).
    pub(crate) unit: &'static str,
    pub(crate) workload: Workload,
    pub(crate) transport: Transport,
    pub(crate) clients: usize,
    /// The figure of a report; less is better.
    pub(crate) value: fn(&Report) -> Option<f64>,
    pub(crate) goal: Goal,
}

/// Cases that are measured side by side in the same rounds.
pub(crate) struct Series {
    pub(crate) cases: Vec<Case>,
    /// What is told of the last case against the first.
    pub(crate) growth: Option<Growth>,
}

/// CPU time for a packet of one case as a multiple of that of another, for each server by itself.
#[derive(Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

impl Series {
    fn one(case: Case) -> Self {
        Self {
            cases: vec![case],
            growth: None,
        }
    }

    /// `few` and the same among ten thousand allocations, called `name`.
    fn among_many(few: Case, name: &'static str, growth: &'static str) -> Self {
        let many = Case {
            name,
            unit: PACKET,
            clients: MANY,
            value: cpu,
            goal: Goal::None,
            ..few
        };
        Self {
            cases: vec![few, many],
            growth: Some(Growth {
                name: growth,
                unit: "x CPU/packet",
                goal: Goal::Figure(1.15),
            }),
        }
    }

    /// The names of all rows.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let cases = self.cases.iter().map(|case| case.name);
        cases.chain(self.growth.map(|growth| growth.name))
    }

    /// What must be measured for the rows whose name contains `part`; none when there is no such row.
    pub(crate) fn only(mut self, part: &str) -> Option<Self> {
        self.growth = self.growth.filter(|growth| growth.name.contains(part));
        if self.growth.is_none() {
            self.cases.retain(|case| case.name.contains(part));
        }
        (!self.cases.is_empty()).then_some(self)
    }
}

/// What must be reached.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// At most this share of coturn's figure.
    Ratio(f64),
    /// At most this, whatever coturn does.
    Figure(f64),
    /// Nothing: another row is made of it.
    None,
}

impl Goal {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Ratio(ratio) => format!("ratio <= {ratio:.2}"),
            Self::Figure(figure) => format!("<= {figure}"),
            Self::None => "-".to_owned(),
        }
    }

    pub(crate) fn is_met(self, own: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Ratio(most) => ratio.map(|ratio| ratio <= most),
            Self::Figure(most) => Some(own <= most),
            Self::None => None,
        }
    }
}

/// All comparisons, in the order in which they are shown.
pub(crate) fn all() -> Vec<Series> {
    let cpu = |name, workload, goal| saturated(name, PACKET, workload, goal);
    let relay = |size, burst| Workload::Relay(traffic(size, burst, Pace::Window(WINDOW)));
    let whole = |size, burst| {
        let traffic = traffic(size, burst, Pace::Window(WINDOW));
        Workload::Relay(Traffic {
            gro: true,
            ..traffic
        })
    };
    let pair = Workload::Pair(traffic(160, 1, Pace::Window(WINDOW)));
    let binding = Workload::Binding(traffic(12, 1, Pace::Window(WINDOW)));
    let tcp = Case {
        transport: Transport::Tcp,
        ..cpu("tcp relay 160 B", relay(160, 1), 0.75)
    };
    let mut all = vec![Series::among_many(
        cpu("relay 160 B saturated", relay(160, 1), 0.70),
        "relay 160 B, 10 000 allocations",
        "10 000 against 100, saturated",
    )];
    let single = [
        cpu("relay 1200 B saturated", relay(1200, 1), 0.85),
        cpu("relay 160 B bursts of 8", relay(160, 8), 0.40),
        cpu("relay 1200 B bursts of 8", relay(1200, 8), 0.40),
        cpu("relay 1200 B bursts of 8, GRO", whole(1200, 8), 0.40),
        cpu("pair 160 B", pair, 0.45),
        tcp,
        saturated("allocation cycle", "µs CPU/cycle", Workload::Cycle, 0.25),
        saturated("binding", "µs CPU/request", binding, 0.80),
        at_20_000(),
    ];
    all.extend(single.map(Series::one));
    all.push(Series::among_many(
        at_60_000(),
        "relay 160 B, 10 000 at 60 000/s",
        "10 000 against 100, 60 000/s",
    ));
    all.push(Series::one(idle()));
    all
}

/// A hundred clients over UDP, whose cost to the server is to be this share of coturn's.
fn saturated(name: &'static str, unit: &'static str, workload: Workload, goal: f64) -> Case {
    Case {
        name,
        unit,
        workload,
        transport: Transport::Udp,
        clients: FEW,
        value: cpu,
        goal: Goal::Ratio(goal),
    }
}

fn idle() -> Case {
    Case {
        name: "10 000 idle allocations",
        unit: "B each",
        workload: Workload::Idle,
        transport: Transport::Udp,
        clients: MANY,
        value: |report| report.set_up.bytes_each,
        goal: Goal::Figure(1024.0),
    }
}

fn at_20_000() -> Case {
    Case {
        name: "relay at 20 000/s",
        unit: "µs p50",
        workload: Workload::Relay(traffic(160, 1, Pace::Rate(20_000.0))),
        transport: Transport::Udp,
        clients: FEW,
        value: p50,
        goal: Goal::Ratio(1.0),
    }
}

fn at_60_000() -> Case {
    Case {
        name: "relay at 60 000/s",
        unit: "% lost",
        workload: Workload::Relay(traffic(160, 1, Pace::Rate(60_000.0))),
        transport: Transport::Udp,
        clients: FEW,
        value: |report| report.result().map(|trial| trial.loss() * 100.0),
        goal: Goal::Figure(0.0),
    }
}

fn traffic(size: usize, burst: usize, pace: Pace) -> Traffic {
    Traffic {
        carrier: Carrier::Channel,
        up: true,
        down: true,
        size,
        burst,
        gro: false,
        pace,
    }
}

/// CPU time of the server for each packet, in microseconds.
pub(crate) fn cpu(report: &Report) -> Option<f64> {
    report.result()?.cpu_micros_each()
}

fn p50(report: &Report) -> Option<f64> {
    let latency = report.result()?.latency.as_ref()?;
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    Some(latency.p50 as f64 / 1000.0)
}

/// How `case` is measured at `process`.
pub(crate) fn plan(case: &Case, process: &Process, duration: Duration) -> Plan {
    Plan {
        target: Target {
            server: process.address(),
            transport: case.transport,
            login: Some(Login {
                username: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
            realm: None,
            // Not where relay sockets are bound, so that the ports of all are free for those; many, so
            // that no port comes back while a server still has its former allocation.
            sources: (2..=250)
                .map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
                .collect(),
            peer: None,
        },
        workload: case.workload,
        clients: case.clients,
        threads: 1,
        warm_up: match case.workload {
            Workload::Idle => Duration::ZERO,
            _ => WARM_UP,
        },
        duration: match case.workload {
            Workload::Idle => HELD,
            _ => duration,
        },
        pid: Some(process.pid()),
    }
}
