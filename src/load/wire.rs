//! Control messages, written and read by the crates `stun` and `turn`.

use std::net::SocketAddr;
use std::time::Duration;

use ::stun::agent::TransactionId;
use ::stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME};
use ::stun::error_code::ErrorCodeAttribute;
use ::stun::integrity::MessageIntegrity;
use ::stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE,
    METHOD_BINDING, METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_REFRESH, Message,
    MessageType, Method, Setter,
};
use ::stun::textattrs::TextAttribute;
use ::stun::xoraddr::XorMappedAddress;
use ::turn::proto::PROTO_UDP;
use ::turn::proto::channum::ChannelNumber;
use ::turn::proto::lifetime::Lifetime;
use ::turn::proto::peeraddr::PeerAddress;
use ::turn::proto::relayaddr::RelayedAddress;
use ::turn::proto::reqfamily::REQUESTED_FAMILY_IPV6;
use ::turn::proto::reqtrans::RequestedTransport;

use super::family::Family;
use super::plan::Login;

/// The channel of every client to its one peer.
pub(super) const CHANNEL: u16 = 0x4000;

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Binding (RFC 8489 §3).
    Bind,
    /// Allocate (RFC 8656 §7) a relayed transport address of this family.
    Allocate(Family),
    /// CreatePermission (RFC 8656 §9).
    Permit(SocketAddr),
    /// ChannelBind (RFC 8656 §12).
    Channel(SocketAddr),
    /// Refresh to a lifetime of zero (RFC 8656 §8).
    Release,
}

impl Step {
    /// What it is called in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bind => "Binding",
            Self::Allocate(_) => "Allocate",
            Self::Permit(_) => "CreatePermission",
            Self::Channel(_) => "ChannelBind",
            Self::Release => "Refresh",
        }
    }

    const fn method(self) -> Method {
        match self {
            Self::Bind => METHOD_BINDING,
            Self::Allocate(_) => METHOD_ALLOCATE,
            Self::Permit(_) => METHOD_CREATE_PERMISSION,
            Self::Channel(_) => METHOD_CHANNEL_BIND,
            Self::Release => METHOD_REFRESH,
        }
    }

    fn attribute(self) -> Option<Box<dyn Setter>> {
        let peer = |peer: SocketAddr| PeerAddress {
            ip: peer.ip(),
            port: peer.port(),
        };
        match self {
            Self::Bind => None,
            Self::Allocate(_) => Some(Box::new(RequestedTransport {
                protocol: PROTO_UDP,
            })),
            Self::Permit(to) | Self::Channel(to) => Some(Box::new(peer(to))),
            Self::Release => Some(Box::new(Lifetime(Duration::ZERO))),
        }
    }
}

/// What a client signs with: the key of its user in the server's realm, and the nonce.
#[derive(Clone)]
pub(super) struct Signature {
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) key: MessageIntegrity,
}

/// The key of `login` in `realm` (RFC 8489 §18.5.1.1).
pub(super) fn key(login: &Login, realm: &str) -> MessageIntegrity {
    MessageIntegrity::new_long_term_integrity(
        login.username.clone(),
        realm.to_owned(),
        login.password.clone(),
    )
}

/// The request that `step` is; none when a part does not fit a message.
pub(super) fn request(
    step: Step,
    id: [u8; 12],
    signed: Option<(&Login, &Signature)>,
) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.transaction_id = TransactionId(id);
    message.set_type(MessageType::new(step.method(), CLASS_REQUEST));
    message.write_header();
    let mut add = |part: &dyn Setter| part.add_to(&mut message).ok();
    if let Step::Channel(_) = step {
        add(&ChannelNumber(CHANNEL))?;
    }
    if let Some(attribute) = step.attribute() {
        add(&*attribute)?;
    }
    if step == Step::Allocate(Family::V6) {
        add(&REQUESTED_FAMILY_IPV6)?;
    }
    if let Some((login, signature)) = signed {
        add(&TextAttribute::new(ATTR_USERNAME, login.username.clone()))?;
        add(&TextAttribute::new(ATTR_REALM, signature.realm.clone()))?;
        add(&TextAttribute::new(ATTR_NONCE, signature.nonce.clone()))?;
        add(&signature.key)?;
    }
    Some(message.raw)
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Success, with the address that it tells: the relayed one, or the mapped one of a Binding.
    Granted(Option<SocketAddr>),
    /// 401 or 438 with a realm and a nonce.
    Challenge {
        code: u16,
        realm: String,
        nonce: String,
    },
    /// Any other error: code and reason.
    Refused(u16, String),
    /// Success that is not signed with the key.
    Forged,
}

/// Reads the response `bytes` to `step`, which `key` signed; none when it is not one.
pub(super) fn answer(
    step: Step,
    bytes: &[u8],
    key: Option<&MessageIntegrity>,
) -> Option<([u8; 12], Answer)> {
    let mut message = Message::new();
    message.unmarshal_binary(bytes).ok()?;
    if message.typ.method != step.method() {
        return None;
    }
    let id = message.transaction_id.0;
    match message.typ.class {
        CLASS_SUCCESS_RESPONSE => {
            if key.is_some_and(|key| key.check(&mut message).is_err()) {
                return Some((id, Answer::Forged));
            }
            Some((id, Answer::Granted(address(step, &message))))
        }
        CLASS_ERROR_RESPONSE => Some((id, refusal(&message)?)),
        _ => None,
    }
}

fn address(step: Step, message: &Message) -> Option<SocketAddr> {
    match step {
        Step::Allocate(_) => {
            let mut relayed = RelayedAddress::default();
            relayed.get_from(message).ok()?;
            Some(SocketAddr::new(relayed.ip, relayed.port))
        }
        Step::Bind => {
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(message).ok()?;
            Some(SocketAddr::new(mapped.ip, mapped.port))
        }
        _ => None,
    }
}

fn refusal(message: &Message) -> Option<Answer> {
    let mut error = ErrorCodeAttribute::default();
    error.get_from(message).ok()?;
    let code = error.code.0;
    let text = |kind| TextAttribute::get_from_as(message, kind).map(|text| text.text);
    Some(match (code, text(ATTR_REALM), text(ATTR_NONCE)) {
        (401 | 438, Ok(realm), Ok(nonce)) => Answer::Challenge { code, realm, nonce },
        _ => Answer::Refused(code, printable(&error.reason)),
    })
}

/// A reason phrase without what a terminal would obey.
fn printable(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(reason);
    text.chars()
        .filter(|character| !character.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun;

    const ID: [u8; 12] = *b"abcdefghijkl";
    const ALLOCATE: Step = Step::Allocate(Family::V4);

    fn login() -> Login {
        Login {
            username: "alice".to_owned(),
            password: "looking-glass".to_owned(),
        }
    }

    fn signature() -> Signature {
        Signature {
            realm: "oz".to_owned(),
            nonce: "n0nce".to_owned(),
            key: key(&login(), "oz"),
        }
    }

    /// The response that this server's own codec writes.
    fn response(class: stun::Class, write: impl FnOnce(&mut stun::MessageBuilder<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let id = stun::TransactionId(ID);
        write(&mut stun::MessageBuilder::new(
            &mut bytes,
            class,
            stun::Method::ALLOCATE,
            id,
        ));
        bytes
    }

    #[test]
    fn requests_are_what_this_server_reads() {
        let peer = "192.0.2.7:99".parse().unwrap();
        for step in [
            ALLOCATE,
            Step::Allocate(Family::V6),
            Step::Permit(peer),
            Step::Channel(peer),
            Step::Release,
        ] {
            let bytes = request(step, ID, Some((&login(), &signature()))).unwrap();
            let message = stun::Message::parse(&bytes).unwrap();
            assert_eq!(message.transaction(), stun::TransactionId(ID));
            let key = signature().key.0;
            let signed = message.check_integrity(stun::Algorithm::Sha1, &key);
            assert_eq!(signed, Ok(()), "{}", step.name());
        }
        let bytes = request(Step::Bind, ID, None).unwrap();
        assert!(stun::Message::parse(&bytes).unwrap().is_bare());
    }

    #[test]
    fn a_family_is_named_where_it_is_not_the_one_that_servers_give_unasked() {
        for (family, value) in [(Family::V4, None), (Family::V6, Some([2, 0, 0, 0]))] {
            let bytes = request(Step::Allocate(family), ID, None).unwrap();
            let message = stun::Message::parse(&bytes).unwrap();
            let named = message.attribute(stun::AttributeType::REQUESTED_ADDRESS_FAMILY);
            assert_eq!(
                named.map(|named| named.value),
                value.as_ref().map(|value| &value[..])
            );
        }
    }

    #[test]
    fn a_success_is_granted_only_when_it_is_signed() {
        let relayed = "192.0.2.1:50000".parse().unwrap();
        let sign = |key: &[u8]| {
            response(stun::Class::Success, |message| {
                message
                    .xor_address(stun::AttributeType::XOR_RELAYED_ADDRESS, relayed)
                    .integrity(stun::Algorithm::Sha1, key);
            })
        };
        let signature = signature();
        let read = |bytes: &[u8]| answer(ALLOCATE, bytes, Some(&signature.key));
        let granted = Answer::Granted(Some(relayed));
        assert_eq!(read(&sign(&signature.key.0)), Some((ID, granted)));
        assert_eq!(read(&sign(b"another")), Some((ID, Answer::Forged)));
    }

    #[test]
    fn refusals_and_challenges_are_told_apart() {
        let challenge = response(stun::Class::Error, |message| {
            message
                .error_code(401, "Unauthorized")
                .attribute(stun::AttributeType::REALM, b"oz")
                .attribute(stun::AttributeType::NONCE, b"n0nce");
        });
        let read = |bytes: &[u8]| answer(ALLOCATE, bytes, None).map(|(_, answer)| answer);
        let expected = Answer::Challenge {
            code: 401,
            realm: "oz".to_owned(),
            nonce: "n0nce".to_owned(),
        };
        assert_eq!(read(&challenge), Some(expected));
        let refusal = response(stun::Class::Error, |message| {
            message.error_code(486, "Quota\x1b[31m\0");
        });
        let expected = Answer::Refused(486, "Quota[31m".to_owned());
        assert_eq!(read(&refusal), Some(expected));
        assert_eq!(answer(Step::Release, &refusal, None), None);
        assert_eq!(read(b"no STUN at all"), None);
    }
}
