//! A new snapshot of the operator's decisions, taken over by a server that serves.

use std::sync::Arc;

use super::policy::Policy;
use super::server::Server;
use super::stats::Counter;

impl Server {
    /// Decides by `policy` from now on. Allocations live on; permissions that it would refuse end at once
    /// (requirement S3), and with them what channels carried.
    pub(super) fn set_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
        let (peers, live) = (&self.policy.peers, &self.shared.live);
        let mut ended = 0;
        for allocation in self.allocations.iter_mut() {
            ended += allocation
                .permissions
                .judge_anew(|peer| peers.permit(peer, live).ok());
        }
        self.stats.subtract(Counter::Permissions, ended as u64);
    }
}
