//! Which attributes this server understands (RFC 8489 §6.3).

use super::policy::Policy;
use crate::stun::{AttributeType, Message};

/// The comprehension-required attributes that a message may carry; in a request any other is answered
/// with 420. DONT-FRAGMENT is among them: Linux can set the DF bit (RFC 8656 §7.2 step 4).
const KNOWN: &[AttributeType] = &[
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::XOR_RELAYED_ADDRESS,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::DONT_FRAGMENT,
    AttributeType::RESERVATION_TOKEN,
    AttributeType::CONNECTION_ID,
];

/// Whether every comprehension-required attribute of an indication is known (RFC 8489 §6.3.2).
pub(super) fn has_only_known(message: &Message<'_>) -> bool {
    message.unknown_required(KNOWN).next().is_none()
}

/// The comprehension-required attributes of a request that are not known, in order. ACCESS-TOKEN is
/// known to a server that believes one.
pub(super) fn unknown_required(
    message: &Message<'_>,
    policy: &Policy,
) -> impl Iterator<Item = AttributeType> {
    let has_oauth = policy.oauth.is_some();
    message
        .unknown_required(KNOWN)
        .filter(move |kind| !(has_oauth && *kind == AttributeType::ACCESS_TOKEN))
}
