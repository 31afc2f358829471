//! The long-term credential mechanism (RFC 8489 §9.2.4).

use super::allocation::{Allocation, Owner};
use super::policy::Policy;
use super::reply::Refusal;
use super::stats::AuthFailure;
use crate::stun::{Algorithm, AttributeType, IntegrityError, Message};
use crate::time::Now;

/// Longest USERNAME in bytes (RFC 8489 §14.3).
const MAX_USERNAME: usize = 508;

/// Proof that a request was signed by its user. Only [`authenticate`] makes it.
#[derive(Clone, Debug)]
pub(super) struct Authenticated(Owner);

impl Authenticated {
    pub(super) fn owner(&self) -> &Owner {
        &self.0
    }

    pub(super) fn into_owner(self) -> Owner {
        self.0
    }

    /// Whether the credential was time-limited and its time has passed (S12).
    pub(super) fn is_expired(&self, now: Now) -> bool {
        self.0
            .credential_expires
            .is_some_and(|expires| expires <= now.unix)
    }
}

/// Why a request is not authentic, and how the RFC answers it.
pub(super) type Failure = (AuthFailure, Refusal);

/// Whom a signed request claims to come from.
struct Claim<'m> {
    username: &'m str,
    realm: &'m [u8],
    nonce: &'m [u8],
}

/// Checks, in the order of RFC 8489 §9.2.4, that the request was signed by a user we know. The user of
/// the five-tuple's own `allocation` may go on with the key that made it.
pub(super) fn authenticate(
    message: &Message<'_>,
    now: Now,
    policy: &Policy,
    allocation: Option<&Allocation>,
    nonce_is_valid: impl FnOnce(&[u8]) -> bool,
) -> Result<Authenticated, Failure> {
    let claim = claim(message)?;
    let owner = allocation.map(|allocation| &allocation.owner);
    let owner = match owner.filter(|owner| is_signed_by(message, &claim, owner, policy)) {
        Some(owner) => owner.clone(),
        None => find_owner(message, &claim, now, policy)?,
    };
    if !nonce_is_valid(claim.nonce) {
        return Err((AuthFailure::StaleNonce, Refusal::StaleNonce));
    }
    Ok(Authenticated(owner))
}

/// The claim of a request that carries a MESSAGE-INTEGRITY of an algorithm that we offer.
fn claim<'m>(message: &Message<'m>) -> Result<Claim<'m>, Failure> {
    if !message.has_integrity_by(Algorithm::Sha1) {
        return Err((AuthFailure::NoCredentials, Refusal::Unauthenticated));
    }
    let value = |kind| message.attribute(kind);
    let (Some(username), Some(realm), Some(nonce)) = (
        value(AttributeType::USERNAME),
        value(AttributeType::REALM),
        value(AttributeType::NONCE),
    ) else {
        return Err((AuthFailure::Incomplete, Refusal::BadRequest));
    };
    // What is no name can be nobody's name.
    let unknown = (AuthFailure::UnknownUser, Refusal::Unauthenticated);
    let username = username.text(MAX_USERNAME).map_err(|_| unknown)?;
    Ok(Claim {
        username,
        realm: realm.value,
        nonce: nonce.value,
    })
}

fn is_signed_by(message: &Message<'_>, claim: &Claim<'_>, owner: &Owner, policy: &Policy) -> bool {
    claim.realm == policy.realm.as_bytes()
        && claim.username == &*owner.username
        && message
            .check_integrity(Algorithm::Sha1, owner.key.as_bytes())
            .is_ok()
}

/// The user whose key signed the request.
fn find_owner(
    message: &Message<'_>,
    claim: &Claim<'_>,
    now: Now,
    policy: &Policy,
) -> Result<Owner, Failure> {
    if claim.realm != policy.realm.as_bytes() {
        return Err((AuthFailure::UnknownUser, Refusal::Unauthenticated));
    }
    let mut failure = AuthFailure::UnknownUser;
    for (key, credential_expires) in policy.credentials.keys(claim.username, &policy.realm) {
        if credential_expires.is_some_and(|expires| expires <= now.unix) {
            failure = AuthFailure::Expired;
            break;
        }
        match message.check_integrity(Algorithm::Sha1, key.as_bytes()) {
            Ok(()) => {
                return Ok(Owner {
                    username: claim.username.into(),
                    key,
                    credential_expires,
                });
            }
            Err(IntegrityError::Missing | IntegrityError::Mismatch) => {
                failure = AuthFailure::WrongPassword;
            }
        }
    }
    Err((failure, Refusal::Unauthenticated))
}
