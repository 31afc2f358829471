//! ConnectionBind (RFC 6062 §5.4).

use super::{Handled, Request};
use crate::stun::AttributeType;
use crate::turn::auth::Authenticated;
use crate::turn::peer_connection::{PeerConnectionId, Unbindable};
use crate::turn::reply::{Refusal, Success};
use crate::turn::server::{Action, Server};
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
        let id = request
            .message
            .attribute(AttributeType::CONNECTION_ID)
            .and_then(|attribute| attribute.u32().ok())
            .ok_or(Refusal::BadRequest)?;
        let connection = PeerConnectionId::from_bits(id);
        self.bind_connection(request, user, connection)?;
        self.actions.push_back(Action::Join { client, connection });
        Ok(Handled::Answer(Success::Done))
    }

    fn bind_connection(
        &mut self,
        request: &Request<'_, '_>,
        user: &Authenticated,
        connection: PeerConnectionId,
    ) -> Result<(), Refusal> {
        let username = &user.owner().username;
        let now = request.now.instant;
        let bound = self
            .shared
            .peers
            .bind(connection, username, self.shard, now);
        bound.map_err(|unbindable| match unbindable {
            Unbindable::Unknown => Refusal::BadRequest,
            Unbindable::Foreign => {
                let failure = Counter::AuthFailures(AuthFailure::OtherUser);
                self.stats.increment(failure);
                Refusal::WrongCredentials
            }
        })
    }
}
