//! How clients are shared out among workers.

use super::plan::Plan;

/// Allocations before the server's memory is looked at: what it reserves once is not counted.
const HEAD: usize = 100;

/// How many clients each worker has; even numbers, so that pairs are together.
pub(super) fn shares(plan: &Plan) -> Vec<usize> {
    let pairs = plan.clients / 2;
    let share = |worker: usize| pairs / plan.threads + usize::from(worker < pairs % plan.threads);
    let mut shares: Vec<usize> = (0..plan.threads).map(|worker| 2 * share(worker)).collect();
    if let Some(last) = shares.last_mut() {
        *last += plan.clients % 2;
    }
    shares.retain(|share| *share > 0);
    shares
}

/// How many of a worker's clients are set up before memory is looked at.
pub(super) fn head(share: usize, workers: usize) -> usize {
    (share / 2).min(HEAD / workers) / 2 * 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::plan::{Target, Transport, Workload};

    fn shares_of(clients: usize, threads: usize) -> Vec<usize> {
        shares(&Plan {
            target: Target {
                server: "192.0.2.1:3478".parse().unwrap(),
                transport: Transport::Udp,
                login: None,
                realm: None,
                sources: Vec::new(),
                peer: None,
            },
            workload: Workload::Idle,
            clients,
            threads,
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
            pid: None,
        })
    }

    #[test]
    fn clients_are_shared_out_in_pairs() {
        assert_eq!(shares_of(1, 1), [1]);
        assert_eq!(shares_of(10, 2), [6, 4]);
        assert_eq!(shares_of(2, 8), [2]);
        assert_eq!(shares_of(7, 2), [4, 3]);
    }

    #[test]
    fn memory_is_looked_at_after_a_part_of_the_clients() {
        for (share, workers, expected) in [(1, 1, 0), (20, 1, 10), (10_000, 1, 100), (5000, 2, 50)]
        {
            assert_eq!(head(share, workers), expected);
        }
    }
}
