//! The flags of `turnstone bench`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::parse_duration;

/// Load a STUN or TURN server and tell what it delivers, how fast, and what it loses.
///
/// Works against any server with long-term or time-limited credentials. Only load servers that are
/// yours: a run is indistinguishable from an attack. Times of packets count from when they were due, so
/// that a server that stalls is not measured by the packets that it let through. SIGINT ends a run
/// early and prints what there is.
#[derive(Args)]
pub(in crate::cli) struct BenchArgs {
    #[command(subcommand)]
    pub(super) workload: WorkloadArgs,
}

#[derive(Subcommand)]
pub(super) enum WorkloadArgs {
    /// Clients and a peer of ours exchange packets through their allocations.
    Relay(RelayArgs),
    /// Clients exchange packets two by two, both ends relayed by the server.
    Pair(RelayArgs),
    /// Binding requests; needs no credentials.
    Binding(BindingArgs),
    /// Allocations made and ended one after the other: challenge, Allocate, CreatePermission,
    /// ChannelBind, Refresh.
    Cycle(CycleArgs),
    /// Allocations that are held and send nothing. With --pid of a server that was just started: what
    /// one costs in memory.
    Idle(IdleArgs),
}

impl WorkloadArgs {
    pub(super) const fn common(&self) -> &CommonArgs {
        match self {
            Self::Relay(args) | Self::Pair(args) => &args.common,
            Self::Binding(args) => &args.common,
            Self::Cycle(args) => &args.common,
            Self::Idle(args) => &args.common,
        }
    }
}

#[derive(Args)]
pub(super) struct CommonArgs {
    /// The server: a name or address, with a port unless it is 3478, for TLS and DTLS 5349.
    #[arg(value_name = "HOST[:PORT]")]
    pub(super) server: String,

    /// USERNAME of all clients; with --secret what the time-limited name is made of. Default: bench.
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,

    /// The user's password. Other users of this machine can see the command line.
    #[arg(
        long,
        env = "TURNSTONE_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub(super) password: Option<String>,

    /// The secret that the server shares, to make time-limited credentials of; --password goes before it.
    #[arg(
        long,
        env = "TURNSTONE_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub(super) secret: Option<String>,

    /// The realm that the server must have. Default: any.
    #[arg(long, value_name = "REALM")]
    pub(super) realm: Option<String>,

    /// Between clients and server.
    #[arg(long, value_enum, default_value = "udp", value_name = "TRANSPORT")]
    pub(super) transport: TransportArg,

    /// Where clients' sockets are bound. Default: what the routing table says; for a server at 127.0.0.1
    /// other addresses of loopback, so that clients do not take the ports of its relayed addresses.
    #[arg(long, value_name = "IP")]
    pub(super) bind: Option<IpAddr>,

    /// Where the peer's socket is bound: an address of this host that the server relays to. Relayed
    /// addresses are of its family, IPv4 or IPv6. Default: what the routing table says, and the server's
    /// family.
    #[arg(long, value_name = "IP")]
    pub(super) peer: Option<IpAddr>,

    /// Threads that send and receive, 1 to 64.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "N")]
    pub(super) threads: u16,

    /// How long it is measured, 1s to 4m: seconds, or a number with s or m. In a search, each rate.
    /// Default: 10s, in a search 2s.
    #[arg(long, value_name = "TIME", value_parser = parse_run_time)]
    pub(super) duration: Option<Duration>,

    /// The server's process id, when it runs on this machine: tells its CPU time and memory.
    #[arg(long, value_name = "PID")]
    pub(super) pid: Option<u32>,

    /// Print one JSON object; times in it are microseconds.
    #[arg(long)]
    pub(super) json: bool,

    /// Write a page with plots to this file; it needs nothing but a browser.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct PaceArgs {
    /// Packets a second over all clients. Default: as many as come back.
    #[arg(long, value_parser = parse_rate, conflicts_with_all = ["search", "window"], value_name = "N")]
    pub(super) rate: Option<f64>,

    /// Packets on their way at any time, 1 to 1000000, when as many are sent as come back.
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        conflicts_with = "search",
        value_name = "N"
    )]
    pub(super) window: u32,

    /// Search for the highest rate at which no more than --loss is lost.
    #[arg(long)]
    pub(super) search: bool,

    /// How much a search may lose, in percent, 0 to 100.
    #[arg(long, default_value_t = 0.1, value_parser = parse_percent, requires = "search", value_name = "PERCENT")]
    pub(super) loss: f64,
}

#[derive(Args)]
pub(super) struct RelayArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    #[command(flatten)]
    pub(super) pace: PaceArgs,

    /// Clients with an allocation each, 1 to 20000; for pairs an even number.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "N")]
    pub(super) allocations: u32,

    /// Which way packets go: up from clients, down to clients; in pairs up from the first to the second.
    #[arg(long, value_enum, default_value = "both", value_name = "WAY")]
    pub(super) direction: Direction,

    /// Bytes of application data in a packet, 12 to 65000, over DTLS 16000.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u32).range(12..=65_000), value_name = "BYTES")]
    pub(super) size: u32,

    /// Packets that a flow sends at once, 1 to 256, as video does.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    pub(super) burst: u32,

    /// Receive with UDP_GRO: the load tester's own sockets take in a burst in one piece where it arrives
    /// in one, and cut it themselves. A server on this machine that sends bursts with UDP_SEGMENT then
    /// pays for a burst what it pays at a network card that segments; without, the kernel cuts them in
    /// the server's CPU time. Tells how many packets came in trains.
    #[arg(long)]
    pub(super) gro: bool,

    /// Send and Data indications in place of ChannelData.
    #[arg(long)]
    pub(super) indications: bool,
}

#[derive(Args)]
pub(super) struct BindingArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    #[command(flatten)]
    pub(super) pace: PaceArgs,

    /// Clients, 1 to 20000.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "N")]
    pub(super) clients: u32,
}

#[derive(Args)]
pub(super) struct CycleArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// Clients that do so side by side, 1 to 20000.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "N")]
    pub(super) clients: u32,
}

#[derive(Args)]
pub(super) struct IdleArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// Clients with an allocation each, 1 to 20000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "N")]
    pub(super) allocations: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TransportArg {
    Udp,
    Tcp,
    /// The server's certificate is not checked.
    Tls,
    /// DTLS 1.3 or 1.2; the server's certificate, which must be one with an ECDSA key, is not checked.
    Dtls,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Direction {
    Up,
    Down,
    Both,
}

/// Permissions last five minutes and are not refreshed.
fn parse_run_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (1..=240).contains(&time.as_secs()) {
        Ok(time)
    } else {
        Err(format!("{text:?} is out of range; write 1s to 4m"))
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    in_range(
        text,
        1.0,
        1e8,
        "a number of packets a second, 1 to 100000000",
    )
}

fn parse_percent(text: &str) -> Result<f64, String> {
    in_range(text, 0.0, 100.0, "a number of percent, 0 to 100")
}

fn in_range(text: &str, least: f64, most: f64, what: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{text:?}: write {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_ranges() {
        assert_eq!(parse_rate("20000"), Ok(20_000.0));
        assert_eq!(parse_percent("0.1"), Ok(0.1));
        for text in ["0", "nan", "inf", "-1", "many", "1e9"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert!(parse_percent("100.1").is_err());
        assert!(parse_run_time("4m").is_ok() && parse_run_time("5m").is_err());
    }
}
