//! The TCP listeners of the shard's allocations, and their connections that are being opened.

use std::collections::{BTreeMap, HashMap};
use std::net::{TcpListener, TcpStream};

use crate::turn::{AllocationKey, Family, PeerConnectionId};

/// A socket that serves peers.
#[derive(Debug)]
pub(super) enum TcpSocket {
    /// The relayed transport address.
    Listener(AllocationKey, TcpListener),
    /// A connection whose peer has not answered.
    Opening(AllocationKey, PeerConnectionId, TcpStream),
}

/// Every such socket, under a number that no other one ever has.
#[derive(Debug, Default)]
pub(super) struct TcpRelays {
    sockets: HashMap<u64, TcpSocket>,
    next: u64,
    listeners: BTreeMap<(AllocationKey, Family), u64>,
    opening: BTreeMap<PeerConnectionId, u64>,
}

impl TcpRelays {
    /// The number that the next socket gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Keeps the listener of an allocation, which has none of `family` yet.
    pub(super) fn insert_listener(
        &mut self,
        key: AllocationKey,
        family: Family,
        listener: TcpListener,
    ) {
        self.listeners.insert((key, family), self.next);
        self.insert(TcpSocket::Listener(key, listener));
    }

    /// Keeps a connection that is being opened.
    pub(super) fn insert_opening(
        &mut self,
        key: AllocationKey,
        id: PeerConnectionId,
        stream: TcpStream,
    ) {
        self.opening.insert(id, self.next);
        self.insert(TcpSocket::Opening(key, id, stream));
    }

    fn insert(&mut self, socket: TcpSocket) {
        self.sockets.insert(self.next, socket);
        self.next += 1;
    }

    pub(super) fn get(&self, number: u64) -> Option<&TcpSocket> {
        self.sockets.get(&number)
    }

    /// Closes a listener.
    pub(super) fn remove_listener(&mut self, key: AllocationKey, family: Family) {
        if let Some(number) = self.listeners.remove(&(key, family)) {
            self.sockets.remove(&number);
        }
    }

    /// Takes out a connection that is being opened.
    pub(super) fn remove_opening(&mut self, id: PeerConnectionId) -> Option<TcpStream> {
        let number = self.opening.remove(&id)?;
        match self.sockets.remove(&number)? {
            TcpSocket::Opening(_, _, stream) => Some(stream),
            TcpSocket::Listener(..) => None,
        }
    }

    /// Every listener with its number.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (u64, &TcpListener)> {
        let sockets = self.sockets.iter();
        sockets.filter_map(|(number, socket)| match socket {
            TcpSocket::Listener(_, listener) => Some((*number, listener)),
            TcpSocket::Opening(..) => None,
        })
    }
}
