//! Connect (RFC 6062 §5.2).

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Handled, Request};
use crate::stun::{AttributeType, Message};
use crate::turn::allocation_key::AllocationKey;
use crate::turn::auth::Authenticated;
use crate::turn::exchange::Action;
use crate::turn::five_tuple::Family;
use crate::turn::peer_connection::{CONNECT_TIMEOUT, PeerConnection, Stage};
use crate::turn::reply::{Refusal, Reply};
use crate::turn::server::Server;
use crate::turn::stats::RequestMethod;

impl Server {
    pub(in crate::turn) fn handle_connect(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<Handled, Refusal> {
        let key = self.own_allocation(request, user)?;
        let peer = peer(request.message)?;
        self.check_peer_connection(key, peer)?;
        self.check_families(key, &[peer])?;
        let destination = self.tcp_destination(request.now.instant, peer)?;
        self.check_itself(key, destination)?;
        self.check_connection_room(key)?;
        self.connect(request, user, key, (peer, destination));
        Ok(Handled::Park)
    }

    /// 437 without a TCP allocation, 446 when it has a connection with `peer` already.
    fn check_peer_connection(
        &mut self,
        key: AllocationKey,
        peer: SocketAddr,
    ) -> Result<(), Refusal> {
        let connections = self.peer_connections(key);
        let connections = connections.ok_or(Refusal::AllocationMismatch)?;
        if connections.has_peer(peer) {
            Err(Refusal::ConnectionExists)
        } else {
            Ok(())
        }
    }

    /// A connection from a relayed transport address to itself would be an echo.
    fn check_itself(&self, key: AllocationKey, destination: SocketAddr) -> Result<(), Refusal> {
        let relay = self.allocation(key)?.relay(Family::of(destination.ip()));
        if relay.is_some_and(|relay| relay.bind_address() == destination) {
            Err(Refusal::Forbidden)
        } else {
            Ok(())
        }
    }

    fn check_connection_room(&mut self, key: AllocationKey) -> Result<(), Refusal> {
        if self.has_connection_room(key) {
            Ok(())
        } else {
            Err(Refusal::InsufficientCapacity)
        }
    }

    fn connect(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
        key: AllocationKey,
        (peer, destination): (SocketAddr, SocketAddr),
    ) {
        let reply = Reply::to(request.message, RequestMethod::Connect, request.from);
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        let relay = allocation.relay(Family::of(peer.ip()));
        let Some((relay, all)) = relay.zip(allocation.peers.as_ref()) else {
            return;
        };
        let (local, meter) = (relay.bind_address(), Arc::clone(&all.meter));
        let (owner, control) = (user.owner(), request.from.client);
        let (random, peers) = (&mut self.random, &self.shared.peers);
        let id = peers.enter(owner, control, meter, random);
        self.actions.push_back(Action::Connect {
            key,
            connection: id,
            local,
            peer: destination,
        });
        self.add_peer_connection(
            key,
            PeerConnection {
                id,
                peer,
                stage: Stage::Connecting(Box::new((reply, user.signature()))),
                deadline: request.now.instant + CONNECT_TIMEOUT,
            },
        );
    }
}

/// XOR-PEER-ADDRESS, with a port to connect to.
fn peer(message: &Message<'_>) -> Result<SocketAddr, Refusal> {
    let peer = message
        .attribute(AttributeType::XOR_PEER_ADDRESS)
        .and_then(|attribute| message.xor_address(&attribute).ok());
    peer.filter(|peer| peer.port() != 0)
        .ok_or(Refusal::BadRequest)
}
