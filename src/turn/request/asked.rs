//! What an Allocate request asks for, checked in the order of RFC 8656 §7.2.

use crate::stun::{AttributeType, Message};
use crate::turn::five_tuple::{Family, FiveTuple};
use crate::turn::ports::Parity;
use crate::turn::reply::Refusal;
use crate::turn::reservation::Token;

/// What peers are reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayTransport {
    Udp,
    /// RFC 6062.
    Tcp,
}

/// REQUESTED-TRANSPORT: IANA protocol numbers.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Step 3; `tcp` tells whether TCP allocations are offered.
pub(super) fn transport(message: &Message<'_>, tcp: bool) -> Result<RelayTransport, Refusal> {
    let attribute = message.attribute(AttributeType::REQUESTED_TRANSPORT);
    let value = attribute.and_then(|attribute| attribute.bytes().ok());
    match value {
        None => Err(Refusal::BadRequest),
        Some([UDP, _, _, _]) => Ok(RelayTransport::Udp),
        Some([TCP, _, _, _]) if tcp => Ok(RelayTransport::Tcp),
        Some(_) => Err(Refusal::UnsupportedTransport),
    }
}

/// What a TCP allocation cannot have (RFC 6062 §5.1).
pub(super) fn check_tcp(message: &Message<'_>, from: &FiveTuple) -> Result<(), Refusal> {
    let contradictions = [
        AttributeType::DONT_FRAGMENT,
        AttributeType::EVEN_PORT,
        AttributeType::RESERVATION_TOKEN,
    ];
    let contradicts = contradictions.into_iter().any(|kind| message.has(kind));
    if contradicts || !from.transport.is_stream() {
        Err(Refusal::BadRequest)
    } else {
        Ok(())
    }
}

/// Step 5: a token stands alone.
pub(super) fn reservation_token(message: &Message<'_>) -> Result<Option<Token>, Refusal> {
    let Some(attribute) = message.attribute(AttributeType::RESERVATION_TOKEN) else {
        return Ok(None);
    };
    let contradictions = [
        AttributeType::EVEN_PORT,
        AttributeType::REQUESTED_ADDRESS_FAMILY,
        AttributeType::ADDITIONAL_ADDRESS_FAMILY,
    ];
    if contradictions.into_iter().any(|kind| message.has(kind)) {
        return Err(Refusal::BadRequest);
    }
    let token = attribute.bytes().map_err(|_| Refusal::BadRequest)?;
    Ok(Some(Token(token)))
}

/// MOBILITY-TICKET, empty, asks for a ticket (RFC 8016 §3.1).
pub(super) fn mobility(message: &Message<'_>, offered: bool) -> Result<(), Refusal> {
    match message.attribute(AttributeType::MOBILITY_TICKET) {
        Some(attribute) if !attribute.value.is_empty() => Err(Refusal::BadRequest),
        Some(_) if !offered => Err(Refusal::MobilityForbidden),
        Some(_) | None => Ok(()),
    }
}

/// Step 6 and the request's half of step 7: IPv4 unless the request says otherwise.
pub(super) fn family(message: &Message<'_>) -> Result<Family, Refusal> {
    let requested = super::requested_family(message)?;
    if requested.is_some() && message.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY) {
        return Err(Refusal::BadRequest);
    }
    match requested {
        Some(family) => family.ok_or(Refusal::AddressFamilyNotSupported),
        None => Ok(Family::V4),
    }
}

/// Step 8: EVEN-PORT, and with its R bit the port above too, of one family only.
pub(super) fn parity(message: &Message<'_>) -> Result<Parity, Refusal> {
    let Some(attribute) = message.attribute(AttributeType::EVEN_PORT) else {
        return Ok(Parity::Any);
    };
    let [flags] = attribute.bytes().map_err(|_| Refusal::BadRequest)?;
    if flags & 0x80 == 0 {
        Ok(Parity::Even)
    } else if message.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY) {
        Err(Refusal::BadRequest)
    } else {
        Ok(Parity::Pair)
    }
}

/// Step 9: whether IPv6 is wanted beside IPv4; no other family can be added.
pub(super) fn wants_both(message: &Message<'_>) -> Result<bool, Refusal> {
    let Some(attribute) = message.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY) else {
        return Ok(false);
    };
    match attribute.bytes() {
        Ok([0x02, _, _, _]) => Ok(true),
        Ok(_) | Err(_) => Err(Refusal::BadRequest),
    }
}
