//! Whom a client exchanges data with, and its leave to do so.

use std::net::SocketAddr;

use turnstone::time::Instant;

use super::Book;
use crate::plan::Whom;

/// Somebody to exchange data with.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) whom: Whom,
    /// Its address, once known.
    pub(super) peer: Option<SocketAddr>,
    pub(super) wants_channel: bool,
    pub(super) channel: Option<u16>,
    /// When permission (and channel) end unless renewed.
    pub(super) until: Instant,
    pub(super) renew: Instant,
}

impl Target {
    pub(super) fn new((whom, wants_channel): &(Whom, bool)) -> Self {
        Self {
            whom: *whom,
            peer: None,
            wants_channel: *wants_channel,
            channel: None,
            until: Instant::ZERO,
            renew: Instant::ZERO,
        }
    }

    /// Learns where the other client's relay is now; a new place needs leave of its own.
    pub(super) fn find(&mut self, book: &Book) {
        let peer = match self.whom {
            Whom::Peer(peer) => Some(peer),
            Whom::Client(id) => book.get(&id).copied(),
        };
        if self.peer != peer {
            self.peer = peer;
            self.lose();
        }
    }

    pub(super) fn lose(&mut self) {
        self.channel = None;
        self.until = Instant::ZERO;
        self.renew = Instant::ZERO;
    }
}
