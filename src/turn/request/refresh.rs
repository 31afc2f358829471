//! Refresh (RFC 8656 §8.2).

use std::time::Duration;

use super::{Handled, Request, allocate};
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
        let key = self.own_allocation(request, user)?;
        let family = super::requested_family(request.message)?;
        let allocation = self
            .allocations
            .get(key)
            .ok_or(Refusal::AllocationMismatch)?;
        if family.is_some_and(|family| family != Some(allocation.relay.family())) {
            return Err(Refusal::PeerFamilyMismatch);
        }
        if super::requested_lifetime(request.message)? == Some(Duration::ZERO) {
            self.end(key, AllocationEnd::Deleted);
            return Ok(Handled::Answer(Success::Refreshed {
                lifetime: Duration::ZERO,
            }));
        }
        if user.is_expired(request.now) {
            self.stats
                .increment(Counter::AuthFailures(AuthFailure::Expired));
            return Err(Refusal::Unauthenticated);
        }
        let lifetime = allocate::lifetime(request.message, &self.policy.lifetimes)?;
        self.set_expiry(key, request.now.instant + lifetime);
        Ok(Handled::Answer(Success::Refreshed { lifetime }))
    }
}
