//! What becomes of a packet: each ends in exactly one verdict, and each verdict is counted.

use std::net::SocketAddr;

use super::allocation_key::AllocationKey;
use super::five_tuple::FiveTuple;
use super::hop::Hop;

/// The one thing that the server decided to do with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// Send `payload` as one datagram from the allocation's relay socket of `peer`'s family.
    ToPeer {
        /// Whose relay socket sends.
        from: AllocationKey,
        /// Where the datagram goes.
        peer: SocketAddr,
        /// The application data, a part of the packet that came in.
        payload: &'p [u8],
    },
    /// The same, with the DF bit set in the IP header (RFC 8656 §11.2, §14).
    ToPeerUnfragmented {
        /// Whose relay socket sends.
        from: AllocationKey,
        /// Where the datagram goes.
        peer: SocketAddr,
        /// The application data, a part of the packet that came in.
        payload: &'p [u8],
    },
    /// Give `payload` to [`Server::handle_relayed`](super::Server::handle_relayed) of the shard of `hop.to`,
    /// behind everything that went there from this one before.
    ToRelay {
        /// From which allocation to which.
        hop: Hop,
        /// The application data, a part of the packet that came in; at least four bytes of it are before.
        payload: &'p [u8],
    },
    /// Send `prefix`, `payload` and `prefix.padding()` zero bytes to the client, as one message.
    ToClient {
        /// The client.
        to: FiveTuple,
        /// What stands before the payload.
        prefix: Prefix,
        /// The application data, the whole datagram that came in.
        payload: &'p [u8],
    },
    /// An answer waits in [`Server::poll_response`](super::Server::poll_response).
    Respond,
    /// The answer follows an event that the packet asked for by an action.
    Park,
    /// Nothing more happens.
    Discard(Reason),
}

/// Why a packet was dropped. A closed set: each is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Neither STUN nor ChannelData by its first byte (RFC 8656 §12, table 3).
    Unclassified,
    /// STUN or ChannelData whose bytes contradict themselves.
    Malformed,
    /// FINGERPRINT present and wrong (RFC 8489 §14.7).
    BadFingerprint,
    /// A response; a server sends no requests.
    UnexpectedResponse,
    /// An indication of a method that has none, or with an unknown comprehension-required attribute.
    UnexpectedIndication,
    /// A Binding indication: a keep-alive that asks for nothing (RFC 8489 §3).
    KeepAlive,
    /// A request of a method that this server does not know.
    UnknownMethod,
    /// ChannelData or a Send indication on a five-tuple without an allocation (RFC 8656 §5).
    NoAllocation,
    /// ChannelData on a number that is not bound (RFC 8656 §12.6).
    NoChannel,
    /// To or from a peer without a live permission (RFC 8656 §9).
    NoPermission,
    /// The peer address is one that may not be relayed to.
    ForbiddenPeer,
    /// A Send indication without peer address or data, or of the wrong family (RFC 8656 §11.2).
    InvalidSend,
    /// A retransmission of a request whose answer is still being worked out.
    AnswerPending,
    /// More than the allocation's bandwidth.
    AllocationBandwidth,
    /// More than the user's bandwidth.
    UserBandwidth,
    /// More than the user's share of a server whose bandwidth is used up.
    FairShare,
    /// More than the whole server's bandwidth.
    TotalBandwidth,
    /// The limit on bytes answered to one unauthenticated source prefix was reached.
    RateLimited,
    /// The operating system's send buffer was full.
    SocketFull,
    /// The operating system refused to send.
    SendFailed,
    /// The shard of the allocation that it was for takes in too slowly.
    ShardFull,
    /// The stream client reads too slowly, or is gone.
    ClientBacklog,
    /// The datagram does not fit the message that would carry it.
    TooLarge,
    /// A DTLS datagram of no session, or with nothing in it that can be read.
    BadRecord,
}

impl Reason {
    /// Every reason, in label order.
    pub const ALL: [Self; 24] = [
        Self::Unclassified,
        Self::Malformed,
        Self::BadFingerprint,
        Self::UnexpectedResponse,
        Self::UnexpectedIndication,
        Self::KeepAlive,
        Self::UnknownMethod,
        Self::NoAllocation,
        Self::NoChannel,
        Self::NoPermission,
        Self::ForbiddenPeer,
        Self::InvalidSend,
        Self::AnswerPending,
        Self::AllocationBandwidth,
        Self::UserBandwidth,
        Self::FairShare,
        Self::TotalBandwidth,
        Self::RateLimited,
        Self::SocketFull,
        Self::SendFailed,
        Self::ShardFull,
        Self::ClientBacklog,
        Self::TooLarge,
        Self::BadRecord,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unclassified => "unclassified",
            Self::Malformed => "malformed",
            Self::BadFingerprint => "bad_fingerprint",
            Self::UnexpectedResponse => "unexpected_response",
            Self::UnexpectedIndication => "unexpected_indication",
            Self::KeepAlive => "keep_alive",
            Self::UnknownMethod => "unknown_method",
            Self::NoAllocation => "no_allocation",
            Self::NoChannel => "no_channel",
            Self::NoPermission => "no_permission",
            Self::ForbiddenPeer => "forbidden_peer",
            Self::InvalidSend => "invalid_send",
            Self::AnswerPending => "answer_pending",
            Self::AllocationBandwidth => "allocation_bandwidth",
            Self::UserBandwidth => "user_bandwidth",
            Self::FairShare => "fair_share",
            Self::TotalBandwidth => "total_bandwidth",
            Self::RateLimited => "rate_limited",
            Self::SocketFull => "socket_full",
            Self::SendFailed => "send_failed",
            Self::ShardFull => "shard_full",
            Self::ClientBacklog => "client_backlog",
            Self::TooLarge => "too_large",
            Self::BadRecord => "bad_record",
        }
    }
}

/// The bytes before a payload on its way to a client: a ChannelData header or the head of a Data
/// indication up to the value of its DATA attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    bytes: [u8; Prefix::MAX],
    length: u8,
    padding: u8,
}

impl Prefix {
    /// The longest prefix in bytes: STUN header, IPv6 XOR-PEER-ADDRESS, DATA header.
    pub const MAX: usize = 20 + 24 + 4;

    /// The prefix `bytes` (at most [`Prefix::MAX`]) of a message that ends in `padding` zero bytes.
    #[inline]
    pub(super) fn new(head: &[u8], padding: u8) -> Self {
        let mut bytes = [0; Self::MAX];
        bytes[..head.len()].copy_from_slice(head);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX")]
        let length = head.len() as u8;
        Self {
            bytes,
            length,
            padding,
        }
    }

    /// The bytes to send before the payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// How many zero bytes (0 to 3) follow the payload.
    pub fn padding(&self) -> usize {
        usize::from(self.padding)
    }
}
