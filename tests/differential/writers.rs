//! One plan, written by each implementation with its own words for every attribute.

use stun::attributes as stun_kinds;
use stun::message::{Message as StunCrateMessage, Setter};
use stun_types::attribute::{
    ErrorCode, Nonce, RawAttribute, Realm, Software, UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, Message as StunTypesMessage, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWriteVec, Method as StunTypesMethod, ShortTermCredentials,
};
use stun_types::prelude::{MessageWrite as _, MessageWriteExt as _};
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turnstone::stun::{AttributeType, Class, MessageBuilder};

use crate::plan::{Field, Integrity, KEY, Plan};

pub(crate) fn ours(plan: &Plan) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut builder = MessageBuilder::new(&mut bytes, plan.class, plan.method(), plan.transaction);
    for field in &plan.fields {
        let kind = AttributeType(field.kind());
        match field {
            Field::Username(text) | Field::Realm(text) | Field::Nonce(text) => {
                builder.attribute(kind, text.as_bytes())
            }
            Field::Software(text) => builder.attribute(kind, text.as_bytes()),
            Field::XorMapped(address) | Field::XorPeer(address) | Field::XorRelayed(address) => {
                builder.xor_address(kind, *address)
            }
            Field::Mapped(address) => builder.address(kind, *address),
            Field::Error(code, reason) => builder.error_code(*code, reason),
            Field::Unknown(kinds) => {
                let kinds: Vec<_> = kinds.iter().copied().map(AttributeType).collect();
                builder.unknown_attributes(&kinds)
            }
            Field::Lifetime(seconds) => builder.u32(kind, *seconds),
            Field::Channel(number) => builder.u32(kind, u32::from(*number) << 16),
            Field::Transport(protocol) => builder.u32(kind, u32::from(*protocol) << 24),
            Field::Data(data) | Field::Other(_, data) => builder.attribute(kind, data),
        };
    }
    if let Some(algorithm) = plan.integrity.algorithm() {
        builder.integrity(algorithm, KEY.as_bytes());
    }
    if plan.fingerprint {
        builder.fingerprint();
    }
    bytes
}

/// The credentials of stun-types whose key is [`KEY`].
pub(crate) fn credentials() -> MessageIntegrityCredentials {
    ShortTermCredentials::new(KEY.into()).into()
}

pub(crate) fn stun_types(plan: &Plan) -> Vec<u8> {
    let class = match plan.class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::Success => MessageClass::Success,
        Class::Error => MessageClass::Error,
    };
    let kind = MessageType::from_class_method(class, StunTypesMethod::new(plan.method));
    let id = stun_types_id(plan);
    let mut message = StunTypesMessage::builder(kind, id, MessageWriteVec::new());
    for field in &plan.fields {
        add_stun_types(&mut message, field, id);
    }
    match plan.integrity {
        Integrity::None => Ok(()),
        Integrity::Sha1 => message.add_message_integrity(&credentials(), IntegrityAlgorithm::Sha1),
        Integrity::Sha256 => {
            message.add_message_integrity(&credentials(), IntegrityAlgorithm::Sha256)
        }
    }
    .unwrap();
    if plan.fingerprint {
        message.add_fingerprint().unwrap();
    }
    message.finish()
}

fn stun_types_id(plan: &Plan) -> stun_types::message::TransactionId {
    let bytes = plan.transaction.0.iter();
    bytes
        .fold(0_u128, |id, byte| id << 8 | u128::from(*byte))
        .into()
}

fn add_stun_types(
    message: &mut MessageWriteVec,
    field: &Field,
    id: stun_types::message::TransactionId,
) {
    match field {
        Field::Username(text) => message.add_attribute(&Username::new(text).unwrap()),
        Field::Realm(text) => message.add_attribute(&Realm::new(text).unwrap()),
        Field::Nonce(text) => message.add_attribute(&Nonce::new(text).unwrap()),
        Field::Software(text) => message.add_attribute(&Software::new(text).unwrap()),
        Field::XorMapped(address) => message.add_attribute(&XorMappedAddress::new(*address, id)),
        Field::XorPeer(address) => message.add_attribute(&XorPeerAddress::new(*address, id)),
        Field::XorRelayed(address) => message.add_attribute(&XorRelayedAddress::new(*address, id)),
        Field::Mapped(address) => {
            let address = stun_types::attribute::MappedSocketAddr::new(*address);
            message.add_attribute(&address.to_raw(field.kind().into()))
        }
        Field::Error(code, reason) => {
            message.add_attribute(&ErrorCode::new(*code, reason).unwrap())
        }
        Field::Unknown(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(|kind| (*kind).into()).collect();
            message.add_attribute(&UnknownAttributes::new(&kinds))
        }
        Field::Lifetime(seconds) => message.add_attribute(&Lifetime::new(*seconds)),
        Field::Channel(number) => message.add_attribute(&ChannelNumber::new(*number)),
        Field::Transport(protocol) => message.add_attribute(&RequestedTransport::new(*protocol)),
        Field::Data(data) => message.add_attribute(&Data::new(data)),
        Field::Other(kind, data) => message.add_attribute(&RawAttribute::new((*kind).into(), data)),
    }
    .unwrap();
}

pub(crate) fn stun_crate_integrity() -> stun::integrity::MessageIntegrity {
    stun::integrity::MessageIntegrity::new_short_term_integrity(KEY.into())
}

pub(crate) fn stun_crate(plan: &Plan) -> Vec<u8> {
    let mut message = StunCrateMessage::new();
    let kind = u16::from_be_bytes([ours(plan)[0], ours(plan)[1]]);
    message.typ.read_value(kind);
    message.transaction_id.0 = plan.transaction.0;
    message.write_header();
    for field in &plan.fields {
        add_stun_crate(&mut message, field);
    }
    if plan.integrity == Integrity::Sha1 {
        stun_crate_integrity().add_to(&mut message).unwrap();
    }
    if plan.fingerprint {
        stun::fingerprint::FINGERPRINT.add_to(&mut message).unwrap();
    }
    message.raw
}

fn add_stun_crate(message: &mut StunCrateMessage, field: &Field) {
    let kind = stun_kinds::AttrType(field.kind());
    match field {
        Field::Username(text) | Field::Realm(text) | Field::Nonce(text) | Field::Software(text) => {
            stun::textattrs::TextAttribute::new(kind, text.clone()).add_to(message)
        }
        Field::XorMapped(address) | Field::XorPeer(address) | Field::XorRelayed(address) => {
            let (ip, port) = (address.ip(), address.port());
            stun::xoraddr::XorMappedAddress { ip, port }.add_to_as(message, kind)
        }
        Field::Mapped(address) => {
            let (ip, port) = (address.ip(), address.port());
            stun::addr::MappedAddress { ip, port }.add_to_as(message, kind)
        }
        Field::Error(code, reason) => stun::error_code::ErrorCodeAttribute {
            code: stun::error_code::ErrorCode(*code),
            reason: reason.clone().into_bytes(),
        }
        .add_to(message),
        Field::Unknown(kinds) => {
            let kinds = kinds.iter().copied().map(stun_kinds::AttrType).collect();
            stun::uattrs::UnknownAttributes(kinds).add_to(message)
        }
        Field::Lifetime(seconds) => return message.add(kind, &seconds.to_be_bytes()),
        Field::Channel(number) => {
            return message.add(kind, &(u32::from(*number) << 16).to_be_bytes());
        }
        Field::Transport(protocol) => return message.add(kind, &[*protocol, 0, 0, 0]),
        Field::Data(data) | Field::Other(_, data) => return message.add(kind, data),
    }
    .unwrap();
}
