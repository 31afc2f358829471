//! The TCP listeners of one shard.

use super::upstreams::Serves;
use crate::net::{ListenerSockets, TcpListener};
use crate::time::Instant;

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
    pub(super) serves: Serves,
}

impl Acceptors {
    /// Those of `sockets`, in the order of [`ListenerSockets::streams`].
    pub(super) fn new(sockets: ListenerSockets) -> Self {
        let of = |serves| move |listener| Acceptor { listener, serves };
        let plain = sockets.tcp.into_iter().map(of(Serves::PLAIN));
        let tls = sockets.tls.into_iter().map(of(Serves::TLS));
        let either = sockets.either.into_iter().map(of(Serves::BOTH));
        Self {
            listeners: plain.chain(tls).chain(either).collect(),
            paused_until: None,
        }
    }

    /// When accepting goes on after a pause.
    pub(super) const fn resumes_at(&self) -> Option<Instant> {
        self.paused_until
    }
}
