//! The long-term credential mechanism (RFC 8489 §9.2.4).

use super::allocation::{Allocation, Owner};
use super::policy::Policy;
use super::reply::{Refusal, Signature};
use super::stats::AuthFailure;
use crate::stun::{Algorithm, AttributeType, Message, PasswordAlgorithm};
use crate::time::Now;

/// Longest USERNAME in bytes (RFC 8489 §14.3).
const MAX_USERNAME: usize = 508;

/// Proof that a request was signed by its user. Only [`authenticate`] makes it.
#[derive(Clone, Debug)]
pub(super) struct Authenticated {
    owner: Owner,
    response_integrity: Algorithm,
}

impl Authenticated {
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(super) fn into_owner(self) -> Owner {
        self.owner
    }

    /// What the response is signed with.
    pub(super) fn signature(&self) -> Signature {
        Signature {
            algorithm: self.response_integrity,
            key: self.owner.key.clone(),
        }
    }

    /// Whether the credential was time-limited and its time has passed (S12).
    pub(super) fn is_expired(&self, now: Now) -> bool {
        self.owner
            .credential_expires
            .is_some_and(|expires| expires <= now.unix)
    }
}

/// Why a request is not authentic, and how the RFC answers it.
pub(super) type Failure = (AuthFailure, Refusal);

const UNKNOWN_USER: Failure = (AuthFailure::UnknownUser, Refusal::Unauthenticated);
const BAD_REQUEST: Failure = (AuthFailure::Incomplete, Refusal::BadRequest);

/// Whom a signed request claims to come from.
struct Claim<'a> {
    username: &'a str,
    password_algorithm: PasswordAlgorithm,
    /// The algorithm of the integrity attribute that counts.
    integrity: Algorithm,
    /// What the response is signed with.
    response_integrity: Algorithm,
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
    let integrity = integrity(message)?;
    let value = |kind| message.attribute(kind).map(|attribute| attribute.value);
    let (Some(realm), Some(nonce)) = (value(AttributeType::REALM), value(AttributeType::NONCE))
    else {
        return Err(BAD_REQUEST);
    };
    let has_name = message.has(AttributeType::USERNAME) || message.has(AttributeType::USERHASH);
    if !has_name {
        return Err(BAD_REQUEST);
    }
    let chosen = policy
        .security
        .chosen_algorithm(message, nonce)
        .map_err(|_| BAD_REQUEST)?;
    if realm != policy.realm.as_bytes() {
        return Err(UNKNOWN_USER);
    }
    let claim = Claim {
        username: username(message, policy)?,
        password_algorithm: chosen.unwrap_or(PasswordAlgorithm::Md5),
        integrity,
        response_integrity: if chosen.is_some() {
            Algorithm::Sha256
        } else {
            Algorithm::Sha1
        },
    };
    let owner = allocation.map(|allocation| &allocation.owner);
    let owner = match owner.filter(|owner| is_signed_by(message, &claim, owner)) {
        Some(owner) => owner.clone(),
        None => find_owner(message, &claim, now, policy)?,
    };
    if !nonce_is_valid(nonce) {
        return Err((AuthFailure::StaleNonce, Refusal::StaleNonce));
    }
    Ok(Authenticated {
        owner,
        response_integrity: claim.response_integrity,
    })
}

/// The stronger of the integrities that the request carries.
fn integrity(message: &Message<'_>) -> Result<Algorithm, Failure> {
    let carried = [Algorithm::Sha256, Algorithm::Sha1];
    let strongest = carried
        .into_iter()
        .find(|algorithm| message.has_integrity_by(*algorithm));
    strongest.ok_or((AuthFailure::NoCredentials, Refusal::Unauthenticated))
}

/// USERNAME, or the name that USERHASH stands for. What is no name can be nobody's name.
fn username<'a>(message: &Message<'a>, policy: &'a Policy) -> Result<&'a str, Failure> {
    if let Some(name) = message.attribute(AttributeType::USERNAME) {
        return name.text(MAX_USERNAME).map_err(|_| UNKNOWN_USER);
    }
    let hash = message
        .attribute(AttributeType::USERHASH)
        .ok_or(BAD_REQUEST)?;
    let hash = hash.bytes().map_err(|_| UNKNOWN_USER)?;
    policy.credentials.user_of(&hash).ok_or(UNKNOWN_USER)
}

fn is_signed_by(message: &Message<'_>, claim: &Claim<'_>, owner: &Owner) -> bool {
    claim.username == &*owner.username
        && claim.password_algorithm == owner.key.algorithm()
        && message
            .check_integrity(claim.integrity, owner.key.as_bytes())
            .is_ok()
}

/// The user whose key signed the request.
fn find_owner(
    message: &Message<'_>,
    claim: &Claim<'_>,
    now: Now,
    policy: &Policy,
) -> Result<Owner, Failure> {
    let mut failure = AuthFailure::UnknownUser;
    for candidate in policy
        .credentials
        .candidates(claim.username, claim.password_algorithm)
    {
        if candidate.expires.is_some_and(|expires| expires <= now.unix) {
            failure = AuthFailure::Expired;
            break;
        }
        if message
            .check_integrity(claim.integrity, candidate.key.as_bytes())
            .is_ok()
        {
            return Ok(Owner {
                username: claim.username.into(),
                key: candidate.key,
                credential_expires: candidate.expires,
            });
        }
        failure = AuthFailure::WrongPassword;
    }
    if failure == AuthFailure::UnknownUser {
        // As much work as for a known user, so that time does not tell who is one.
        let _ = message.check_integrity(claim.integrity, &[0; 16]);
    }
    Err((failure, Refusal::Unauthenticated))
}
