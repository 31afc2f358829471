//! Requests: authentication, then one handler per method, each a list of checks in RFC order.

mod allocate;
mod asked;
mod binding;
mod channel_bind;
mod connect;
mod connection_bind;
mod create_permission;
mod hand_back;
mod refresh;
mod resume;

use std::time::Duration;

use super::allocation::{Allocation, Neighbour};
use super::allocation_key::AllocationKey;
use super::auth::{Authenticated, Failure, authenticate};
use super::comprehension::unknown_required;
use super::five_tuple::{Family, FiveTuple, Transport};
use super::oauth::OAuth;
use super::outcome::{Reason, Verdict};
use super::policy::Policy;
use super::reply::{Challenge, Close, Refusal, Reply, Signature, Success};
use super::server::Server;
use super::stats::{AuthFailure, Counter, RequestMethod, ResultCode};
use crate::stun::{AttributeType, Message, Method};
use crate::time::Now;

/// 420 with the unknown comprehension-required attributes of the message (RFC 8489 §6.3.1).
fn check_known(message: &Message<'_>, policy: &Policy) -> Result<(), Refusal> {
    let unknown: Vec<AttributeType> = unknown_required(message, policy).collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Refusal::UnknownAttributes(unknown))
    }
}

/// A request and what came with it.
pub(super) struct Request<'a, 'm> {
    pub(super) now: Now,
    pub(super) from: FiveTuple,
    pub(super) message: &'a Message<'m>,
}

/// What a handler decided.
pub(super) enum Handled {
    Answer(Success),
    /// A retransmission: the success response of the allocation once more.
    Repeat(AllocationKey),
    /// The answer follows when the relay socket is open, or the peer connected.
    Park,
    /// A retransmission of a request whose answer is still being worked out.
    Pending,
}

impl Server {
    // Inlined it costs every Binding response 2 % more instructions.
    #[inline(never)]
    pub(super) fn handle_request<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        message: &Message<'p>,
    ) -> Verdict<'p> {
        if self.is_formers(&from, message) {
            return self.hand_back(from, message);
        }
        self.handle_own(now, from, message)
    }

    /// Handles a request that is for nobody else.
    fn handle_own<'p>(&mut self, now: Now, from: FiveTuple, message: &Message<'p>) -> Verdict<'p> {
        let method = counted_method(message.method());
        let Some(method) = method.filter(|method| self.serves(*method)) else {
            return Verdict::Discard(Reason::UnknownMethod);
        };
        let request = Request { now, from, message };
        if method == RequestMethod::Binding {
            return self.handle_binding(&request);
        }
        if message.is_bare() && !message_is_solicited(&from) {
            // A bare header is no request that a client sends; answering only helps a reflector (S7).
            return Verdict::Discard(Reason::Malformed);
        }
        let reply = Reply::to(message, method, from);
        match self.authenticate(&request) {
            Ok(user) => self.handle_authenticated(&request, &reply, user),
            Err((failure, refusal)) => {
                self.stats.increment(Counter::AuthFailures(failure));
                tracing::trace!(client = %from.client, why = failure.label(), "not authentic");
                self.refuse(now, &reply, &refusal, None)
            }
        }
    }

    /// Whether the operator offers what requests of `method` are about.
    fn serves(&self, method: RequestMethod) -> bool {
        match method {
            RequestMethod::Connect | RequestMethod::ConnectionBind => self.policy.relay.tcp,
            _ => true,
        }
    }

    fn authenticate(&self, request: &Request<'_, '_>) -> Result<Authenticated, Failure> {
        let Request { now, from, message } = request;
        let allocation = self.allocation_of(from).map(|(_, allocation)| allocation);
        let owner = allocation.map(|allocation| &allocation.owner);
        let owner = owner.or_else(|| self.awaited_owner(from));
        authenticate(message, *now, &self.policy, owner, |nonce| {
            let lifetime = self.policy.lifetimes.nonce;
            let is_of = |client| self.nonces.is_valid(nonce, client, now.instant, lifetime);
            is_of(from.client) || self.control_of(message).is_some_and(is_of)
        })
    }

    fn handle_authenticated<'p>(
        &mut self,
        request: &Request<'_, 'p>,
        reply: &Reply,
        user: Authenticated,
    ) -> Verdict<'p> {
        let signature = user.signature();
        if let Some(verdict) = self.await_allocation(request, reply, &user) {
            return verdict;
        }
        let handled =
            check_known(request.message, &self.policy).and_then(|()| match reply.method {
                RequestMethod::Allocate => self.handle_allocate(request, user),
                RequestMethod::Refresh => self.handle_refresh(request, &user),
                RequestMethod::CreatePermission => self.handle_create_permission(request, &user),
                RequestMethod::ChannelBind => self.handle_channel_bind(request, &user),
                RequestMethod::Connect => self.handle_connect(request, &user),
                RequestMethod::ConnectionBind => self.handle_connection_bind(request, &user),
                RequestMethod::Binding => Ok(Handled::Answer(Success::Mapped)),
            });
        match handled {
            Ok(Handled::Answer(success)) => self.succeed(reply, success, &signature),
            Ok(Handled::Repeat(allocation)) => self.answer_allocate(allocation),
            Ok(Handled::Park) => Verdict::Park,
            Ok(Handled::Pending) => Verdict::Discard(Reason::AnswerPending),
            Err(refusal) => self.refuse(request.now, reply, &refusal, Some(&signature)),
        }
    }

    /// The live allocation of the request's five-tuple, when `user` made it (RFC 8656 §5).
    fn own_allocation(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<AllocationKey, Refusal> {
        let (key, allocation) = self
            .allocation_of(&request.from)
            .filter(|(_, allocation)| allocation.is_live())
            .ok_or(Refusal::AllocationMismatch)?;
        let owner = &allocation.owner;
        let is_own = match request.message.method() {
            Method::REFRESH => owner.may_be_renewed_by(user.owner()),
            _ => owner.is(user.owner()),
        };
        if !is_own {
            self.stats
                .increment(Counter::AuthFailures(AuthFailure::OtherUser));
            return Err(Refusal::WrongCredentials);
        }
        Ok(key)
    }

    fn allocation(&self, key: AllocationKey) -> Result<&Allocation, Refusal> {
        self.allocations.get(key).ok_or(Refusal::AllocationMismatch)
    }

    fn allocation_of(&self, client: &FiveTuple) -> Option<(AllocationKey, &Allocation)> {
        let key = self.allocations.key(client)?;
        self.allocations
            .get(key)
            .map(|allocation| (key, allocation))
    }

    pub(super) fn succeed<'p>(
        &mut self,
        reply: &Reply,
        success: Success,
        signature: &Signature,
    ) -> Verdict<'p> {
        let software = self.policy.software.as_deref();
        let close = Close {
            software,
            signature: Some(signature),
        };
        reply.write_success(&mut self.response, success, &close);
        self.answer(reply, ResultCode::SUCCESS)
    }

    /// Answers with an error response; without a `signature` the request was not authentic.
    pub(super) fn refuse<'p>(
        &mut self,
        now: Now,
        reply: &Reply,
        refusal: &Refusal,
        signature: Option<&Signature>,
    ) -> Verdict<'p> {
        let security = &self.policy.security;
        let nonce = self
            .nonces
            .make(reply.to.client, now.instant, security.cookie());
        let challenge = Challenge {
            realm: &self.policy.realm,
            nonce: &nonce,
            algorithms: security.password_algorithms(),
            server_name: self.policy.oauth.as_ref().map(OAuth::server_name),
        };
        let close = Close {
            software: self
                .policy
                .software
                .as_deref()
                .filter(|_| signature.is_some()),
            signature: signature.filter(|_| !refusal.is_challenge()),
        };
        let challenge = Some(&challenge).filter(|_| refusal.is_challenge());
        reply.write_error(&mut self.response, refusal, challenge, &close);
        // A nonce proves the address and is what went stale; an allocation proves it too.
        let is_known = || *refusal == Refusal::StaleNonce && self.has_allocation(&reply.to);
        if signature.is_some() || is_known() {
            self.answer(reply, refusal.result())
        } else {
            self.answer_unauthenticated(now, reply, refusal.result())
        }
    }

    /// Answers when the source can be trusted or has drawn little so far (S7).
    pub(super) fn answer_unauthenticated<'p>(
        &mut self,
        now: Now,
        reply: &Reply,
        result: ResultCode,
    ) -> Verdict<'p> {
        let rate = self.policy.limits.reflection_bytes_per_second / u32::from(self.shards);
        let bytes = self.response.len();
        let client = reply.to.client.ip();
        if !message_is_solicited(&reply.to)
            && !self.rate_limit.allows(client, bytes, rate, now.instant)
        {
            return Verdict::Discard(Reason::RateLimited);
        }
        self.answer(reply, result)
    }

    fn answer<'p>(&mut self, reply: &Reply, result: ResultCode) -> Verdict<'p> {
        self.stats
            .increment(Counter::Requests(reply.method, result));
        self.respond_to = Some(reply.to);
        Verdict::Respond
    }

    /// Writes the success response of the Allocate request that made the allocation.
    pub(super) fn answer_allocate<'p>(&mut self, key: AllocationKey) -> Verdict<'p> {
        let Some(allocation) = self.allocations.get(key) else {
            return Verdict::Discard(Reason::NoAllocation);
        };
        let reply = allocation.origin.reply(allocation.client);
        let origin = &allocation.origin;
        let success = Success::Allocated {
            relayed: allocation.relays.each(|relay| relay.public),
            lifetime: origin.lifetime,
            token: match origin.neighbour {
                Neighbour::Reserved(token) => Some(token),
                Neighbour::None | Neighbour::Wanted => None,
            },
            missing: origin.missing,
            ticket: allocation
                .mobile
                .and_then(|id| self.shared.mobility.ticket(id)),
        };
        let signature = allocation.signature();
        self.succeed(&reply, success, &signature)
    }
}

/// Whether nobody can have forged the source: streams and DTLS need a handshake.
fn message_is_solicited(from: &FiveTuple) -> bool {
    from.transport != Transport::Udp
}

/// The counted method of a request, or none when requests of `method` are not served.
fn counted_method(method: Method) -> Option<RequestMethod> {
    match method {
        Method::BINDING => Some(RequestMethod::Binding),
        Method::ALLOCATE => Some(RequestMethod::Allocate),
        Method::REFRESH => Some(RequestMethod::Refresh),
        Method::CREATE_PERMISSION => Some(RequestMethod::CreatePermission),
        Method::CHANNEL_BIND => Some(RequestMethod::ChannelBind),
        Method::CONNECT => Some(RequestMethod::Connect),
        Method::CONNECTION_BIND => Some(RequestMethod::ConnectionBind),
        _ => None,
    }
}

/// LIFETIME, if the request has one; 400 when it is malformed.
fn requested_lifetime(message: &Message<'_>) -> Result<Option<Duration>, Refusal> {
    let attribute = message.attribute(AttributeType::LIFETIME);
    let seconds = attribute.map(|attribute| attribute.u32()).transpose();
    let seconds = seconds.map_err(|_| Refusal::BadRequest)?;
    Ok(seconds.map(|seconds| Duration::from_secs(seconds.into())))
}

/// REQUESTED-ADDRESS-FAMILY, if the request has one: a family, or none for an unknown one; 400 when it
/// is malformed (RFC 8656 §18.6).
fn requested_family(message: &Message<'_>) -> Result<Option<Option<Family>>, Refusal> {
    let Some(attribute) = message.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY) else {
        return Ok(None);
    };
    match attribute.bytes() {
        Ok([0x01, _, _, _]) => Ok(Some(Some(Family::V4))),
        Ok([0x02, _, _, _]) => Ok(Some(Some(Family::V6))),
        Ok(_) => Ok(Some(None)),
        Err(_) => Err(Refusal::BadRequest),
    }
}
