//! Refresh (RFC 8656 §8.2).

use std::time::Duration;

use super::{Handled, Request, allocate};
use crate::stun::AttributeType;
use crate::turn::allocation::Owner;
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
        let lifetime = allocate::lifetime(request.message, &self.policy.lifetimes)?;
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
        let Owner { username, key, .. } = user.owner();
        let credentials = &self.policy.credentials;
        let failure = if user.is_expired(request.now) {
            AuthFailure::Expired
        } else if !credentials.hold(username, key) {
            AuthFailure::UnknownUser
        } else {
            return Ok(());
        };
        self.stats.increment(Counter::AuthFailures(failure));
        Err(Refusal::Unauthenticated)
    }
}
