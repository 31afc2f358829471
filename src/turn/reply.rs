//! Responses: what each error is called, and how a response is put together (RFC 8489 §6.3.1).

use std::net::SocketAddr;
use std::time::Duration;

use super::access_token::MacKey;
use super::five_tuple::{Family, FiveTuple};
use super::peer_connection_id::PeerConnectionId;
use super::redirect::Alternate;
use super::reservation::Token;
use super::stats::{RequestMethod, ResultCode};
use super::ticket::Ticket;
use crate::stun::{
    Algorithm, AttributeType, Class, Message, MessageBuilder, Method, TransactionId,
};

/// Why a request is refused. Each is one error code (RFC 8489 §14.8, RFC 8656 §19, RFC 6062 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    TryAlternate(Alternate),
    BadRequest,
    Unauthenticated,
    Forbidden,
    MobilityForbidden,
    UnknownAttributes(Vec<AttributeType>),
    AllocationMismatch,
    StaleNonce,
    AddressFamilyNotSupported,
    WrongCredentials,
    UnsupportedTransport,
    PeerFamilyMismatch,
    ConnectionExists,
    ConnectionFailed,
    QuotaReached,
    InsufficientCapacity,
}

impl Refusal {
    /// The error code and the reason phrase that the RFC suggests.
    pub(super) const fn code(&self) -> (u16, &'static str) {
        match self {
            Self::TryAlternate(_) => (300, "Try Alternate"),
            Self::BadRequest => (400, "Bad Request"),
            Self::Unauthenticated => (401, "Unauthenticated"),
            Self::Forbidden => (403, "Forbidden"),
            Self::MobilityForbidden => (405, "Mobility Forbidden"),
            Self::UnknownAttributes(_) => (420, "Unknown Attribute"),
            Self::AllocationMismatch => (437, "Allocation Mismatch"),
            Self::StaleNonce => (438, "Stale Nonce"),
            Self::AddressFamilyNotSupported => (440, "Address Family not Supported"),
            Self::WrongCredentials => (441, "Wrong Credentials"),
            Self::UnsupportedTransport => (442, "Unsupported Transport Protocol"),
            Self::PeerFamilyMismatch => (443, "Peer Address Family Mismatch"),
            Self::ConnectionExists => (446, "Connection Already Exists"),
            Self::ConnectionFailed => (447, "Connection Timeout or Failure"),
            Self::QuotaReached => (486, "Allocation Quota Reached"),
            Self::InsufficientCapacity => (508, "Insufficient Capacity"),
        }
    }

    pub(super) fn result(&self) -> ResultCode {
        ResultCode::error(self.code().0)
    }

    /// Whether the client needs a realm and a fresh nonce to try again.
    pub(super) const fn is_challenge(&self) -> bool {
        matches!(self, Self::Unauthenticated | Self::StaleNonce)
    }
}

/// What a success response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Success {
    /// Binding (RFC 8489 §6.3.1.1).
    Mapped,
    /// Binding at one of the four addresses of NAT behaviour discovery (RFC 5780 §6.1).
    Discovered {
        /// The source of the request; the response may go to another port.
        mapped: SocketAddr,
        origin: Origin,
        /// Bytes of PADDING, a multiple of four.
        padding: Option<usize>,
    },
    /// Allocate (RFC 8656 §7.2).
    Allocated {
        relayed: [Option<SocketAddr>; 2],
        lifetime: Duration,
        token: Option<Token>,
        missing: Option<Missing>,
        ticket: Option<Ticket>,
    },
    /// Refresh (RFC 8656 §8.2), with a ticket (RFC 8016 §3.2).
    Refreshed {
        lifetime: Duration,
        ticket: Option<Ticket>,
    },
    /// Connect (RFC 6062 §5.2).
    Connected { connection: PeerConnectionId },
    /// CreatePermission, ChannelBind and ConnectionBind require nothing.
    Done,
}

/// Where a response of NAT behaviour discovery comes from, as clients see it (RFC 5780 §7.3, §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// RESPONSE-ORIGIN.
    pub(super) response: SocketAddr,
    /// OTHER-ADDRESS.
    pub(super) other: SocketAddr,
}

/// The family of a dual allocation that could not be had, and why (RFC 8656 §7.2 step 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) family: Family,
    /// The family is not served; otherwise no port or socket was left.
    pub(super) unsupported: bool,
}

impl Missing {
    /// ADDRESS-ERROR-CODE (RFC 8656 §18.12).
    fn write(self, builder: &mut MessageBuilder<'_>) {
        let refusal = if self.unsupported {
            Refusal::AddressFamilyNotSupported
        } else {
            Refusal::InsufficientCapacity
        };
        let family = match self.family {
            Family::V4 => 0x01,
            Family::V6 => 0x02,
        };
        let (code, phrase) = refusal.code();
        builder.address_error_code(family, code, phrase);
    }
}

/// What a response repeats of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) to: FiveTuple,
    pub(super) method: RequestMethod,
    pub(super) transaction: TransactionId,
    /// The request ended in FINGERPRINT, so the response does.
    pub(super) fingerprint: bool,
}

impl Reply {
    pub(super) fn to(message: &Message<'_>, method: RequestMethod, to: FiveTuple) -> Self {
        let transaction = message.transaction();
        Self {
            to,
            method,
            transaction,
            fingerprint: message.has_fingerprint(),
        }
    }

    /// To a client of RFC 3489, whose transaction id is written apart.
    pub(super) const fn to_classic(to: FiveTuple) -> Self {
        Self {
            to,
            method: RequestMethod::Binding,
            transaction: TransactionId([0; 12]),
            fingerprint: false,
        }
    }

    fn wire_method(&self) -> Method {
        match self.method {
            RequestMethod::Binding => Method::BINDING,
            RequestMethod::Allocate => Method::ALLOCATE,
            RequestMethod::Refresh => Method::REFRESH,
            RequestMethod::CreatePermission => Method::CREATE_PERMISSION,
            RequestMethod::ChannelBind => Method::CHANNEL_BIND,
            RequestMethod::Connect => Method::CONNECT,
            RequestMethod::ConnectionBind => Method::CONNECTION_BIND,
        }
    }

    /// Writes a success response.
    pub(super) fn write_success(&self, buffer: &mut Vec<u8>, success: Success, close: &Close<'_>) {
        let mut builder =
            MessageBuilder::new(buffer, Class::Success, self.wire_method(), self.transaction);
        match success {
            Success::Mapped => {
                builder.xor_address(AttributeType::XOR_MAPPED_ADDRESS, self.to.client);
            }
            Success::Discovered {
                mapped,
                origin,
                padding,
            } => write_discovered(&mut builder, mapped, origin, padding),
            Success::Allocated {
                relayed,
                lifetime,
                token,
                missing,
                ticket,
            } => {
                for relayed in relayed.into_iter().flatten() {
                    builder.xor_address(AttributeType::XOR_RELAYED_ADDRESS, relayed);
                }
                builder
                    .u32(AttributeType::LIFETIME, seconds(lifetime))
                    .xor_address(AttributeType::XOR_MAPPED_ADDRESS, self.to.client);
                if let Some(Token(token)) = token {
                    builder.attribute(AttributeType::RESERVATION_TOKEN, &token);
                }
                if let Some(missing) = missing {
                    missing.write(&mut builder);
                }
                write_ticket(&mut builder, ticket);
            }
            Success::Refreshed { lifetime, ticket } => {
                builder.u32(AttributeType::LIFETIME, seconds(lifetime));
                write_ticket(&mut builder, ticket);
            }
            Success::Connected { connection } => {
                builder.u32(AttributeType::CONNECTION_ID, connection.to_bits());
            }
            Success::Done => {}
        }
        self.close(&mut builder, close);
    }

    /// Writes an error response.
    pub(super) fn write_error(
        &self,
        buffer: &mut Vec<u8>,
        refusal: &Refusal,
        challenge: Option<&Challenge<'_>>,
        close: &Close<'_>,
    ) {
        let mut builder =
            MessageBuilder::new(buffer, Class::Error, self.wire_method(), self.transaction);
        let (code, phrase) = refusal.code();
        builder.error_code(code, phrase);
        match refusal {
            Refusal::UnknownAttributes(kinds) => {
                builder.unknown_attributes(kinds);
            }
            Refusal::TryAlternate(alternate) => alternate.write(&mut builder),
            _ => {}
        }
        if let Some(challenge) = challenge {
            challenge.write(&mut builder);
        }
        self.close(&mut builder, close);
    }

    fn close(&self, builder: &mut MessageBuilder<'_>, close: &Close<'_>) {
        let names_software = matches!(
            self.method,
            RequestMethod::Allocate | RequestMethod::Refresh
        );
        if let Some(software) = close.software.filter(|_| names_software) {
            builder.attribute(AttributeType::SOFTWARE, software.as_bytes());
        }
        if let Some(Signature { algorithm, key }) = close.signature {
            builder.integrity(*algorithm, key.as_bytes());
        }
        if self.fingerprint {
            builder.fingerprint();
        }
    }
}

fn write_ticket(builder: &mut MessageBuilder<'_>, ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        builder.attribute(AttributeType::MOBILITY_TICKET, ticket.as_bytes());
    }
}

/// The attributes that RFC 5780 §6.1 obliges to.
fn write_discovered(
    builder: &mut MessageBuilder<'_>,
    mapped: SocketAddr,
    origin: Origin,
    padding: Option<usize>,
) {
    builder
        .xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped)
        .address(AttributeType::MAPPED_ADDRESS, mapped)
        .address(AttributeType::RESPONSE_ORIGIN, origin.response)
        .address(AttributeType::OTHER_ADDRESS, origin.other);
    if let Some(length) = padding {
        builder.zeros(AttributeType::PADDING, length);
    }
}

/// How a response ends. An unauthenticated one has neither: nobody is to draw more bytes from us than
/// the RFC obliges (S7).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Close<'a> {
    /// SOFTWARE, in Allocate and Refresh responses (RFC 8656 §5).
    pub(super) software: Option<&'a str>,
    /// The message integrity.
    pub(super) signature: Option<&'a Signature>,
}

/// What makes a message integrity.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    pub(super) algorithm: Algorithm,
    pub(super) key: MacKey,
}

/// What a client needs to sign its next request (RFC 8489 §9.2.4).
pub(super) struct Challenge<'a> {
    pub(super) realm: &'a str,
    pub(super) nonce: &'a [u8],
    /// The value of PASSWORD-ALGORITHMS; empty when it is not sent.
    pub(super) algorithms: &'a [u8],
    /// THIRD-PARTY-AUTHORIZATION, if access tokens are believed.
    pub(super) server_name: Option<&'a str>,
}

impl Challenge<'_> {
    fn write(&self, builder: &mut MessageBuilder<'_>) {
        builder
            .attribute(AttributeType::REALM, self.realm.as_bytes())
            .attribute(AttributeType::NONCE, self.nonce);
        if !self.algorithms.is_empty() {
            builder.attribute(AttributeType::PASSWORD_ALGORITHMS, self.algorithms);
        }
        if let Some(name) = self.server_name {
            builder.attribute(AttributeType::THIRD_PARTY_AUTHORIZATION, name.as_bytes());
        }
    }
}

/// A lifetime as LIFETIME carries it.
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}
