//! From a configuration to a server that serves: everything is opened, or nothing.

use std::fmt;
use std::io;
use std::net::{self as std_net, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use super::VERSION;
use super::banner;
use super::facts::{TooFewDescriptors, host_facts, raise_descriptor_limit, relay_ports};
use super::http::{self, Readiness, Shown};
use crate::config::{Config, HostFacts};
use crate::metrics::{self, Metrics, Page};
use crate::net::{self, BindCause, BindError, BindOptions, BoundGroup, ListenerSockets};
use crate::shard::{self, ShardHandle, ShardSetup, StreamLimits};
use crate::turn::{Policy, Setup, Shared, Stats};

/// A server that serves.
pub(super) struct Running {
    pub(super) shards: Vec<ShardHandle>,
    /// The index of each shard whose thread ends.
    pub(super) ended: UnboundedReceiver<u16>,
    pub(super) readiness: Readiness,
}

/// Why the server did not start. Nothing of it runs then.
#[derive(Debug)]
pub(super) enum StartError {
    /// The control thread's runtime or a signal handler could not be set up.
    Runtime(io::Error),
    /// So few files may be open that the server is of no use.
    Descriptors(TooFewDescriptors),
    /// The address for metrics cannot be bound.
    Http(SocketAddr, io::Error),
    /// An address for clients cannot be bound.
    Bind(BindError),
    /// The host's addresses cannot be read, so that peers on them could not be refused.
    Interfaces(io::Error),
    /// The metrics contradict one another.
    Metrics(metrics::Error),
    /// The operating system gives no random bytes.
    Random(getrandom::Error),
    /// A shard's thread or poller could not be made.
    Shard(u16, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "the control thread cannot be set up: {error}"),
            Self::Descriptors(TooFewDescriptors { limit, least }) => write!(
                f,
                "at most {limit} files may be open, and {least} are the least that is of use; raise \
                 the limit (`ulimit -n`, under systemd: LimitNOFILE)"
            ),
            Self::Http(address, error) => {
                write!(f, "cannot serve metrics on {address}: ")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => f.write_str("another process has the port")?,
                    _ => error.fmt(f)?,
                }
                f.write_str(
                    "; choose another address with --metrics or [metrics] listen, or switch them \
                     off with --metrics off",
                )
            }
            Self::Bind(error) => error.fmt(f),
            Self::Interfaces(error) => write!(f, "the host's addresses cannot be read: {error}"),
            Self::Metrics(error) => write!(f, "the metrics cannot be set up: {error}"),
            Self::Random(error) => write!(f, "the system gives no random bytes: {error}"),
            Self::Shard(index, error) => write!(f, "worker {index} cannot be started: {error}"),
        }
    }
}

/// Opens and starts everything that `config` asks for. Needs the control thread's runtime.
pub(super) fn start(config: &Config) -> Result<Running, StartError> {
    raise_descriptor_limit(config).map_err(StartError::Descriptors)?;
    let http = config.metrics.map(bind_http).transpose()?;
    let group = bind_clients(config).map_err(StartError::Bind)?;
    let facts = facts(&group, http.as_ref()).map_err(StartError::Interfaces)?;
    let policy = config.policy(&facts);
    let listen = group.addresses.clone();
    let pages: Vec<Arc<Page>> = group.shards.iter().map(|_| Arc::default()).collect();
    let metrics = Metrics::new(pages.clone(), VERSION).map_err(StartError::Metrics)?;
    metrics.set_relay_ports_limit(relay_ports(&policy, &facts, &listen));

    let (sender, ended) = unbounded_channel();
    let shards = Shards {
        config,
        policy: Arc::new(policy),
        shared: Arc::default(),
        nonce_key: random_bytes()?,
        clock: net::Clock::start(),
        ended: sender,
    };
    let shards = shards.spawn(group.shards, &pages)?;
    let readiness = Readiness::default();
    let metrics_address = http
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    if let Some(listener) = http {
        let shown = Shown {
            metrics: Arc::new(metrics),
            readiness: readiness.clone(),
        };
        serve_http(listener, shown).map_err(StartError::Runtime)?;
    }
    readiness.set(true);
    banner::announce(config, &facts, &listen, metrics_address);
    Ok(Running {
        shards,
        ended,
        readiness,
    })
}

fn bind_http(address: SocketAddr) -> Result<std_net::TcpListener, StartError> {
    if !address.ip().is_loopback() {
        warn!(
            "whoever reaches {address} can read the metrics; let only your Prometheus server through"
        );
    }
    http::bind(address).map_err(|error| StartError::Http(address, error))
}

fn serve_http(listener: std_net::TcpListener, shown: Shown) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(http::serve(listener, shown));
    Ok(())
}

/// Binds every address for clients. All IPv6 addresses are none on a host without IPv6.
fn bind_clients(config: &Config) -> Result<BoundGroup, BindError> {
    let options = BindOptions {
        udp: config.udp,
        tcp: config.tcp,
        receive_buffer: config.buffers.listener,
        send_buffer: config.buffers.listener,
    };
    let mut listen = config.listen.clone();
    loop {
        match net::bind_group(&listen, config.workers.get().into(), &options) {
            Err(error) if is_dispensable(&error, &listen) => {
                info!("this host has no IPv6: not listening on {}", error.address);
                listen.retain(|address| *address != error.address);
            }
            bound => return bound.inspect(warn_of_buffers),
        }
    }
}

fn is_dispensable(error: &BindError, listen: &[SocketAddr]) -> bool {
    matches!(error.cause, BindCause::NoFamily)
        && error.address.ip().is_unspecified()
        && listen.contains(&error.address)
        && listen.iter().any(|address| *address != error.address)
}

fn warn_of_buffers(group: &BoundGroup) {
    for shortfall in &group.warnings {
        warn!("{shortfall}");
    }
}

fn facts(group: &BoundGroup, http: Option<&std_net::TcpListener>) -> io::Result<HostFacts> {
    let mut listeners = group.addresses.clone();
    if let Some(listener) = http {
        listeners.push(listener.local_addr()?);
    }
    host_facts(listeners)
}

/// What the shards have in common.
struct Shards<'c> {
    config: &'c Config,
    policy: Arc<Policy>,
    shared: Arc<Shared>,
    nonce_key: [u8; 32],
    clock: net::Clock,
    ended: UnboundedSender<u16>,
}

impl Shards<'_> {
    fn spawn(
        &self,
        sockets: Vec<ListenerSockets>,
        pages: &[Arc<Page>],
    ) -> Result<Vec<ShardHandle>, StartError> {
        let mut spawned = Vec::with_capacity(sockets.len());
        for (index, (sockets, page)) in (0..).zip(sockets.into_iter().zip(pages)) {
            match self.spawn_one(index, sockets, Arc::clone(page)) {
                Ok(handle) => spawned.push(handle),
                Err(error) => {
                    stop(spawned);
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
        page: Arc<Page>,
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
            streams: self.stream_limits(),
            relay_buffer: self.config.buffers.relay,
            publish: Box::new(move |stats| publisher.publish(stats)),
            clock: self.clock,
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

    /// The limits of one shard; the server's limits on connections are split evenly.
    fn stream_limits(&self) -> StreamLimits {
        let streams = self.config.streams;
        let share = |all: u32| all.div_ceil(self.config.workers.get().into()) as usize;
        StreamLimits {
            connections: share(streams.connections),
            connections_per_source: share(streams.connections_per_source),
            backlog_bytes: streams.backlog_bytes,
            silent_after: streams.silent_after,
            idle_after: streams.idle_after,
        }
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

fn stop(shards: Vec<ShardHandle>) {
    shards.iter().for_each(ShardHandle::stop);
    for shard in shards {
        // The start has failed already, and that is what the operator is told.
        let _ = shard.join();
    }
}

fn random_bytes() -> Result<[u8; 32], StartError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

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

    #[test]
    fn only_all_ipv6_addresses_are_dispensable() {
        let listen = ["0.0.0.0:3478", "[::]:3478", "[::1]:3478"];
        let listen = listen.map(|text| text.parse().expect("address"));
        let error = |address, cause| BindError {
            address,
            protocol: Protocol::Udp,
            cause,
        };
        assert!(is_dispensable(
            &error(listen[1], BindCause::NoFamily),
            &listen
        ));
        assert!(!is_dispensable(
            &error(listen[1], BindCause::NoFamily),
            &listen[1..2]
        ));
        assert!(!is_dispensable(
            &error(listen[2], BindCause::NoFamily),
            &listen
        ));
        assert!(!is_dispensable(
            &error(listen[1], BindCause::InUse),
            &listen
        ));
    }

    #[test]
    fn failures_are_one_line_with_a_remedy() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9641));
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        let few = TooFewDescriptors {
            limit: 10,
            least: 64,
        };
        for (failure, remedy) in [
            (StartError::Http(address, in_use), "--metrics off"),
            (StartError::Descriptors(few), "LimitNOFILE"),
        ] {
            let text = failure.to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
    }
}
