//! Turnstone against Debian's coturn in the same run: CPU time per relayed packet, and memory per idle
//! allocation.
//!
//! `cargo bench --bench compare` starts both servers by turns on the first core and sends from the
//! second. Without coturn (`apt install coturn`) it measures Turnstone alone and says so.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its result"
)]

mod client;
mod process;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use client::{Crowd, Delivered};
use process::{Process, Server};

/// Allocations of the relay workloads.
const ALLOCATIONS: usize = 100;
/// Allocations of the memory workload.
const IDLE: usize = 10_000;
/// Allocations before memory is looked at: what is reserved once is not counted.
const WARM_UP: usize = 100;
/// How often each server is measured; medians are reported.
const ROUNDS: usize = 3;
/// How long one measurement takes.
const DURATION: Duration = Duration::from_secs(3);

fn main() -> io::Result<()> {
    if std::env::args().any(|argument| argument == "--test") {
        // `cargo test --benches` only wants to know that it still works.
        let process = Process::start(Server::Turnstone)?;
        return relay(&process, 2, 160, Duration::from_millis(200)).map(|_| ());
    }
    process::pin(1)?;
    let servers: Vec<Server> = Server::ALL
        .into_iter()
        .filter(Server::is_installed)
        .collect();
    if !servers.contains(&Server::Coturn) {
        eprintln!("coturn is not installed: Turnstone is measured alone (apt install coturn)");
    }
    for server in &servers {
        let bytes = memory(*server)?;
        println!("{server}: {bytes} bytes of memory per idle allocation, of {IDLE}");
    }
    for payload in [160, 1200] {
        compare_relaying(&servers, payload)?;
    }
    Ok(())
}

/// By turns, so that the machine's moods strike all alike.
fn compare_relaying(servers: &[Server], payload: usize) -> io::Result<()> {
    let mut results = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (server, results) in servers.iter().zip(&mut results) {
            let process = Process::start(*server)?;
            results.push(relay(&process, ALLOCATIONS, payload, DURATION)?);
        }
    }
    for (server, mut results) in servers.iter().zip(results) {
        results.sort_by(|a, b| a.nanos_per_packet.total_cmp(&b.nanos_per_packet));
        let Some(median) = results.get(results.len() / 2) else {
            continue;
        };
        println!(
            "{server}: {payload} bytes both ways on {ALLOCATIONS} channels: {:.2} µs of CPU time \
             per relayed packet, {} packets, {:.3} % lost",
            median.nanos_per_packet / 1000.0,
            median.packets,
            median.loss * 100.0,
        );
    }
    Ok(())
}

/// What one relay measurement found.
#[derive(Clone, Copy)]
struct Relayed {
    nanos_per_packet: f64,
    packets: u64,
    loss: f64,
}

fn relay(
    process: &Process,
    allocations: usize,
    payload: usize,
    duration: Duration,
) -> io::Result<Relayed> {
    let mut crowd = Crowd::allocate(process.address(), allocations)?;
    crowd.bind_channels()?;
    crowd.exchange(payload, Duration::from_millis(200))?;
    let before = process.cpu_nanos()?;
    let Delivered { sent, received } = crowd.exchange(payload, duration)?;
    let nanos = process.cpu_nanos()? - before;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let relayed = Relayed {
        nanos_per_packet: nanos as f64 / received.max(1) as f64,
        packets: received,
        loss: (sent - received) as f64 / sent.max(1) as f64,
    };
    Ok(relayed)
}

/// Bytes of resident memory that one more idle allocation takes.
fn memory(server: Server) -> io::Result<u64> {
    let process = Process::start(server)?;
    let first = Crowd::allocate(process.address(), WARM_UP)?;
    let before = process.resident_bytes()?;
    let rest = Crowd::allocate(process.address(), IDLE - WARM_UP)?;
    let grown = process.resident_bytes()?.saturating_sub(before);
    drop((first, rest));
    Ok(grown / (IDLE - WARM_UP) as u64)
}

/// The loopback address at `port`.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
