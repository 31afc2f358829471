//! Refresh (RFC 8656 §8.2).

use std::time::Duration;

use super::{Handled, Request, allocate};
use crate::stun::AttributeType;
use crate::turn::allocation_key::AllocationKey;
use crate::turn::auth::Authenticated;
use crate::turn::reply::{Refusal, Success};
use crate::turn::server::Server;
use crate::turn::stats::{AllocationEnd, AuthFailure, Counter};

impl Server {
    pub(in crate::turn) fn handle_refresh(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<Handled, Refusal> {
        if let Some(ticket) = request.message.attribute(AttributeType::MOBILITY_TICKET) {
            return self.handle_resume(request, user, &ticket);
        }
        let key = self.own_allocation(request, user)?;
        let family = super::requested_family(request.message)?;
        let allocation = self.allocation(key)?;
        // Without the attribute the request is for all families (RFC 8656 §8.1).
        let family = match family {
            None => None,
            Some(family) => Some(
                family
                    .filter(|family| allocation.relay(*family).is_some())
                    .ok_or(Refusal::PeerFamilyMismatch)?,
            ),
        };
        if super::requested_lifetime(request.message)? == Some(Duration::ZERO) {
            match family {
                Some(family) => self.end_family(key, family, AllocationEnd::Deleted),
                None => self.end(key, AllocationEnd::Deleted),
            }
            return Ok(Handled::Answer(Success::Refreshed {
                lifetime: Duration::ZERO,
                ticket: None,
            }));
        }
        self.check_credential(request, user)?;
        let lifetime = allocate::lifetime(request, user, &self.policy.lifetimes)?;
        self.renew(key, user);
        self.set_expiry(key, family, request.now.instant + lifetime);
        Ok(Handled::Answer(Success::Refreshed {
            lifetime,
            ticket: None,
        }))
    }

    /// A credential that has expired or was withdrawn keeps its allocation, but not past its lifetime
    /// (S12).
    pub(super) fn check_credential(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<(), Refusal> {
        let owner = user.owner();
        let failure = if owner.has_expired(request.now) {
            AuthFailure::Expired
        } else if !owner.is_known_to(&self.policy) {
            if owner.has_token() {
                AuthFailure::UnknownKey
            } else {
                AuthFailure::UnknownUser
            }
        } else {
            return Ok(());
        };
        self.stats.increment(Counter::AuthFailures(failure));
        Err(Refusal::Unauthenticated)
    }
    /// From now on the allocation belongs to the access token that refreshed it.
    fn renew(&mut self, key: AllocationKey, user: &Authenticated) {
        let allocation = self.allocations.get_mut(key);
        if let Some(allocation) = allocation.filter(|_| user.owner().has_token()) {
            allocation.owner = user.owner().clone();
            for id in allocation.peers.iter().flat_map(|peers| peers.ids()) {
                self.shared.peers.set_owner(id, user.owner());
            }
            if let Some(id) = allocation.mobile {
                self.shared.mobility.set_owner(id, user.owner().clone());
            }
        }
    }
}
