//! Binding (RFC 8489 §3), NAT behaviour discovery (RFC 5780 §6) and clients of RFC 3489.

use super::{Request, check_known};
use crate::stun::{AttributeType, Class, ClassicRequest, Message, MessageBuilder, Method};
use crate::time::Now;
use crate::turn::comprehension::unknown_required;
use crate::turn::five_tuple::{FiveTuple, Transport};
use crate::turn::nat_discovery::{Corner, NatDiscovery};
use crate::turn::outcome::{Reason, Verdict};
use crate::turn::policy::Policy;
use crate::turn::reply::{Close, Origin, Refusal, Reply, Success};
use crate::turn::server::Server;
use crate::turn::stats::{RequestMethod, ResultCode};

/// The longest payload of a datagram over IPv4; the whole may not be over 64K (RFC 5780 §7.6).
const LONGEST_DATAGRAM: usize = 65_507;
/// The attributes that RFC 5780 §7 adds to Binding requests.
const DISCOVERY: [AttributeType; 3] = [
    AttributeType::CHANGE_REQUEST,
    AttributeType::RESPONSE_PORT,
    AttributeType::PADDING,
];
/// The flags of CHANGE-REQUEST (RFC 5780 §7.2).
const CHANGE_IP: u32 = 0x4;
const CHANGE_PORT: u32 = 0x2;

/// What a request asks of NAT behaviour discovery.
#[derive(Debug, Default)]
struct Wishes {
    change_ip: bool,
    change_port: bool,
    response_port: Option<u16>,
    /// Bytes of PADDING in the request.
    padding: Option<usize>,
}

impl Wishes {
    fn of(message: &Message<'_>) -> Result<Self, Refusal> {
        let flags = message
            .attribute(AttributeType::CHANGE_REQUEST)
            .map_or(Ok(0), |attribute| attribute.u32())
            .map_err(|_| Refusal::BadRequest)?;
        let padding = message.attribute(AttributeType::PADDING);
        let wishes = Self {
            change_ip: flags & CHANGE_IP != 0,
            change_port: flags & CHANGE_PORT != 0,
            response_port: response_port(message)?,
            padding: padding.map(|attribute| attribute.value.len()),
        };
        if wishes.response_port.is_some() && wishes.padding.is_some() {
            return Err(Refusal::BadRequest);
        }
        Ok(wishes)
    }
}

/// RESPONSE-PORT, if the request has one; 400 when nothing can be sent there (RFC 5780 §7.5).
fn response_port(message: &Message<'_>) -> Result<Option<u16>, Refusal> {
    let Some(attribute) = message.attribute(AttributeType::RESPONSE_PORT) else {
        return Ok(None);
    };
    // Some clients count the two bytes of padding in.
    match *attribute.value {
        [0, 0] | [0, 0, _, _] => Err(Refusal::BadRequest),
        [high, low] | [high, low, _, _] => Ok(Some(u16::from_be_bytes([high, low]))),
        _ => Err(Refusal::BadRequest),
    }
}

impl Server {
    /// Binding asks for no credentials (RFC 8489 §6.3.1).
    pub(super) fn handle_binding<'p>(&mut self, request: &Request<'_, 'p>) -> Verdict<'p> {
        let reply = Reply::to(request.message, RequestMethod::Binding, request.from);
        let discovery = self.policy.nat_discovery;
        let at = discovery.and_then(|four| Some((four, four.corner(request.from.server)?)));
        let answered = match at {
            Some((four, corner)) => self.answer_discovery(request, &reply, &four, corner),
            None => check_known(request.message, &self.policy).map(|()| {
                reply.write_success(&mut self.response, Success::Mapped, &Close::default());
                reply
            }),
        };
        match answered {
            Ok(reply) => self.answer_unauthenticated(request.now, &reply, ResultCode::SUCCESS),
            Err(refusal) => self.refuse(request.now, &reply, &refusal, None),
        }
    }

    /// Writes the answer of one of the four addresses, and returns where it goes from and to
    /// (RFC 5780 §6.1).
    fn answer_discovery(
        &mut self,
        request: &Request<'_, '_>,
        reply: &Reply,
        four: &NatDiscovery,
        reached: Corner,
    ) -> Result<Reply, Refusal> {
        check_known_to_discovery(request, &self.policy)?;
        let wishes = Wishes::of(request.message)?;
        let from = reached.changed(wishes.change_ip, wishes.change_port);
        let mut to = request.from;
        to.server = four.local(from);
        to.client
            .set_port(wishes.response_port.unwrap_or(to.client.port()));
        let success = Success::Discovered {
            mapped: request.from.client,
            origin: Origin {
                response: four.public(from),
                other: four.public(reached.changed(true, true)),
            },
            padding: wishes.padding.map(bounded),
        };
        let reply = Reply { to, ..*reply };
        reply.write_success(&mut self.response, success, &Close::default());
        Ok(reply)
    }

    /// Answers a Binding request without the magic cookie, if that is wanted (RFC 5389 §12.2). All such
    /// requests are counted as Binding.
    pub(in crate::turn) fn handle_classic<'p>(
        &mut self,
        now: Now,
        from: FiveTuple,
        packet: &'p [u8],
    ) -> Result<Verdict<'p>, Reason> {
        let request = ClassicRequest::parse(packet).ok_or(Reason::Malformed)?;
        let result = match from.transport {
            Transport::Udp if self.policy.rfc3489 && request.method() == Method::BINDING => {
                let unsupported = request.unsupported();
                write_classic(&mut self.response, &request, from, unsupported);
                unsupported.map_or(ResultCode::SUCCESS, |_| ResultCode::error(420))
            }
            // Over DTLS every request of that kind is invalid, and told so (RFC 8489 §11).
            Transport::Dtls => {
                let (method, transaction) = (request.method(), request.transaction());
                MessageBuilder::classic(&mut self.response, Class::Error, method, transaction)
                    .error_code(500, "Server Error");
                ResultCode::error(500)
            }
            _ => return Err(Reason::Malformed),
        };
        let reply = Reply::to_classic(from);
        Ok(self.answer_unauthenticated(now, &reply, result))
    }
}

/// As [`check_known`]; what RFC 5780 adds is known over UDP, where it means something.
fn check_known_to_discovery(request: &Request<'_, '_>, policy: &Policy) -> Result<(), Refusal> {
    let is_known =
        |kind: &AttributeType| request.from.transport == Transport::Udp && DISCOVERY.contains(kind);
    let unknown = unknown_required(request.message, policy);
    let unknown: Vec<_> = unknown.filter(|kind| !is_known(kind)).collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Refusal::UnknownAttributes(unknown))
    }
}

/// How much PADDING answers a PADDING of `asked` bytes: as much, so that nobody draws more than they
/// send and fragments come only to who asks by sending some; whole words, and no datagram over 64K.
fn bounded(asked: usize) -> usize {
    /// Header, three addresses and XOR-MAPPED-ADDRESS of IPv6, the head of PADDING, FINGERPRINT.
    const REST: usize = 20 + 4 * 24 + 4 + 8;
    asked
        .next_multiple_of(4)
        .min((LONGEST_DATAGRAM - REST) & !3)
}

fn write_classic(
    buffer: &mut Vec<u8>,
    request: &ClassicRequest<'_>,
    from: FiveTuple,
    unsupported: Option<AttributeType>,
) {
    let (method, transaction) = (request.method(), request.transaction());
    match unsupported {
        None => {
            MessageBuilder::classic(buffer, Class::Success, method, transaction)
                .address(AttributeType::MAPPED_ADDRESS, from.client);
        }
        Some(kind) => {
            let (code, phrase) = Refusal::UnknownAttributes(Vec::new()).code();
            // RFC 3489 §11.2.10: an even number of them, by repeating one.
            MessageBuilder::classic(buffer, Class::Error, method, transaction)
                .error_code(code, phrase)
                .unknown_attributes(&[kind, kind]);
        }
    }
}
