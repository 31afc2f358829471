//! ConnectionBind for the process from which this one took over: its TCP allocations stay there, and clients
//! make their data connections to the one that listens (RFC 6062 §5.4).

use super::connection_bind::connection_id;
use crate::stun::{Message, Method};
use crate::time::Now;
use crate::turn::exchange::Action;
use crate::turn::five_tuple::FiveTuple;
use crate::turn::outcome::{Reason, Verdict};
use crate::turn::server::Server;
use crate::turn::stats::Counter;

impl Server {
    /// The request that [`Action::HandBack`] is about, once.
    pub fn take_request(&mut self) -> Option<Box<[u8]>> {
        self.formers.take()
    }

    /// Handles a request that [`take_request`](Self::take_request) returned, and that nobody has taken: here
    /// its CONNECTION-ID is unknown.
    pub fn handle_kept<'p>(&mut self, now: Now, from: FiveTuple, request: &'p [u8]) -> Verdict<'p> {
        // It has another outcome now.
        self.stats.subtract(Counter::Parked, 1);
        let message = Message::parse(request).map_err(|_| Reason::Malformed);
        let verdict = message.map(|message| self.handle_own(now, from, &message));
        self.settle(verdict)
    }

    /// Nobody serves any more from whom this process has taken over.
    pub fn forget_formers(&mut self) {
        self.shared.peers.forget_older();
    }

    /// Whether the request binds a peer data connection of a process before this one. Who sends it is that
    /// one's to find out.
    pub(super) fn is_formers(&self, from: &FiveTuple, message: &Message<'_>) -> bool {
        message.method() == Method::CONNECTION_BIND
            && from.transport.is_stream()
            && connection_id(message).is_some_and(|id| self.shared.peers.is_older(id))
            && !self.has_allocation(from)
    }

    pub(super) fn hand_back<'p>(
        &mut self,
        client: FiveTuple,
        message: &Message<'p>,
    ) -> Verdict<'p> {
        self.formers = Some(message.as_bytes().into());
        self.actions.push_back(Action::HandBack { client });
        Verdict::Park
    }
}
