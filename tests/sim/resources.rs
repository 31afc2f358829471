//! Requirement S16 over several shards: dual allocations, pairs of ports, tokens redeemed anywhere,
//! binds that fail. In the
//! end every port, socket, share of quota and gauge is back where it began.

use std::time::Duration;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{Admission, Counter, Family, FiveTuple, Policy, RelaySource, Transport};

use crate::common::{
    Login, Response, World, additional_family, even_port, lifetime, policy, requested_family,
    requested_transport, udp,
};
use crate::properties::Property;
use crate::rng::Rng;
use crate::seeds::each_seed;

const SHARDS: u16 = 3;
/// Two pairs for each shard and family.
const PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_011;

#[test]
fn every_resource_returns() {
    each_seed(150, |rng| {
        let mut run = Run::new();
        for _ in 0..120 {
            run.step(rng);
        }
        run.end();
    });
}

/// All shards, and the tokens that clients have heard of.
struct Run {
    shards: Vec<World>,
    tokens: Vec<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        Self {
            shards: World::group(generous(), SHARDS, 5),
            tokens: Vec::new(),
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let shard = rng.below(SHARDS.into());
        let from = client(shard, rng.below(6));
        let login = rng.pick(&[0, 1]);
        let login = [Login::alice(), Login::bob()][login].clone();
        self.shards[shard].bind = rng.pick(&[Ok(()), Ok(()), Ok(()), Err(true), Err(false)]);
        match rng.below(8) {
            0 => self.pass(rng.millis(1..40_000)),
            1 => self.shards[shard].client_gone(from),
            2 => {
                let mut attributes = vec![lifetime(0)];
                if rng.chance(50) {
                    attributes.push(requested_family(rng.pick(&[1, 2])));
                }
                self.shards[shard].ask(&login, from, Method::REFRESH, &attributes);
            }
            3 => {
                let attributes = [lifetime(1000)];
                self.shards[shard].ask(&login, from, Method::REFRESH, &attributes);
            }
            4 if rng.chance(30) => self.shards[shard].swap_policy(otherwise(rng)),
            _ => self.allocate(rng, shard, from, &login),
        }
        self.check_gauges();
    }

    fn allocate(&mut self, rng: &mut Rng, shard: usize, from: FiveTuple, login: &Login) {
        let mut attributes = vec![requested_transport(17)];
        match rng.below(7) {
            0 | 1 => attributes.push(even_port(true)),
            2 => attributes.push(even_port(false)),
            5 => attributes.push(additional_family(2)),
            3 | 4 if !self.tokens.is_empty() => {
                let token = self.tokens[rng.below(self.tokens.len())].clone();
                attributes.push((AttributeType::RESERVATION_TOKEN, token));
            }
            _ => attributes.push(requested_family(rng.pick(&[1, 2]))),
        }
        let answer: Response = self.shards[shard].ask(login, from, Method::ALLOCATE, &attributes);
        self.tokens
            .extend(answer.value(AttributeType::RESERVATION_TOKEN));
        assert!(matches!(answer.code(), None | Some(437 | 440 | 486 | 508)));
    }

    fn pass(&mut self, duration: Duration) {
        for shard in &mut self.shards {
            shard.pass(duration);
        }
    }

    fn check_gauges(&self) {
        for shard in &self.shards {
            let stats = shard.server.stats();
            let sockets = shard.relays.len() as u64;
            let right = stats.get(Counter::RelayPorts) == sockets && allocations(shard) == sockets;
            Property::GaugesTellTheTruth.holds(right, || format!("{sockets} relay sockets"));
        }
    }

    fn end(mut self) {
        self.pass(Duration::from_secs(4000));
        let idle = |world: &World| {
            world.relays.is_empty()
                && world.held().is_empty()
                && world.shared.is_idle()
                && world.server.poll_timeout().is_none()
        };
        let back = self.shards.iter().all(idle);
        Property::EverythingReturns.holds(back, || "something is left".to_owned());
        for shard in 0..SHARDS.into() {
            self.shards[shard].bind = Ok(());
            self.shards[shard].swap_policy(generous());
            for (family, port) in [1, 2].into_iter().flat_map(|f| (0..4).map(move |p| (f, p))) {
                let from = client(shard, 10 * usize::from(family) + port);
                let attributes = [requested_transport(17), requested_family(family)];
                let login = [Login::alice(), Login::bob()][usize::from(family) - 1].clone();
                let answer = self.shards[shard].ask(&login, from, Method::ALLOCATE, &attributes);
                Property::EverythingReturns.holds(answer.code().is_none(), || {
                    format!("port {port} of family {family} on shard {shard}")
                });
            }
        }
    }
}

/// All ports, and a quota that reaches them.
fn generous() -> Policy {
    let mut policy = policy();
    policy.relay.ports = PORTS;
    policy.limits.allocations_per_user = 12;
    policy
}

/// Limits below what is in use, a family that is no longer offered, a drain: what is there goes on.
fn otherwise(rng: &mut Rng) -> Policy {
    let mut policy = generous();
    policy.limits.allocations_per_user = rng.pick(&[0, 1, 12]);
    policy.limits.allocations = rng.pick(&[2, 1000]);
    policy.admission = rng.pick(&[Admission::Open, Admission::Open, Admission::Closed]);
    if rng.chance(20) {
        policy.relay.v6 = RelaySource::Disabled;
    }
    policy
}

fn client(shard: usize, number: usize) -> FiveTuple {
    udp(&format!("203.0.113.{}:{}", shard + 1, number + 1))
}

fn allocations(world: &World) -> u64 {
    let each = Family::ALL.map(|family| Counter::Allocations(Transport::Udp, family));
    let stats = world.server.stats();
    each.into_iter().map(|counter| stats.get(counter)).sum()
}
