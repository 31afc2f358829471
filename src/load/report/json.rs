//! A report for programs.

use serde_json::{Value, json};

use super::Report;
use crate::load::plan::{Carrier, Pace, Traffic};
use crate::load::trial::{Handshakes, Latency, SetUp, Trial};

impl Report {
    /// All there is to know, in one object. Rates are packets (requests, cycles) a second, times
    /// microseconds unless their name says otherwise, shares 0 to 1; what was not measured is null.
    pub fn to_json(&self) -> Value {
        let plan = &self.plan;
        json!({
            "server": plan.target.server.to_string(),
            "transport": plan.target.transport.to_string(),
            "workload": plan.workload.name(),
            "clients": plan.clients,
            "threads": plan.threads,
            "duration_seconds": plan.duration.as_secs_f64(),
            "traffic": plan.workload.traffic().map(traffic),
            "set_up": set_up(&self.set_up),
            "handshakes": self.handshakes.as_ref().map(handshakes),
            "result": self.result().map(trial),
            "trials": self.trials.iter().map(brief).collect::<Vec<_>>(),
            "notes": self.notes(),
            "interrupted": self.interrupted,
        })
    }
}

fn traffic(traffic: &Traffic) -> Value {
    let pace = match traffic.pace {
        Pace::Rate(rate) => json!({ "rate": rate }),
        Pace::Window(packets) => json!({ "window": packets }),
        Pace::Search { loss, start } => json!({ "search": { "loss": loss, "start": start } }),
    };
    json!({
        "carrier": match traffic.carrier {
            Carrier::Channel => "channel",
            Carrier::Indication => "indication",
        },
        "up": traffic.up,
        "down": traffic.down,
        "size": traffic.size,
        "burst": traffic.burst,
        "gro": traffic.gro,
        "pace": pace,
    })
}

fn set_up(set_up: &SetUp) -> Value {
    json!({
        "allocations": set_up.allocations,
        "seconds": set_up.seconds,
        "server_bytes_per_allocation": set_up.bytes_each,
    })
}

fn handshakes(handshakes: &Handshakes) -> Value {
    let mut times = latency(&handshakes.times);
    times["count"] = handshakes.count.into();
    times
}

fn brief(trial: &Trial) -> Value {
    json!({
        "rate": trial.rate,
        "delivered_per_second": trial.delivered(),
        "loss": trial.loss(),
        "p99": trial.latency.as_ref().map(|latency| micros(latency.p99)),
        "server_cpu_each": trial.cpu_micros_each(),
        "own_limit": trial.own_limit(),
    })
}

fn trial(trial: &Trial) -> Value {
    json!({
        "rate": trial.rate,
        "seconds": trial.seconds,
        "sent": trial.sent,
        "unsent": trial.unsent,
        "received": trial.received,
        "lost": trial.lost(),
        "misplaced": trial.misplaced,
        "reordered": trial.reordered,
        "in_trains": trial.in_trains,
        "delivered_per_second": trial.delivered(),
        "loss": trial.loss(),
        "latency": trial.latency.as_ref().map(latency),
        "late_p99": micros(trial.late_p99),
        "busy": trial.busy,
        "own_limit": trial.own_limit(),
        "server_cpu_each": trial.cpu_micros_each(),
        "server_cpu_seconds": trial.cpu_nanos.map(|nanos| micros(nanos) / 1e6),
        "server_resident_bytes": trial.resident_bytes,
    })
}

fn latency(latency: &Latency) -> Value {
    json!({
        "p50": micros(latency.p50),
        "p99": micros(latency.p99),
        "p999": micros(latency.p999),
        "max": micros(latency.max),
        "mean": latency.mean / 1000.0,
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a run are below 2^52"
)]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}
