//! The long-term credential mechanism (RFC 8489 §9.2.4), and access tokens in its place (RFC 7635 §7).

use super::oauth::OAuth;
use super::owner::{Owner, Proof};
use super::policy::Policy;
use super::reply::{Refusal, Signature};
use super::stats::AuthFailure;
use crate::stun::{Algorithm, AttributeType, Message, PasswordAlgorithm};
use crate::time::Now;

/// Longest USERNAME in bytes (RFC 8489 §14.3).
pub(super) const MAX_USERNAME: usize = 508;

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
            key: self.owner.mac_key(),
        }
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
    /// The request chose a password algorithm, as clients of RFC 8489 do.
    has_chosen: bool,
}

impl Claim<'_> {
    /// What the response to a request of `owner` is signed with. A token's key is made for no password
    /// algorithm: what its client signs with, it knows.
    fn response_integrity(&self, owner: &Owner) -> Algorithm {
        if self.has_chosen || owner.has_token() && self.integrity == Algorithm::Sha256 {
            Algorithm::Sha256
        } else {
            Algorithm::Sha1
        }
    }
}

/// Checks, in the order of RFC 8489 §9.2.4, that the request was signed by a user we know. The user of
/// the five-tuple's own allocation, its `owner`, may go on with the key that made it.
pub(super) fn authenticate(
    message: &Message<'_>,
    now: Now,
    policy: &Policy,
    owner: Option<&Owner>,
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
        has_chosen: chosen.is_some(),
    };
    let token = |oauth| Some((oauth, value(AttributeType::ACCESS_TOKEN)?));
    let owner = match policy.oauth.as_ref().and_then(token) {
        Some((oauth, token)) => find_bearer(message, &claim, now, oauth, token)?,
        None => known_owner(message, &claim, owner)
            .map_or_else(|| find_owner(message, &claim, now, policy), Ok)?,
    };
    if !nonce_is_valid(nonce) {
        return Err((AuthFailure::StaleNonce, Refusal::StaleNonce));
    }
    Ok(Authenticated {
        response_integrity: claim.response_integrity(&owner),
        owner,
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
    let user = policy.credentials.user_of(&hash);
    let key_id = || policy.oauth.as_ref()?.id_of(&hash, &policy.realm);
    user.or_else(key_id).ok_or(UNKNOWN_USER)
}

/// The `owner` of the allocation, when the request is signed with the same key. Clients send their access token
/// with Allocate and Refresh only (RFC 7635 §9).
fn known_owner(message: &Message<'_>, claim: &Claim<'_>, owner: Option<&Owner>) -> Option<Owner> {
    let owner = owner?;
    let is_chosen = match &owner.proof {
        Proof::Password { key, .. } => claim.password_algorithm == key.algorithm(),
        Proof::Token(_) => true,
    };
    let is_meant = is_chosen && claim.username == &*owner.username;
    let is_signed = || is_signed_with(message, claim, owner.mac_key_bytes());
    (is_meant && is_signed()).then(|| owner.clone())
}

fn is_signed_with(message: &Message<'_>, claim: &Claim<'_>, key: &[u8]) -> bool {
    message.check_integrity(claim.integrity, key).is_ok()
}

/// Who holds `token`, whose key signed the request. USERNAME is the id of the key that sealed it.
fn find_bearer(
    message: &Message<'_>,
    claim: &Claim<'_>,
    now: Now,
    oauth: &OAuth,
    token: &[u8],
) -> Result<Owner, Failure> {
    let refused = |failure| (failure, Refusal::Unauthenticated);
    let opened = oauth.open(claim.username, token);
    let opened = opened.ok_or(refused(AuthFailure::UnknownKey))?;
    let token = opened.map_err(|_| refused(AuthFailure::BadToken))?;
    if token.remaining(now.unix).is_none() {
        return Err(refused(AuthFailure::Expired));
    }
    if !is_signed_with(message, claim, token.mac_key().as_bytes()) {
        return Err(refused(AuthFailure::WrongPassword));
    }
    Ok(Owner {
        username: claim.username.into(),
        proof: Proof::Token(token),
    })
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
        if is_signed_with(message, claim, candidate.key.as_bytes()) {
            return Ok(Owner {
                username: claim.username.into(),
                proof: Proof::Password {
                    key: candidate.key,
                    expires: candidate.expires,
                },
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
