//! ConnectionBind (RFC 6062 §5.4).

use std::net::SocketAddr;

use super::{Handled, Request};
use crate::stun::{AttributeType, Message, Method};
use crate::turn::auth::Authenticated;
use crate::turn::bandwidth::BoundMeter;
use crate::turn::exchange::Action;
use crate::turn::peer_connection::Unbindable;
use crate::turn::peer_connection_id::PeerConnectionId;
use crate::turn::reply::{Refusal, Success};
use crate::turn::server::Server;
use crate::turn::stats::{AuthFailure, Counter};

impl Server {
    /// The allocation may be another shard's; the table of all shards tells.
    pub(in crate::turn) fn handle_connection_bind(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<Handled, Refusal> {
        let client = request.from;
        if !client.transport.is_stream() {
            return Err(Refusal::BadRequest);
        }
        if self.has_allocation(&client) {
            // A control connection cannot become a data connection.
            return Err(Refusal::AllocationMismatch);
        }
        let connection = connection_id(request.message).ok_or(Refusal::BadRequest)?;
        self.bind_connection(request, user, connection)?;
        self.actions.push_back(Action::Join { client, connection });
        Ok(Handled::Answer(Success::Done))
    }

    /// Where else than from the source of `message` its nonce may come from: a ConnectionBind request
    /// proves itself as one on the control connection would (RFC 6062 §4.3).
    pub(super) fn control_of(&self, message: &Message<'_>) -> Option<SocketAddr> {
        let id = connection_id(message).filter(|_| message.method() == Method::CONNECTION_BIND);
        self.shared.peers.control(id?)
    }

    fn bind_connection(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
        connection: PeerConnectionId,
    ) -> Result<(), Refusal> {
        let owner = user.owner();
        let now = request.now.instant;
        let peers = &self.shared.peers;
        match peers.bind(connection, owner, self.shard, now) {
            Ok(meter) => {
                let meter = BoundMeter::new(meter, owner.person());
                self.bound.insert(connection, meter);
                Ok(())
            }
            Err(Unbindable::Unknown) => Err(Refusal::BadRequest),
            Err(Unbindable::Foreign) => {
                let failure = Counter::AuthFailures(AuthFailure::OtherUser);
                self.stats.increment(failure);
                Err(Refusal::WrongCredentials)
            }
        }
    }
}

/// CONNECTION-ID, if it is there and well-formed.
pub(super) fn connection_id(message: &Message<'_>) -> Option<PeerConnectionId> {
    let attribute = message.attribute(AttributeType::CONNECTION_ID)?;
    attribute.u32().ok().map(PeerConnectionId::from_bits)
}
