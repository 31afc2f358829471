//! The TCP listeners of one shard.

use crate::net::TcpListener;
use crate::time::Instant;
use crate::turn::Transport;

/// The shard's TCP listeners.
#[derive(Debug)]
pub(super) struct Acceptors {
    pub(super) listeners: Vec<Acceptor>,
    /// While nothing is accepted, for want of descriptors.
    pub(super) paused_until: Option<Instant>,
}

/// A TCP listener and what its clients speak.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) transport: Transport,
}

impl Acceptors {
    /// Plain listeners first, then those of TLS: the order in which the poller knows them.
    pub(super) fn new(tcp: Vec<TcpListener>, tls: Vec<TcpListener>) -> Self {
        let of = |transport| {
            move |listener| Acceptor {
                listener,
                transport,
            }
        };
        let plain = tcp.into_iter().map(of(Transport::Tcp));
        Self {
            listeners: plain
                .chain(tls.into_iter().map(of(Transport::Tls)))
                .collect(),
            paused_until: None,
        }
    }

    /// When accepting goes on after a pause.
    pub(super) const fn resumes_at(&self) -> Option<Instant> {
        self.paused_until
    }
}
