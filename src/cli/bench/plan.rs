//! From flags to a plan.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::args::{
    BenchArgs, CommonArgs, Direction, PaceArgs, RelayArgs, TransportArg, WorkloadArgs,
};
use crate::cli::{Failure, server_address, utc};
use crate::credentials::TimeLimited;
use crate::load::{Carrier, Login, Pace, Plan, Target, Traffic, Transport, Workload};
use crate::turn::SharedSecret;

const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(10);
/// Of each rate of a search.
const PROBE: Duration = Duration::from_secs(2);
/// Packets a second that a search begins with.
const SEARCH_START: f64 = 10_000.0;
/// How long time-limited credentials are good.
const TTL: Duration = Duration::from_secs(3600);
/// A record holds 16 384 bytes (RFC 6347 §4.1), with the head of a Send indication.
const MOST_OVER_DTLS: usize = 16_000;
const DEFAULT_USER: &str = "bench";
/// A Binding request's payload is its transaction id.
const BINDING_SIZE: usize = 12;

/// The plan that `args` mean.
pub(super) fn plan(args: &BenchArgs) -> Result<Plan, Failure> {
    let common = args.workload.common();
    let (workload, clients) = workload(&args.workload)?;
    check_size(common.transport, workload.traffic())?;
    let search = matches!(
        workload.traffic(),
        Some(Traffic {
            pace: Pace::Search { .. },
            ..
        })
    );
    let (warm_up, duration) = match (workload, search) {
        (Workload::Idle, _) => (Duration::ZERO, DURATION),
        (_, true) => (WARM_UP / 4, PROBE),
        (_, false) => (WARM_UP, DURATION),
    };
    Ok(Plan {
        target: target(common)?,
        workload,
        clients,
        threads: usize::from(common.threads).min(clients.div_ceil(2)),
        warm_up,
        duration: common.duration.unwrap_or(duration),
        pid: common.pid,
    })
}

fn workload(args: &WorkloadArgs) -> Result<(Workload, usize), Failure> {
    Ok(match args {
        WorkloadArgs::Relay(args) => (Workload::Relay(traffic(args)), count(args.allocations)),
        WorkloadArgs::Pair(args) if args.allocations % 2 == 1 => {
            let count = args.allocations;
            return Err(format!("--allocations {count}: pairs need an even number"));
        }
        WorkloadArgs::Pair(args) => (Workload::Pair(traffic(args)), count(args.allocations)),
        WorkloadArgs::Binding(args) => {
            let traffic = Traffic {
                carrier: Carrier::Channel,
                up: true,
                down: true,
                size: BINDING_SIZE,
                burst: 1,
                gro: false,
                pace: pace(&args.pace),
            };
            (Workload::Binding(traffic), count(args.clients))
        }
        WorkloadArgs::Cycle(args) => (Workload::Cycle, count(args.clients)),
        WorkloadArgs::Idle(args) => (Workload::Idle, count(args.allocations)),
    })
}

fn check_size(transport: TransportArg, traffic: Option<&Traffic>) -> Result<(), Failure> {
    let size = traffic.map_or(0, |traffic| traffic.size);
    if transport == TransportArg::Dtls && size > MOST_OVER_DTLS {
        return Err(format!(
            "--size {size}: what goes over DTLS fits one record; ask for {MOST_OVER_DTLS} or less"
        ));
    }
    Ok(())
}

fn traffic(args: &RelayArgs) -> Traffic {
    Traffic {
        carrier: if args.indications {
            Carrier::Indication
        } else {
            Carrier::Channel
        },
        up: args.direction != Direction::Down,
        down: args.direction != Direction::Up,
        size: count(args.size),
        burst: count(args.burst),
        gro: args.gro,
        pace: pace(&args.pace),
    }
}

fn pace(args: &PaceArgs) -> Pace {
    if args.search {
        return Pace::Search {
            loss: args.loss / 100.0,
            start: SEARCH_START,
        };
    }
    args.rate
        .map_or(Pace::Window(count(args.window)), Pace::Rate)
}

/// Ranges are checked where flags are read.
fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn target(common: &CommonArgs) -> Result<Target, Failure> {
    let (transport, port) = match common.transport {
        TransportArg::Udp => (Transport::Udp, 3478),
        TransportArg::Tcp => (Transport::Tcp, 3478),
        TransportArg::Tls => (Transport::Tls, 5349),
        TransportArg::Dtls => (Transport::Dtls, 5349),
    };
    let server = server_address::resolve(&common.server, port)?;
    let bind = common.bind;
    if bind.is_some_and(|ip| ip.is_ipv4() != server.is_ipv4()) {
        return Err(format!("--bind: {server} is of the other address family"));
    }
    Ok(Target {
        server,
        transport,
        login: login(common)?,
        realm: common.realm.clone(),
        sources: common.bind.map_or_else(|| beside(server), |ip| vec![ip]),
        peer: common.peer,
    })
}

/// Other loopback addresses than the server's, many, so that no port is used twice in a short time.
fn beside(server: SocketAddr) -> Vec<IpAddr> {
    if server.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return Vec::new();
    }
    let others = (2..=250).map(|last| Ipv4Addr::new(127, 0, 0, last));
    others.map(IpAddr::V4).collect()
}

fn login(common: &CommonArgs) -> Result<Option<Login>, Failure> {
    let user = common.user.as_deref();
    match (&common.password, &common.secret) {
        (Some(password), _) => Ok(Some(Login {
            username: user.unwrap_or(DEFAULT_USER).to_owned(),
            password: password.clone(),
        })),
        (None, Some(secret)) if secret.is_empty() => {
            Err("--secret: the secret is empty; give the one that the server has".to_owned())
        }
        (None, Some(secret)) => {
            let secret = SharedSecret::new(secret);
            let user = user.unwrap_or(DEFAULT_USER);
            let minted = TimeLimited::mint(&secret, user, utc::now(), TTL);
            Ok(Some(Login {
                username: minted.username,
                password: minted.password,
            }))
        }
        (None, None) if user.is_some() => {
            Err("--user: give --password too, or --secret".to_owned())
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::bench::text::headline;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn plan_of(text: &str) -> Result<Plan, String> {
        let words = std::iter::once("bench").chain(text.split_whitespace());
        let line = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?;
        plan(&line.args)
    }

    #[test]
    fn flags_become_the_run_that_they_describe() {
        for (text, expected) in [
            (
                "relay 192.0.2.1",
                "relay at 192.0.2.1:3478 over udp: 100 allocations, 160 bytes both ways by channels, as \
                 many as come back, 256 on their way",
            ),
            (
                "relay 192.0.2.1:80 --transport tcp --direction up --burst 8 --size 1200 --rate 5000",
                "relay at 192.0.2.1:80 over tcp: 100 allocations, 1200 bytes up by channels in bursts of \
                 8, 5000 a second",
            ),
            (
                "relay 192.0.2.1 --burst 8 --gro",
                "relay at 192.0.2.1:3478 over udp: 100 allocations, 160 bytes both ways by channels in \
                 bursts of 8, received with GRO, as many as come back, 256 on their way",
            ),
            (
                "pair 192.0.2.1 --transport tls --allocations 4 --indications --search --loss 1",
                "pair at 192.0.2.1:5349 over tls: 2 pairs, 160 bytes both ways by indications, the \
                 highest rate that loses 1 % at most",
            ),
            (
                "binding 192.0.2.1 --transport dtls --clients 2 --rate 7",
                "binding at 192.0.2.1:5349 over dtls: 2 clients, 7 a second",
            ),
            (
                "idle 192.0.2.1 --allocations 7",
                "idle at 192.0.2.1:3478 over udp: 7 allocations",
            ),
        ] {
            let line = plan_of(text).map(|plan| headline(&plan));
            assert_eq!(line.as_deref(), Ok(expected));
        }
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for text in [
            "relay 192.0.2.1 --rate 5 --search",
            "relay 192.0.2.1 --loss 1",
            "relay 192.0.2.1 --size 11",
            "relay 192.0.2.1 --size 16001 --transport dtls",
            "relay 192.0.2.1 --bind ::1",
            "relay 192.0.2.1 --user alice",
            "relay 192.0.2.1 --transport quic",
            "cycle 192.0.2.1 --rate 5",
            "pair 192.0.2.1 --allocations 3",
            "relay",
        ] {
            assert!(plan_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clients_of_a_server_on_loopback_come_from_beside_it() {
        let sources = |text| plan_of(text).map(|plan| plan.target.sources.len());
        assert_eq!(sources("idle 127.0.0.1"), Ok(249));
        assert_eq!(sources("idle 127.0.0.1 --bind 127.0.0.9"), Ok(1));
        assert_eq!(sources("idle 192.0.2.1"), Ok(0));
    }

    #[test]
    fn a_secret_makes_a_login_and_a_password_goes_before_it() {
        let login = |text| plan_of(text).unwrap().target.login.unwrap().username;
        assert!(login("idle 192.0.2.1 --secret s --user alice").ends_with(":alice"));
        assert_eq!(login("idle 192.0.2.1 --secret s --password p"), "bench");
    }
}
