//! The shards of a server that starts, and what they take over.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::certificates::Secured;
use super::confine::Confinement;
use super::error::StartError;
use super::shards::{Shards, Spawned};
use super::upgrade::{Ancestry, Binary, Estate, Kin, Predecessor, Service, Taken};
use crate::config::Config;
use crate::metrics::Page;
use crate::net::ListenerSockets;
use crate::shard::{Freezer, ShardHandle};
use crate::turn::Policy;

/// What shards start from.
pub(super) struct Workforce<'s> {
    pub(super) config: &'s Config,
    pub(super) policy: Policy,
    /// TCP connections of all shards.
    pub(super) connections: u32,
    /// What TLS and DTLS sessions start from.
    pub(super) secured: Option<Secured>,
    /// Of each shard.
    pub(super) sockets: Vec<ListenerSockets>,
    pub(super) pages: &'s [Arc<Page>],
    pub(super) ancestry: Ancestry,
    /// Completed before they serve.
    pub(super) confinement: &'s mut Confinement,
}

/// Shards that serve.
pub(super) struct Started {
    pub(super) shards: Vec<ShardHandle>,
    /// The index of each shard whose thread ends.
    pub(super) ended: UnboundedReceiver<u16>,
    /// What another process can take over from them.
    pub(super) estate: Estate,
    /// What they took over themselves.
    pub(super) taken: Taken,
}

impl Workforce<'_> {
    /// Starts them. If there is a `predecessor`, they serve once it has handed over.
    pub(super) fn start(
        self,
        predecessor: Option<&mut Predecessor>,
    ) -> Result<Started, StartError> {
        let (sender, ended) = unbounded_channel();
        let cookie_key = predecessor.as_deref().map(Predecessor::cookie_key);
        let shards = Shards::new(
            self.config,
            self.policy,
            self.connections,
            self.secured,
            cookie_key,
            sender,
        )?;
        let mut predecessor = predecessor;
        let inherit = predecessor.as_deref_mut().map(Predecessor::take_ways);
        if inherit.is_none() {
            self.confinement.complete()?;
        }
        let spawned = shards.spawn(self.sockets, self.pages, inherit)?;
        let must_stay = self.ancestry.why_it_must_stay(predecessor.is_some());
        let estate = estate(&shards, &spawned.freezer, must_stay);
        let succeed = |old| succeed(old, &shards, &spawned, &estate.kin, self.confinement);
        match predecessor.map(succeed).transpose() {
            Ok(taken) => Ok(Started {
                shards: spawned.handles,
                ended,
                taken: taken.unwrap_or_default(),
                estate,
            }),
            Err(error) => {
                // None of them serves.
                spawned.stop();
                Err(error)
            }
        }
    }
}

/// Has the shards take over from the `old` process and serve.
fn succeed(
    old: &mut Predecessor,
    shards: &Shards<'_>,
    spawned: &Spawned,
    kin: &Kin,
    confinement: &mut Confinement,
) -> Result<Taken, StartError> {
    let moved = old.take_over(&spawned.bequests, shards.held(), kin);
    let moved = moved.map_err(StartError::TakeOver)?;
    confinement.complete()?;
    let stay = old.serve(&spawned.bequests);
    Ok(Taken { moved, stay })
}

fn estate(shards: &Shards<'_>, freezer: &Freezer, must_stay: Option<&'static str>) -> Estate {
    Estate {
        binary: Binary::own(),
        service: Service::own(),
        must_stay,
        shards: shards.count(),
        freezer: freezer.clone(),
        kin: Arc::new(Kin::new(Arc::clone(shards.shared()))),
        cookie_key: shards.cookie_key(),
    }
}
