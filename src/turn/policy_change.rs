//! A new snapshot of the operator's decisions, taken over by a server that serves.

use std::sync::Arc;

use super::peer_connection::PeerConnection;
use super::policy::Policy;
use super::server::Server;
use super::stats::Counter;
use crate::time::Now;

impl Server {
    /// Decides by `policy` from now on. Allocations live on; permissions that it would refuse end at once
    /// (requirement S3), and with them what channels carried and the connections of such peers; who waits
    /// for one is told (RFC 6062 §5.2).
    pub(super) fn set_policy(&mut self, now: Now, policy: Arc<Policy>) {
        self.policy = policy;
        let (mut ended, mut refused) = (0, Vec::new());
        for allocation in self.allocations.iter_mut() {
            let gate = &self.policy.peers;
            let live = self.shared.live_relays(allocation.is_tcp());
            let counted = allocation.is_live();
            let permissions = &mut allocation.permissions;
            let gone = permissions.judge_anew(|peer| gate.permit(peer, live).ok());
            ended += if counted { gone } else { 0 };
            let is_refused = |one: &PeerConnection| {
                let scope = gate.permit(one.peer.ip(), live);
                let leads = scope.and_then(|scope| gate.destination(scope, one.peer, live));
                leads.is_err()
            };
            let peers = allocation.peers.as_mut();
            refused.extend(peers.into_iter().flat_map(|peers| peers.take(is_refused)));
        }
        self.stats.subtract(Counter::Permissions, ended as u64);
        for connection in &refused {
            self.tell_of_end(now, connection);
        }
        self.end_peers(refused);
    }
}
