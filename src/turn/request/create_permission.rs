//! CreatePermission (RFC 8656 §10.2).

use std::net::{IpAddr, SocketAddr};

use super::{Handled, Request};
use crate::stun::{AttributeType, Message};
use crate::time::Instant;
use crate::turn::allocation_key::AllocationKey;
use crate::turn::auth::Authenticated;
use crate::turn::five_tuple::Family;
use crate::turn::peer_filter::Scope;
use crate::turn::peer_refusal::PeerRefusal;
use crate::turn::reply::{Refusal, Success};
use crate::turn::server::Server;
use crate::turn::stats::Counter;

impl Server {
    /// All peers of the request are permitted or none (S3).
    pub(in crate::turn) fn handle_create_permission(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<Handled, Refusal> {
        let key = self.own_allocation(request, user)?;
        let peers = peers(request.message)?;
        self.check_families(key, &peers)?;
        let scopes = self.permit(request.now.instant, key, &peers)?;
        self.check_room(key, &peers)?;
        for (peer, scope) in peers.iter().zip(scopes) {
            self.install_permission(key, peer.ip(), scope, request.now.instant);
        }
        Ok(Handled::Answer(Success::Done))
    }

    /// 443 when a peer is of a family that the allocation has no relayed address of.
    pub(super) fn check_families(
        &self,
        key: AllocationKey,
        peers: &[SocketAddr],
    ) -> Result<(), Refusal> {
        let allocation = self.allocation(key)?;
        let is_foreign = |peer: &SocketAddr| allocation.relay(Family::of(peer.ip())).is_none();
        if peers.iter().any(is_foreign) {
            Err(Refusal::PeerFamilyMismatch)
        } else {
            Ok(())
        }
    }

    /// 403 when one of the peers may not be relayed to.
    pub(super) fn permit(
        &mut self,
        now: Instant,
        key: AllocationKey,
        peers: &[SocketAddr],
    ) -> Result<Vec<Scope>, Refusal> {
        let live = self.shared.live_relays(self.allocation(key)?.is_tcp());
        let permit = |peer: &SocketAddr| {
            let permitted = self.policy.peers.permit(peer.ip(), live);
            permitted.map_err(|why| (*peer, why))
        };
        let scopes: Result<Vec<Scope>, _> = peers.iter().map(permit).collect();
        scopes.map_err(|(peer, why)| self.refuse_peer(now, peer, why))
    }

    /// 403, counted by `why`; address and rule go to the log (S4), of a flood only the first.
    pub(in crate::turn) fn refuse_peer(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        why: PeerRefusal,
    ) -> Refusal {
        self.stats.increment(Counter::RefusedPeers(why));
        if self.refusal_lines.allows(now) {
            let denial = self.policy.peers.denial(peer.ip());
            let rule = denial.map(|rule| tracing::field::display(rule.network));
            tracing::debug!(%peer, why = why.label(), rule, "peer refused");
        }
        Refusal::Forbidden
    }

    /// 508 when the new permissions among those for `peers` are more than may be.
    pub(super) fn check_room(
        &self,
        key: AllocationKey,
        peers: &[SocketAddr],
    ) -> Result<(), Refusal> {
        let allocation = self.allocation(key)?;
        let permissions = &allocation.permissions;
        let mut new: Vec<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        new.retain(|ip| !permissions.contains(*ip));
        new.sort_unstable();
        new.dedup();
        let limit = usize::from(self.policy.limits.permissions_per_allocation);
        if permissions.len() + new.len() > limit {
            return Err(Refusal::InsufficientCapacity);
        }
        Ok(())
    }
}

/// The peer addresses of the request, at least one; their ports mean nothing here.
fn peers(message: &Message<'_>) -> Result<Vec<SocketAddr>, Refusal> {
    let is_peer = |kind| kind == AttributeType::XOR_PEER_ADDRESS;
    let peers: Result<Vec<SocketAddr>, _> = message
        .attributes()
        .filter(|attribute| is_peer(attribute.kind))
        .map(|attribute| message.xor_address(&attribute))
        .collect();
    peers
        .ok()
        .filter(|peers| !peers.is_empty())
        .ok_or(Refusal::BadRequest)
}
