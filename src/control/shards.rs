//! The shards' threads: what each starts with, and how its end is noticed.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::certificates::Secured;
use super::error::StartError;
use crate::config::{Config, Upstream};
use crate::metrics::Page;
use crate::net::{Clock, ListenerSockets};
use crate::shard::{
    self, Bequest, DtlsSetup, Freezer, HeldSockets, Inheritance, Mail, Mailbox, ShardHandle,
    ShardSetup, StreamLimits, Ways,
};
use crate::transport::Sources;
use crate::turn::{Policy, Setup, Shared, Stats};

/// What the shards have in common.
pub(super) struct Shards<'c> {
    config: &'c Config,
    policy: Arc<Policy>,
    shared: Arc<Shared>,
    held: Arc<HeldSockets>,
    sources: Arc<Sources>,
    dtls_sources: Arc<Sources>,
    nonce_key: [u8; 32],
    cookie_key: [u8; 32],
    clock: Clock,
    /// TCP connections of all shards.
    connections: u32,
    upstreams: Arc<[Upstream]>,
    secured: Option<Secured>,
    ended: UnboundedSender<u16>,
}

impl<'c> Shards<'c> {
    /// Shards of a server as `config` and `policy` describe it, with room for so many TCP `connections`
    /// in all; TLS and DTLS sessions start from `secured`, cookies of DTLS from `cookie_key` or a new key;
    /// `ended` hears the index of each whose thread ends.
    pub(super) fn new(
        config: &'c Config,
        policy: Policy,
        connections: u32,
        secured: Option<Secured>,
        cookie_key: Option<[u8; 32]>,
        ended: UnboundedSender<u16>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            config,
            policy: Arc::new(policy),
            shared: Arc::default(),
            held: Arc::default(),
            sources: Arc::default(),
            dtls_sources: Arc::default(),
            nonce_key: random_bytes()?,
            cookie_key: cookie_key.map_or_else(random_bytes, Ok)?,
            clock: Clock::start(),
            connections,
            upstreams: config.upstreams.clone().into(),
            secured,
            ended,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.config.workers.get()
    }

    /// What their cores share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The sockets that they hold for each other.
    pub(super) fn held(&self) -> &HeldSockets {
        &self.held
    }

    /// Keys the cookies of DTLS.
    pub(super) fn cookie_key(&self) -> [u8; 32] {
        self.cookie_key
    }

    /// Starts one shard for each of `sockets`, which publishes to the page in the same place. If they
    /// `inherit`, it waits for that, and has the ways in the same place to clients that stay. When one
    /// cannot be started, none goes on.
    pub(super) fn spawn(
        &self,
        sockets: Vec<ListenerSockets>,
        pages: &[Arc<Page>],
        inherit: Option<Vec<Ways>>,
    ) -> Result<Spawned, StartError> {
        let mut inherit = inherit.map(VecDeque::from);
        let (mail, boxes) =
            Mail::open(sockets.len()).map_err(|error| StartError::Shard(0, error))?;
        let mut spawned = Spawned {
            handles: Vec::with_capacity(sockets.len()),
            bequests: Vec::new(),
            freezer: Freezer::new(Arc::clone(&mail)),
        };
        let starts = sockets.into_iter().zip(boxes).zip(pages);
        for (index, ((sockets, mailbox), page)) in (0..).zip(starts) {
            let post = (Arc::clone(&mail), mailbox);
            let ways = inherit
                .as_mut()
                .map(|ways| ways.pop_front().unwrap_or_default());
            let inheritance = ways.map(|ways| {
                let (bequest, inheritance) = Inheritance::expect(ways);
                spawned.bequests.push(bequest);
                inheritance
            });
            match self.spawn_one(index, sockets, post, Arc::clone(page), inheritance) {
                Ok(handle) => spawned.handles.push(handle),
                Err(error) => {
                    spawned.stop();
                    return Err(error);
                }
            }
        }
        Ok(spawned)
    }

    fn spawn_one(
        &self,
        index: u16,
        sockets: ListenerSockets,
        (mail, mailbox): (Arc<Mail>, Mailbox),
        page: Arc<Page>,
        inheritance: Option<Inheritance>,
    ) -> Result<ShardHandle, StartError> {
        let publisher = Publisher {
            index,
            page,
            ended: self.ended.clone(),
        };
        let setup = ShardSetup {
            index: index.into(),
            sockets,
            server: self.server(index)?,
            streams: stream_limits(self.config, self.connections),
            sources: Arc::clone(&self.sources),
            proxy_protocol_from: self.config.proxy_protocol_from.clone(),
            upstreams: Arc::clone(&self.upstreams),
            tls: self.secured.as_ref().map(|secured| secured.tls.clone()),
            relay_buffer: self.config.buffers.relay,
            held: Arc::clone(&self.held),
            mail,
            mailbox,
            dtls: self.dtls(),
            publish: Box::new(move |stats| publisher.publish(stats)),
            clock: self.clock,
            inheritance,
        };
        shard::spawn(setup).map_err(|error| StartError::Shard(index, error))
    }

    fn server(&self, index: u16) -> Result<Setup, StartError> {
        Ok(Setup {
            shard: index,
            shards: self.config.workers.get(),
            seed: random_bytes()?,
            nonce_key: self.nonce_key,
            policy: Arc::clone(&self.policy),
            shared: Arc::clone(&self.shared),
        })
    }

    /// None when DTLS is off.
    fn dtls(&self) -> Option<DtlsSetup> {
        let identity = self.secured.as_ref().and_then(|of| of.dtls.clone());
        identity.map(|identity| DtlsSetup {
            identity: Some(identity),
            cookie_key: self.cookie_key,
            sources: Arc::clone(&self.dtls_sources),
        })
    }
}

/// Shards that run, or wait for their inheritance.
pub(super) struct Spawned {
    pub(super) handles: Vec<ShardHandle>,
    /// What gives each of them its inheritance; none when they wait for nothing.
    pub(super) bequests: Vec<Bequest>,
    pub(super) freezer: Freezer,
}

impl Spawned {
    /// Has them end, and waits for that.
    pub(super) fn stop(self) {
        self.handles.iter().for_each(ShardHandle::stop);
        drop(self.bequests);
        for shard in self.handles {
            // The start has failed already, and that is what the operator is told.
            let _ = shard.join();
        }
    }
}

/// The limits of one shard on stream clients: `connections` and handshakes are split evenly, sources are
/// counted by all shards together.
pub(super) fn stream_limits(config: &Config, connections: u32) -> StreamLimits {
    let streams = config.streams;
    let share = |all: u32| all.div_ceil(config.workers.get().into()) as usize;
    StreamLimits {
        connections: share(connections),
        connections_per_source: streams.connections_per_source as usize,
        handshakes: share(streams.handshakes),
        backlog_bytes: streams.backlog_bytes,
        pipe_bytes: streams.pipe_bytes,
        media_age: streams.media_age,
        silent_after: streams.silent_after,
        idle_after: streams.idle_after,
        channels: config.channels,
    }
}

/// Belongs to a shard's thread, and ends with it, however it ends.
struct Publisher {
    index: u16,
    page: Arc<Page>,
    ended: UnboundedSender<u16>,
}

impl Publisher {
    fn publish(&self, stats: &Stats) {
        self.page.publish(stats);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Nobody listens any more when the whole server has failed to start.
        let _ = self.ended.send(self.index);
    }
}

fn random_bytes() -> Result<[u8; 32], StartError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn a_publisher_that_ends_is_noticed() {
        let (sender, mut ended) = unbounded_channel();
        let publisher = Publisher {
            index: 3,
            page: Arc::default(),
            ended: sender,
        };
        publisher.publish(&Stats::default());
        assert!(ended.try_recv().is_err());
        drop(publisher);
        assert_eq!(ended.recv().await, Some(3));
    }
}
