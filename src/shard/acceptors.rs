//! The TCP listeners of one shard.

use crate::net::TcpListener;
use crate::time::Instant;

/// The shard's TCP listeners.
#[derive(Debug)]
pub(super) struct Acceptors {
    pub(super) listeners: Vec<TcpListener>,
    /// While nothing is accepted, for want of descriptors.
    pub(super) paused_until: Option<Instant>,
}

impl Acceptors {
    pub(super) const fn new(listeners: Vec<TcpListener>) -> Self {
        Self {
            listeners,
            paused_until: None,
        }
    }

    /// When accepting goes on after a pause.
    pub(super) const fn resumes_at(&self) -> Option<Instant> {
        self.paused_until
    }
}
