//! What is compared, and what must be reached.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use turnstone::load::{Carrier, Login, Pace, Plan, Report, Target, Traffic, Transport, Workload};

use crate::process::{PASSWORD, Process, USER};

/// Before what counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// Packets on their way in saturated runs.
const WINDOW: usize = 256;

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

/// What must be reached.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// At most this share of coturn's figure.
    Ratio(f64),
    /// At most this, whatever coturn does.
    Figure(f64),
}

impl Goal {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Ratio(ratio) => format!("ratio <= {ratio:.2}"),
            Self::Figure(figure) => format!("<= {figure}"),
        }
    }

    pub(crate) fn is_met(self, own: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Ratio(most) => ratio.map(|ratio| ratio <= most),
            Self::Figure(most) => Some(own <= most),
        }
    }
}

/// All comparisons.
pub(crate) fn all() -> Vec<Case> {
    let cpu = |name, unit, workload, transport, ratio| Case {
        name,
        unit,
        workload,
        transport,
        clients: 100,
        value: cpu,
        goal: Goal::Ratio(ratio),
    };
    let (udp, tcp) = (Transport::Udp, Transport::Tcp);
    let packet = "µs CPU/packet";
    let relay = |size, burst| Workload::Relay(traffic(size, burst, Pace::Window(WINDOW)));
    let pair = Workload::Pair(traffic(160, 1, Pace::Window(WINDOW)));
    let binding = Workload::Binding(traffic(12, 1, Pace::Window(WINDOW)));
    let mut cases = vec![
        cpu("relay 160 B saturated", packet, relay(160, 1), udp, 0.70),
        cpu("relay 1200 B saturated", packet, relay(1200, 1), udp, 0.85),
        cpu("relay 160 B bursts of 8", packet, relay(160, 8), udp, 0.40),
        cpu(
            "relay 1200 B bursts of 8",
            packet,
            relay(1200, 8),
            udp,
            0.40,
        ),
        cpu("pair 160 B", packet, pair, udp, 0.45),
        cpu("tcp relay 160 B", packet, relay(160, 1), tcp, 0.75),
        cpu(
            "allocation cycle",
            "µs CPU/cycle",
            Workload::Cycle,
            udp,
            0.25,
        ),
        cpu("binding", "µs CPU/request", binding, udp, 0.80),
    ];
    cases.extend(at_fixed_rates());
    cases.push(idle());
    cases
}

fn idle() -> Case {
    Case {
        name: "10 000 idle allocations",
        unit: "B each",
        workload: Workload::Idle,
        transport: Transport::Udp,
        clients: 10_000,
        value: |report| report.set_up.bytes_each,
        goal: Goal::Figure(1024.0),
    }
}

fn at_fixed_rates() -> [Case; 2] {
    let at = |rate| Workload::Relay(traffic(160, 1, Pace::Rate(rate)));
    [
        Case {
            name: "relay at 20 000/s",
            unit: "µs p50",
            workload: at(20_000.0),
            transport: Transport::Udp,
            clients: 100,
            value: p50,
            goal: Goal::Ratio(1.0),
        },
        Case {
            name: "relay at 60 000/s",
            unit: "% lost",
            workload: at(60_000.0),
            transport: Transport::Udp,
            clients: 100,
            value: |report| report.result().map(|trial| trial.loss() * 100.0),
            goal: Goal::Figure(0.0),
        },
    ]
}

fn traffic(size: usize, burst: usize, pace: Pace) -> Traffic {
    Traffic {
        carrier: Carrier::Channel,
        up: true,
        down: true,
        size,
        burst,
        pace,
    }
}

fn cpu(report: &Report) -> Option<f64> {
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
        duration,
        pid: Some(process.pid()),
    }
}
