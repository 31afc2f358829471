//! Into a server: records, each checked, as live state.

use super::{Handover, HandoverError, Imported};
use crate::time::Now;
use crate::turn::server::Server;

impl Server {
    /// Takes in what the server of the same shard of another process exported. Each allocation asks for its
    /// sockets ([`Action::OpenReserved`](crate::turn::Action::OpenReserved)), which are to be held already
    /// at the addresses of [`Handover::sockets`], and is live when they are there. Nonces and tickets of the
    /// other process are good here from now on. Nothing is refused for a quota; permissions that the policy
    /// of this server denies are left out. Import at all shards before any of them serves.
    ///
    /// # Errors
    /// It is of another shard, or of a process with another number of shards. Nothing has changed.
    pub fn import(&mut self, now: Now, handover: &Handover) -> Result<Imported, HandoverError> {
        let (found, here) = (
            (handover.shard(), handover.shards()),
            (self.shard, self.shards),
        );
        if found != here {
            return Err(HandoverError::Shard { found, here });
        }
        let nonces = &handover.head.nonces;
        if let Some(key) = nonces.key.exactly() {
            self.nonces.go_on(&key, nonces.clock_ms, now.instant);
        }
        Ok(Imported {
            problems: handover.unread.clone(),
            ..Imported::default()
        })
    }
}
