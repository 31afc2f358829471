//! ChannelBind (RFC 8656 §12.2).

use std::net::SocketAddr;

use super::{Handled, Request};
use crate::stun::{AttributeType, ChannelNumber, ChannelRange, Message};
use crate::turn::allocation_key::AllocationKey;
use crate::turn::auth::Authenticated;
use crate::turn::reply::{Refusal, Success};
use crate::turn::server::Server;

impl Server {
    pub(in crate::turn) fn handle_channel_bind(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<Handled, Refusal> {
        let key = self.own_allocation(request, user)?;
        if self.allocation(key)?.is_tcp() {
            // Channels carry datagrams (RFC 6062 §3).
            return Err(Refusal::AllocationMismatch);
        }
        let (number, peer) = binding(request.message, self.policy.channels)?;
        let is_new = self.check_conflict(key, number, peer)?;
        self.check_families(key, &[peer])?;
        if peer.port() == 0 {
            // No datagram goes there (RFC 8656 §12.2: a port value that is not allowed).
            return Err(Refusal::Forbidden);
        }
        let scopes = self.permit(request.now.instant, key, &[peer])?;
        for scope in &scopes {
            let destination = self
                .policy
                .peers
                .destination(*scope, peer, &self.shared.live);
            destination.map_err(|why| self.refuse_peer(request.now.instant, peer, why))?;
        }
        self.check_room(key, &[peer])?;
        self.check_channel_room(key, is_new)?;
        for scope in scopes {
            self.install_permission(key, peer.ip(), scope, request.now.instant);
        }
        self.bind_channel(key, number, peer, request.now.instant);
        Ok(Handled::Answer(Success::Done))
    }

    /// Whether the binding is a new one; 400 when number or peer are bound otherwise.
    fn check_conflict(
        &self,
        key: AllocationKey,
        number: ChannelNumber,
        peer: SocketAddr,
    ) -> Result<bool, Refusal> {
        let allocation = self.allocation(key)?;
        allocation
            .channels
            .check(number, peer)
            .map_err(|_| Refusal::BadRequest)
    }

    fn check_channel_room(&self, key: AllocationKey, is_new: bool) -> Result<(), Refusal> {
        let allocation = self.allocation(key)?;
        let limit = usize::from(self.policy.limits.channels_per_allocation);
        if is_new && allocation.channels.len() >= limit {
            return Err(Refusal::InsufficientCapacity);
        }
        Ok(())
    }
}

/// CHANNEL-NUMBER and XOR-PEER-ADDRESS, both required and well-formed.
fn binding(
    message: &Message<'_>,
    range: ChannelRange,
) -> Result<(ChannelNumber, SocketAddr), Refusal> {
    let attribute = |kind| message.attribute(kind).ok_or(Refusal::BadRequest);
    let number = attribute(AttributeType::CHANNEL_NUMBER)?
        .bytes()
        .map_err(|_| Refusal::BadRequest)?;
    let peer = attribute(AttributeType::XOR_PEER_ADDRESS)?;
    // The two bytes behind the number are reserved and ignored (RFC 8656 §18.1).
    let [high, low, _, _] = number;
    let number = range
        .number(u16::from_be_bytes([high, low]))
        .ok_or(Refusal::BadRequest)?;
    let peer = message
        .xor_address(&peer)
        .map_err(|_| Refusal::BadRequest)?;
    Ok((number, peer))
}
