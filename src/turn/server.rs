//! One shard's server: a packet, the time and a five-tuple go in, one verdict comes out.

use std::net::SocketAddr;
use std::sync::Arc;

use super::allocation::AllocationKey;
use super::five_tuple::{Family, FiveTuple};
use super::outcome::{Reason, Verdict};
use super::policy::Policy;
use super::stats::Stats;
use crate::time::{Instant, Now};

/// What the shards of one process share: live relayed addresses and quota. Touched by requests and
/// read without a lock by the relay path.
#[derive(Debug, Default)]
pub struct Shared {}

/// What a [`Server`] starts with.
#[derive(Debug)]
pub struct Setup {
    /// Which shard this is, from zero.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Seeds every random choice of this shard; from the operating system's generator.
    pub seed: [u8; 32],
    /// Keys the nonces of all shards alike; from the operating system's generator.
    pub nonce_key: [u8; 32],
    /// What the operator decided.
    pub policy: Arc<Policy>,
    /// What the shards share.
    pub shared: Arc<Shared>,
}

/// What the server asks its owner to do. Drained with [`Server::poll_action`] after each `handle_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bind a UDP socket to `local` and answer with [`Event::RelayOpened`] or [`Event::RelayFailed`].
    OpenRelay {
        /// For which allocation.
        key: AllocationKey,
        /// The local address and port to bind.
        local: SocketAddr,
    },
    /// Close the allocation's relay socket of `family`; no event follows.
    CloseRelay {
        /// Of which allocation.
        key: AllocationKey,
        /// Which of its sockets.
        family: Family,
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
    /// A new snapshot of the operator's decisions.
    Policy(Arc<Policy>),
}

/// The rules of STUN and TURN for the clients of one shard.
#[derive(Debug)]
pub struct Server {
    stats: Stats,
}

impl Server {
    /// A server without clients.
    pub fn new(_setup: Setup) -> Self {
        Self {
            stats: Stats::default(),
        }
    }

    /// Handles one message of a client: a datagram, or one frame of a stream.
    pub fn handle_client<'p>(
        &mut self,
        _now: Now,
        _from: FiveTuple,
        _packet: &'p [u8],
    ) -> Verdict<'p> {
        Verdict::Discard(Reason::Malformed)
    }

    /// Handles one datagram that `peer` sent to the allocation's relay socket.
    pub fn handle_peer<'p>(
        &mut self,
        _now: Now,
        _at: AllocationKey,
        _peer: SocketAddr,
        _payload: &'p [u8],
    ) -> Verdict<'p> {
        Verdict::Discard(Reason::Malformed)
    }

    /// Handles what happened outside.
    pub fn handle_event(&mut self, _now: Now, _event: Event) {}

    /// Ends what has expired. Call it when [`poll_timeout`](Self::poll_timeout) has passed.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// The next thing to do, until none.
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }

    /// The next response and the client it goes to, until none.
    pub fn poll_response(&mut self) -> Option<(FiveTuple, &[u8])> {
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; none while nothing can expire.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The counters, for what only the owner of the sockets sees: connections, failed sends.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }
}
