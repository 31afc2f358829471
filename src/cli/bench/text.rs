//! A report in words.

use std::thread::available_parallelism;

use crate::load::{Carrier, Pace, Plan, Report, Traffic, Workload};

/// The report for a terminal.
pub(super) fn text(report: &Report) -> String {
    let figures = report.figures();
    let width = figures.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut lines = vec![headline(&report.plan)];
    let rows = figures.iter();
    lines.extend(rows.map(|(name, value)| format!("  {name:width$}  {value}")));
    lines.extend(report.notes().iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// What is run, in a line.
pub(super) fn headline(plan: &Plan) -> String {
    let target = &plan.target;
    let what = match &plan.workload {
        Workload::Relay(traffic) => format!("{} allocations, {}", plan.clients, packets(traffic)),
        Workload::Pair(traffic) => format!("{} pairs, {}", plan.clients / 2, packets(traffic)),
        Workload::Binding(traffic) => format!("{} clients, {}", plan.clients, pace(traffic.pace)),
        Workload::Cycle => format!("{} clients side by side", plan.clients),
        Workload::Idle => format!("{} allocations", plan.clients),
    };
    let name = plan.workload.name();
    format!(
        "{name} at {} over {}: {what}",
        target.server, target.transport
    )
}

fn packets(traffic: &Traffic) -> String {
    let way = match (traffic.up, traffic.down) {
        (true, true) => "both ways",
        (true, false) => "up",
        _ => "down",
    };
    let carrier = match traffic.carrier {
        Carrier::Channel => "channels",
        Carrier::Indication => "indications",
    };
    let burst = match traffic.burst {
        1 => String::new(),
        burst => format!(" in bursts of {burst}"),
    };
    let gro = if traffic.gro {
        ", received with GRO"
    } else {
        ""
    };
    let (size, pace) = (traffic.size, pace(traffic.pace));
    format!("{size} bytes {way} by {carrier}{burst}{gro}, {pace}")
}

fn pace(pace: Pace) -> String {
    match pace {
        Pace::Rate(rate) => format!("{rate:.0} a second"),
        Pace::Window(packets) => format!("as many as come back, {packets} on their way"),
        Pace::Search { loss, .. } => {
            format!("the highest rate that loses {} % at most", loss * 100.0)
        }
    }
}

/// Where the figures come from.
pub(super) fn conditions() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "By turnstone {version} on a machine with {cores} cores. Latency counts from when a packet was \
         due to when it was received."
    )
}
