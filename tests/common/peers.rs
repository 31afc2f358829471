//! The TCP side of a [`World`]: listeners of relays, connections of peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{
    Action, AllocationKey, Event, Family, FiveTuple, PeerConnectionId, PeerEnd, Verdict,
};

use super::world::Retry;
use super::{Login, Out, Response, World, connection_id, requested_family, requested_transport};

/// The listeners and connections that the server asked for.
#[derive(Default)]
pub struct Peers {
    pub listeners: BTreeMap<SocketAddr, AllocationKey>,
    /// Of which allocation, from where, to whom.
    pub connecting: BTreeMap<PeerConnectionId, (AllocationKey, SocketAddr, SocketAddr)>,
    pub joined: BTreeMap<PeerConnectionId, FiveTuple>,
    /// What the server has closed, and at which shard.
    pub closed: Vec<(u16, PeerConnectionId)>,
    /// Nobody takes what is handed back.
    pub alone: bool,
    /// The connections that were handed back, with their requests.
    pub handed_back: Vec<(FiveTuple, Box<[u8]>)>,
    /// The ids that clients were told of.
    pub told: Vec<PeerConnectionId>,
}

impl Peers {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::CloseTcpRelay { key, family } => {
                let is_meant = |at: &SocketAddr| Family::of(at.ip()) == family;
                self.listeners
                    .retain(|at, open| *open != key || !is_meant(at));
            }
            Action::Connect {
                key,
                connection,
                local,
                peer,
            } => {
                assert_eq!(self.listeners.get(&local), Some(&key), "not from the relay");
                let before = self.connecting.insert(connection, (key, local, peer));
                assert!(before.is_none(), "an id twice");
            }
            Action::Join { client, connection } => {
                let before = self.joined.insert(connection, client);
                assert!(before.is_none(), "joined twice");
            }
            Action::ClosePeer { connection, shard } => {
                self.connecting.remove(&connection);
                self.joined.remove(&connection);
                self.closed.push((shard, connection));
            }
            other => panic!("{other:?} is not for peers"),
        }
    }
}

impl World {
    pub(super) fn hand_back(&mut self, client: FiveTuple) {
        let request = self.server.take_request().expect("a request");
        assert_eq!(self.server.take_request(), None, "once");
        if self.peers.alone {
            let verdict = self.server.handle_kept(self.now, client, &request);
            assert_eq!(verdict, Verdict::Respond);
        } else {
            self.peers.handed_back.push((client, request));
        }
    }

    pub(super) fn listen(
        &mut self,
        key: AllocationKey,
        local: SocketAddr,
        bind: Result<(), Retry>,
    ) {
        let family = Family::of(local.ip());
        let bind = if self.refused == Some(family) {
            Err(false)
        } else {
            bind
        };
        let event = match bind {
            Ok(()) => {
                let before = self.peers.listeners.insert(local, key);
                assert!(before.is_none(), "{local} is bound twice");
                Event::RelayOpened { key, family }
            }
            Err(retry) => Event::RelayFailed { key, family, retry },
        };
        self.server.handle_event(self.now, event);
    }

    /// A TCP allocation of alice; its relayed transport address.
    pub fn allocate_tcp(&mut self, from: FiveTuple, family: u8) -> SocketAddr {
        let attributes = [requested_transport(6), requested_family(family)];
        let response = self.ask(&Login::alice(), from, Method::ALLOCATE, &attributes);
        assert_eq!(response.code(), None, "allocation refused");
        let relayed = response.xor_address(AttributeType::XOR_RELAYED_ADDRESS);
        relayed.expect("a relayed address")
    }

    /// Sends a Connect request; what comes out at once.
    pub fn connect(&mut self, from: FiveTuple, peer: SocketAddr) -> Out {
        let peer = self.xor_peer(peer);
        let request = self.signed(&Login::alice(), from, Method::CONNECT, &[peer]);
        self.send(from, &request)
    }

    /// The id of the one connection that is being opened to `peer`.
    pub fn connecting_to(&self, peer: SocketAddr) -> PeerConnectionId {
        let mut all = self.peers.connecting.iter();
        let found = all.find(|(_, (_, _, to))| *to == peer);
        *found.expect("such a connection").0
    }

    /// The peer answers, or not: what the Connect request is answered with.
    pub fn peer_answers(&mut self, connection: PeerConnectionId, accepts: bool) -> Out {
        let all = &mut self.peers.connecting;
        let (key, ..) = all.remove(&connection).expect("such a connection");
        self.peers.told.push(connection);
        let event = if accepts {
            Event::PeerConnected { key, connection }
        } else {
            Event::PeerFailed { key, connection }
        };
        self.server.handle_event(self.now, event);
        self.drain().unwrap_or(Out::Nothing)
    }

    /// Connects to `peer` with success; the id in the response.
    pub fn connected(&mut self, from: FiveTuple, peer: SocketAddr) -> PeerConnectionId {
        assert_eq!(self.connect(from, peer), Out::Nothing, "refused");
        let connection = self.connecting_to(peer);
        let response = self.peer_answers(connection, true).response();
        let id = response.value(AttributeType::CONNECTION_ID);
        let expected = connection.to_bits().to_be_bytes().to_vec();
        assert_eq!((response.code(), id), (None, Some(expected)));
        connection
    }

    /// `peer` connects to `relay`: the id under which it waits, and what the client is told.
    pub fn peer_connects(
        &mut self,
        relay: SocketAddr,
        peer: SocketAddr,
    ) -> Option<(PeerConnectionId, FiveTuple, Response)> {
        let key = *self.peers.listeners.get(&relay).expect("a listener");
        let id = self.server.handle_peer_connection(self.now, key, peer);
        self.peers.told.extend(id);
        match (id, self.drain()) {
            (None, None) => None,
            (Some(id), Some(Out::ToClient { to, message })) => Some((id, to, Response(message))),
            other => panic!("{other:?}"),
        }
    }

    pub fn bind_connection(
        &mut self,
        login: &Login,
        from: FiveTuple,
        id: PeerConnectionId,
    ) -> Response {
        let method = Method::CONNECTION_BIND;
        self.ask(login, from, method, &[connection_id(id)])
    }

    /// A joined connection ends where it was bound.
    pub fn connection_ends(&mut self, connection: PeerConnectionId) {
        assert!(self.peers.joined.remove(&connection).is_some());
        let end = PeerEnd::Closed;
        let event = Event::PeerClosed { connection, end };
        self.server.handle_event(self.now, event);
        assert_eq!(self.drain(), None);
    }
}
