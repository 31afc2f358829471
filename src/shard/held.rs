//! The sockets of reserved relayed transport addresses, bound and unread until somebody redeems them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What all shards share: a token may be redeemed at another shard than the one that reserved. Requests
/// lock it; the relay path never comes here.
#[derive(Debug, Default)]
pub struct HeldSockets(Mutex<BTreeMap<SocketAddr, UdpSocket>>);

impl HeldSockets {
    pub(super) fn hold(&self, local: SocketAddr, socket: UdpSocket) {
        self.lock().insert(local, socket);
    }

    pub(super) fn take(&self, local: SocketAddr) -> Option<UdpSocket> {
        self.lock().remove(&local)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, UdpSocket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
