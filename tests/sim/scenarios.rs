//! The properties, each under the conditions that try it most.

use std::time::Duration;

use turnstone::turn::{AllocationEnd, Counter, HopWay, Reason, RequestMethod, Transport};

use crate::client::Client;
use crate::coverage::{Coverage, answers};
use crate::deployment::Deployment;
use crate::exhaust::take_every_port;
use crate::plan::{Scenario, at, behind_one_to_one_nat, calm, chaos, generous};
use crate::properties::Property;
use crate::rng::Rng;
use crate::seeds::each_seed;

/// Every property that is checked packet by packet, and that all returns in the end.
#[test]
fn every_property_holds_in_chaos() {
    let coverage = Coverage::new();
    let runs = each_seed(150, |rng| {
        let deployment = run(chaos(rng), rng);
        deployment
            .shards
            .stats()
            .for_each(|stats| coverage.add(stats));
    });
    if runs >= 100 {
        coverage.check(&a_chaos());
    }
}

/// What has to happen for the properties to mean anything.
fn a_chaos() -> Vec<Counter> {
    let mut all = [
        answers(RequestMethod::Binding, &[]),
        answers(RequestMethod::Allocate, &[401, 437, 438, 486, 508]),
        answers(RequestMethod::Refresh, &[401, 437, 438, 441]),
        answers(RequestMethod::CreatePermission, &[401, 403, 437, 438, 443]),
        answers(RequestMethod::ChannelBind, &[403, 437, 438]),
    ]
    .concat();
    let reasons = [
        Reason::Unclassified,
        Reason::NoAllocation,
        Reason::NoChannel,
        Reason::NoPermission,
        Reason::ForbiddenPeer,
        Reason::AnswerPending,
        Reason::SocketFull,
    ];
    all.extend(reasons.map(Counter::Dropped));
    // Clients that move and processes that take over are tested elsewhere.
    let elsewhere = [AllocationEnd::Lost, AllocationEnd::HandedOver];
    let ends = AllocationEnd::ALL.iter();
    let ends = ends.filter(|end| !elsewhere.contains(end));
    all.extend(ends.map(|end| Counter::AllocationsEnded(*end)));
    all.push(Counter::RelayFailures);
    all.extend(HopWay::ALL.iter().map(|way| Counter::RelayHops(*way)));
    all
}

#[test]
fn good_clients_behind_a_link_with_loss_get_their_allocation_and_data() {
    each_seed(12, |rng| {
        let mut scenario = calm(rng);
        scenario.access.loss = 10;
        scenario.access.duplicates = 2;
        scenario.policy.lifetimes.permission = Duration::from_secs(20);
        scenario.policy.lifetimes.channel = Duration::from_secs(30);
        let clients = run(scenario, rng).clients;
        for client in &clients {
            Property::GoodClientsAreServed.holds(client.sent > 20, || {
                format!("client {} sent {} times", client.id, client.sent)
            });
        }
        are_served(&clients, Transport::Udp, 0.7);
        are_served(&clients, Transport::Tcp, 0.95);
    });
}

/// Whether what clients of `transport` sent to peers came back, a `share` of it at least.
fn are_served(clients: &[Client], transport: Transport, share: f64) {
    let these = clients
        .iter()
        .filter(|client| client.plan.transport == transport);
    let (sent, back) = these.fold((0, 0), |(sent, back), client| {
        (sent + client.sent_to_peers, back + client.echoed.len())
    });
    Property::GoodClientsAreServed.holds(back as f64 >= f64::from(sent) * share, || {
        format!("{back} of {sent} came back over {transport:?}")
    });
}

#[test]
fn two_clients_of_different_shards_reach_each_other_under_the_default_peer_policy() {
    each_seed(12, |rng| {
        relays_reach_each_other(calm(rng), rng);
    });
}

#[test]
fn two_clients_reach_each_other_behind_a_one_to_one_nat() {
    each_seed(12, |rng| {
        let mut scenario = calm(rng);
        behind_one_to_one_nat(&mut scenario);
        relays_reach_each_other(scenario, rng);
    });
}

#[test]
fn the_same_seed_replays_to_the_byte_and_another_differs() {
    let digest = |seed| {
        let rng = &mut Rng::new(seed);
        let mut deployment = Deployment::new(chaos(rng), rng);
        deployment.run_until(at(60));
        deployment.shards.digest()
    };
    let digests: Vec<u64> = (0..6).map(digest).collect();
    for (seed, first) in (0..).zip(&digests) {
        Property::SeedsReplay.holds(digest(seed) == *first, || format!("seed {seed}"));
        let same = digests.iter().filter(|other| *other == first).count();
        Property::SeedsReplay.holds(same == 1, || format!("seed {seed} is like another"));
    }
}

/// Runs a scenario to its end and checks that everything is back where it began.
fn run(scenario: Scenario, rng: &mut Rng) -> Deployment {
    let (end, ports) = (scenario.end, scenario.policy.relay.ports.clone());
    let generous = generous(&scenario);
    let mut deployment = Deployment::new(scenario, rng);
    deployment.run_until(end);
    deployment.run_dry();
    deployment.shards.check_returned();
    deployment.shards.relax(deployment.now(), generous);
    take_every_port(&mut deployment, ports.len());
    deployment
}

fn relays_reach_each_other(mut scenario: Scenario, rng: &mut Rng) {
    scenario.shards = 4;
    for client in &run(scenario, rng).clients {
        let of_partner = client
            .from_others
            .iter()
            .filter(|(id, _)| *id == client.id ^ 1);
        let heard = of_partner.count();
        Property::RelaysReachEachOther.holds(heard > 30, || {
            format!("client {} heard {heard} times of its partner", client.id)
        });
    }
}
