//! The properties, each under the conditions that try it most.

use turnstone::turn::Transport;

use crate::client::Client;
use crate::deployment::Deployment;
use crate::exhaust::take_every_port;
use crate::plan::{Scenario, Whom, at, behind_one_to_one_nat, calm, chaos, generous};
use crate::properties::Property;
use crate::rng::Rng;
use crate::seeds::each_seed;

/// Every property that is checked packet by packet, and that all returns in the end.
#[test]
fn every_property_holds_in_chaos() {
    each_seed(100, |rng| {
        run(chaos(rng), rng);
    });
}

#[test]
fn good_clients_behind_a_link_with_loss_get_their_allocation_and_data() {
    each_seed(20, |rng| {
        let mut scenario = calm(rng);
        scenario.access.loss = 10;
        scenario.access.duplicates = 2;
        let clients = run(scenario, rng);
        for client in &clients {
            is_served(client);
        }
    });
}

#[test]
fn two_clients_of_different_shards_reach_each_other_under_the_default_peer_policy() {
    each_seed(20, |rng| relays_reach_each_other(calm(rng), rng));
}

#[test]
fn two_clients_reach_each_other_behind_a_one_to_one_nat() {
    each_seed(20, |rng| {
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
fn run(scenario: Scenario, rng: &mut Rng) -> Vec<Client> {
    let (end, ports) = (scenario.end, scenario.policy.relay.ports.clone());
    let generous = generous(&scenario);
    let mut deployment = Deployment::new(scenario, rng);
    deployment.run_until(end);
    deployment.run_dry();
    deployment.shards.check_returned();
    deployment.shards.relax(deployment.now(), generous);
    take_every_port(&mut deployment, ports.len());
    deployment.clients
}

fn relays_reach_each_other(mut scenario: Scenario, rng: &mut Rng) {
    scenario.shards = 4;
    let clients = run(scenario, rng);
    for client in &clients {
        let of_partner = client.from_others.iter().filter(|(id, _)| *id == client.id ^ 1);
        let heard = of_partner.count();
        Property::RelaysReachEachOther.holds(heard > 50, || {
            format!("client {} heard {heard} times of its partner", client.id)
        });
    }
}

fn is_served(client: &Client) {
    let is_peer = |(whom, _): &&(Whom, bool)| matches!(whom, Whom::Peer(_));
    let peers = client.plan.targets.iter().filter(is_peer).count();
    let share = peers as f64 / client.plan.targets.len() as f64;
    let sent = f64::from(client.sent) * share;
    let wanted = match client.plan.transport {
        Transport::Tcp => 0.95,
        Transport::Udp => 0.65,
    };
    let came_back = client.echoed.len() as f64;
    let served = client.sent > 50 && came_back >= sent * wanted;
    Property::GoodClientsAreServed.holds(served, || {
        let id = client.id;
        format!("client {id} sent {sent} and {came_back} came back")
    });
}
