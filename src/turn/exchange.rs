//! What the server asks its owner to do, and what its owner tells it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::allocation_key::AllocationKey;
use super::five_tuple::{Family, FiveTuple};
use super::icmp::Icmp;
use super::letter::Letter;
use super::peer_connection_id::PeerConnectionId;
use super::policy::Policy;
use super::stats::PeerEnd;

/// What the server asks its owner to do. Drained with [`Server::poll_action`](super::Server::poll_action) after each `handle_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bind a UDP socket to `local` and answer with [`Event::RelayOpened`] or [`Event::RelayFailed`].
    OpenRelay {
        /// For which allocation.
        key: AllocationKey,
        /// The local address and port to bind.
        local: SocketAddr,
    },
    /// Bind two UDP sockets, to `local` and to the port above it, or none; answer as to `OpenRelay`. The
    /// second one is held, unread, until `OpenReserved` or `DropReserved` names it.
    OpenPair {
        /// For which allocation.
        key: AllocationKey,
        /// The local address and even port to bind.
        local: SocketAddr,
    },
    /// Make the socket that is held at `local`, for any shard of the process, the relay socket of the
    /// allocation; answer as to `OpenRelay`, and with [`Event::RelayRead`] when what waited in it is handled.
    OpenReserved {
        /// For which allocation.
        key: AllocationKey,
        /// What the held socket is bound to.
        local: SocketAddr,
    },
    /// Hold the allocation's relay socket at `local`, unread, for any shard of the process; no event
    /// follows.
    HoldRelay {
        /// Of which allocation.
        key: AllocationKey,
        /// What the socket is bound to.
        local: SocketAddr,
    },
    /// Close the socket that is held at `local`; no event follows.
    DropReserved {
        /// What the held socket is bound to.
        local: SocketAddr,
    },
    /// Close the allocation's relay socket of `family`; no event follows.
    CloseRelay {
        /// Of which allocation.
        key: AllocationKey,
        /// Which of its sockets.
        family: Family,
    },
    /// Give the letter to the server of another shard, as [`Event::Letter`].
    Post {
        /// Which shard.
        shard: u16,
        /// The letter.
        letter: Letter,
    },
    /// Call [`Server::take_parked`](super::Server::take_parked) and, when there is a packet,
    /// [`Server::handle_parked`](super::Server::handle_parked).
    HandleParked {
        /// Whose packet.
        client: FiveTuple,
    },
    /// Listen for TCP connections at `local`, in such a way that [`Action::Connect`] can bind the same
    /// address; answer as to `OpenRelay`. Who connects goes to [`Server::handle_peer_connection`](super::Server::handle_peer_connection).
    OpenTcpRelay {
        /// For which allocation.
        key: AllocationKey,
        /// The local address and port to bind.
        local: SocketAddr,
    },
    /// Close the allocation's TCP listener of `family`; no event follows.
    CloseTcpRelay {
        /// Of which allocation.
        key: AllocationKey,
        /// Which of its listeners.
        family: Family,
    },
    /// Connect to `peer` from the TCP relay at `local` and answer with [`Event::PeerConnected`] or
    /// [`Event::PeerFailed`]. From its connection nothing is read until `Join` names it, at any shard.
    Connect {
        /// For which allocation.
        key: AllocationKey,
        /// What the connection is called.
        connection: PeerConnectionId,
        /// The local address and port to bind.
        local: SocketAddr,
        /// Whom to connect to.
        peer: SocketAddr,
    },
    /// From the response on that waits, relay bytes between the connection of `client` and the peer's,
    /// and tell of the end with [`Event::PeerClosed`].
    Join {
        /// The client data connection.
        client: FiveTuple,
        /// The peer data connection, which may be held for another shard.
        connection: PeerConnectionId,
    },
    /// The client's connection names a peer data connection of the process from which this one took over:
    /// hand it to that one, with the request of [`Server::take_request`](super::Server::take_request) as the
    /// first that it said. When that cannot be, call [`Server::handle_kept`](super::Server::handle_kept).
    HandBack {
        /// The client data connection.
        client: FiveTuple,
    },
    /// Close a peer data connection, whether it is being opened, waits or is joined with a client's,
    /// which closes too. Of one that is joined [`Event::PeerClosed`] tells.
    ClosePeer {
        /// Which connection.
        connection: PeerConnectionId,
        /// The shard that has it.
        shard: u16,
    },
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// The relay socket is bound.
    RelayOpened {
        /// Of which allocation.
        key: AllocationKey,
        /// Of which family.
        family: Family,
    },
    /// Every datagram was handled that waited in the sockets that the allocation was given by
    /// [`Action::OpenReserved`].
    RelayRead {
        /// Of which allocation.
        key: AllocationKey,
    },
    /// The relay socket could not be opened.
    RelayFailed {
        /// Of which allocation.
        key: AllocationKey,
        /// Of which family.
        family: Family,
        /// Another port may do (it was in use); otherwise no port will.
        retry: bool,
    },
    /// The client's connection closed: its allocation ends.
    ClientGone {
        /// The connection.
        client: FiveTuple,
    },
    /// A datagram of the allocation met an ICMP error.
    Icmp {
        /// Of which allocation.
        key: AllocationKey,
        /// Where the datagram was going.
        peer: SocketAddr,
        /// The error.
        error: Icmp,
    },
    /// The server of another shard says this.
    Letter(Letter),
    /// The peer has accepted the connection that `Connect` asked for.
    PeerConnected {
        /// Of which allocation.
        key: AllocationKey,
        /// Which connection.
        connection: PeerConnectionId,
    },
    /// The connection that `Connect` asked for could not be opened.
    PeerFailed {
        /// Of which allocation.
        key: AllocationKey,
        /// Which connection.
        connection: PeerConnectionId,
    },
    /// A peer data connection that was joined here with a client's has ended.
    PeerClosed {
        /// Which connection.
        connection: PeerConnectionId,
        /// How it ended.
        end: PeerEnd,
    },
    /// A new snapshot of the operator's decisions.
    Policy(Arc<Policy>),
}
