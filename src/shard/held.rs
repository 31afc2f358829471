//! Sockets that wait unread for whichever shard they are called to: those of reserved relayed transport
//! addresses, and the peers of data connections that no client has bound yet.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::turn::PeerConnectionId;

/// What all shards share: a token may be redeemed, and a connection bound, at another shard than the one
/// that made it. Requests lock it; the relay path never comes here.
#[derive(Debug, Default)]
pub struct HeldSockets {
    reserved: Mutex<BTreeMap<SocketAddr, UdpSocket>>,
    peers: Mutex<BTreeMap<PeerConnectionId, TcpStream>>,
}

impl HeldSockets {
    /// Holds `socket`, which is bound to `local`.
    pub fn hold(&self, local: SocketAddr, socket: UdpSocket) {
        lock(&self.reserved).insert(local, socket);
    }

    /// Closes the socket that is held at `local`, if there is one.
    pub fn forget(&self, local: SocketAddr) {
        drop(self.take(local));
    }

    /// A copy of the socket that is held at `local`.
    pub(super) fn copy(&self, local: SocketAddr) -> io::Result<OwnedFd> {
        let reserved = lock(&self.reserved);
        let socket = reserved.get(&local).ok_or(io::ErrorKind::NotFound)?;
        socket.as_fd().try_clone_to_owned()
    }

    pub(super) fn take(&self, local: SocketAddr) -> Option<UdpSocket> {
        lock(&self.reserved).remove(&local)
    }

    pub(super) fn hold_peer(&self, id: PeerConnectionId, stream: TcpStream) {
        lock(&self.peers).insert(id, stream);
    }

    pub(super) fn take_peer(&self, id: PeerConnectionId) -> Option<TcpStream> {
        lock(&self.peers).remove(&id)
    }
}

fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
