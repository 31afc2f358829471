//! Refresh with a ticket, and what comes after it (RFC 8016 §3.2).

use std::time::Duration;

use super::{Handled, Request, allocate};
use crate::stun::{Attribute, AttributeType};
use crate::turn::auth::Authenticated;
use crate::turn::awaited::{Awaited, Heard, Waiting};
use crate::turn::five_tuple::{Family, FiveTuple};
use crate::turn::letter::Letter;
use crate::turn::mobile_id::MobileId;
use crate::turn::mobility::{Mobile, Offer};
use crate::turn::outcome::{Reason, Verdict};
use crate::turn::reply::{Refusal, Reply, Success};
use crate::turn::server::Server;
use crate::turn::stats::{AuthFailure, Counter, RequestMethod};
use crate::turn::ticket::Ticket;

impl Server {
    /// The client comes from another five-tuple and shows its ticket: from now on it is awaited there.
    pub(super) fn handle_resume(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
        ticket: &Attribute<'_>,
    ) -> Result<Handled, Refusal> {
        if !self.policy.mobility {
            return Err(Refusal::MobilityForbidden);
        }
        let ticket = Ticket::read(ticket.value).ok_or(Refusal::BadRequest)?;
        if let Some(success) = self.repeat_resume(request, user) {
            return Ok(Handled::Answer(success));
        }
        let (id, mobile) = self.find_mobile(request, user, ticket)?;
        self.check_new_five_tuple(&request.from, id, &mobile)?;
        let family = family(request, &mobile)?;
        if super::requested_lifetime(request.message)? == Some(Duration::ZERO) {
            self.delete_mobile(request, id, &mobile, family);
            return Ok(Handled::Answer(Success::Refreshed {
                lifetime: Duration::ZERO,
                ticket: None,
            }));
        }
        self.check_credential(request, user)?;
        let lifetime = allocate::lifetime(request, user, &self.policy.lifetimes)?;
        let offer = Offer {
            used: ticket,
            fresh: Ticket::new(self.random.bytes()),
            to: request.from,
            family,
            expires: request.now.instant + lifetime,
        };
        self.offer_move(request, id, &mobile, &offer, lifetime)
    }

    /// The answer that the request got before.
    fn repeat_resume(&self, request: &Request<'_, '_>, user: &Authenticated) -> Option<Success> {
        let awaited = self.awaited.get(&request.from)?;
        let is_repeated = awaited.transaction == request.message.transaction()
            && awaited.owner.is(user.owner())
            && self.is_awaited(&request.from);
        is_repeated.then_some(Success::Refreshed {
            lifetime: awaited.lifetime,
            ticket: Some(awaited.ticket),
        })
    }

    /// The allocation that the ticket is good for. Another user's is as good as none.
    fn find_mobile(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
        ticket: Ticket,
    ) -> Result<(MobileId, Mobile), Refusal> {
        let found = self.shared.mobility.find(ticket, request.now.instant);
        let (id, mobile) = found.ok_or(Refusal::BadRequest)?;
        if !mobile.owner.is(user.owner()) {
            self.stats
                .increment(Counter::AuthFailures(AuthFailure::OtherUser));
            return Err(Refusal::BadRequest);
        }
        Ok((id, mobile))
    }

    /// 400 where the allocation is already (RFC 8016 §3.2.1: a client that has not moved shows no ticket),
    /// 437 where there is another one.
    fn check_new_five_tuple(
        &self,
        from: &FiveTuple,
        id: MobileId,
        mobile: &Mobile,
    ) -> Result<(), Refusal> {
        if mobile.client == *from {
            return Err(Refusal::BadRequest);
        }
        let awaited = self.awaited.get(from).map(|awaited| awaited.id);
        let awaits_another = awaited.is_some_and(|other| other != id) && self.is_awaited(from);
        if awaits_another || self.allocations.key(from).is_some() {
            return Err(Refusal::AllocationMismatch);
        }
        allocate::check_client(from)
    }

    fn delete_mobile(
        &mut self,
        request: &Request<'_, '_>,
        id: MobileId,
        mobile: &Mobile,
        family: Option<Family>,
    ) {
        let families = mobile.until.iter().flatten().count();
        let family = family.filter(|_| families > 1);
        match family {
            Some(family) => self.shared.mobility.end_family(id, family),
            None => self.shared.mobility.end(id),
        }
        let key = mobile.place.key;
        let letter = Letter::Delete { key, family };
        self.tell(request.now, mobile.place.shard, letter);
    }

    fn offer_move(
        &mut self,
        request: &Request<'_, '_>,
        id: MobileId,
        mobile: &Mobile,
        offer: &Offer,
        lifetime: Duration,
    ) -> Result<Handled, Refusal> {
        let place = self.shared.mobility.offer(id, offer);
        let place = place.ok_or(Refusal::BadRequest)?;
        let letter = Letter::Renew {
            key: place.key,
            family: offer.family,
            expires: offer.expires,
        };
        self.tell(request.now, place.shard, letter);
        let awaited = Awaited {
            id,
            owner: mobile.owner.clone(),
            transaction: request.message.transaction(),
            lifetime,
            ticket: offer.fresh,
            state: Waiting::Client,
            parked: Default::default(),
        };
        let mobility = &self.shared.mobility;
        self.awaited
            .insert(request.from, awaited, |client, awaited| {
                mobility.awaited(awaited.id, client).is_some()
            });
        Ok(Handled::Answer(Success::Refreshed {
            lifetime,
            ticket: Some(offer.fresh),
        }))
    }

    /// A further request of a client that is awaited, authentic as it is: its allocation moves here first.
    /// What becomes of the request, if it has to wait or is another user's.
    pub(super) fn await_allocation<'p>(
        &mut self,
        request: &Request<'_, 'p>,
        reply: &Reply,
        user: &Authenticated,
    ) -> Option<Verdict<'p>> {
        let Request { now, from, message } = *request;
        if self.awaited.is_empty() || self.allocations.key(&from).is_some() {
            return None;
        }
        let shows_ticket = message.has(AttributeType::MOBILITY_TICKET);
        if reply.method == RequestMethod::Refresh && shows_ticket || !self.is_awaited(&from) {
            return None;
        }
        let awaited = self.awaited.get(&from);
        if awaited.is_some_and(|awaited| !awaited.owner.is(user.owner())) {
            self.stats
                .increment(Counter::AuthFailures(AuthFailure::OtherUser));
            let signature = user.signature();
            return Some(self.refuse(now, reply, &Refusal::WrongCredentials, Some(&signature)));
        }
        match self.hear(now, &from, message.as_bytes()) {
            Heard::Here | Heard::Nobody => None,
            Heard::Parked => Some(Verdict::Park),
            Heard::Full => Some(Verdict::Discard(Reason::AnswerPending)),
        }
    }
}

/// The family that the request is for; none for all (RFC 8656 §8.1).
fn family(request: &Request<'_, '_>, mobile: &Mobile) -> Result<Option<Family>, Refusal> {
    match super::requested_family(request.message)? {
        None => Ok(None),
        Some(family) => family
            .filter(|family| mobile.until[*family as usize].is_some())
            .map(Some)
            .ok_or(Refusal::PeerFamilyMismatch),
    }
}
