//! From a configuration to a server that serves: everything is opened, or nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel};
use tokio::task::AbortHandle;
use tracing::info;

use super::banner::Listening;
use super::certificates::Certificates;
use super::confine::{Confinement, confine};
use super::error::StartError;
use super::facts::{
    connections, host_facts, raise_descriptor_limit, relay_ports, warn_of_descriptor_limit,
};
use super::http::{self, Readiness, Shown};
use super::listeners::{bind_clients, warn_of_shortfalls};
use super::logging::LogGuard;
use super::relay_addresses::try_relay_addresses;
use super::reload::Configuration;
use super::socket::{ControlSocket, Order, SocketFile};
use super::upgrade::{Ancestry, Doors, Estate, Predecessor, Taken};
use super::workforce::Workforce;
use super::{VERSION, banner};
use crate::config::{Config, HostFacts, Origin};
use crate::metrics::{Metrics, Page};
use crate::net::{self, Inherited, ListenerSockets};
use crate::shard::ShardHandle;
use crate::turn::Policy;

/// A server that serves.
pub(super) struct Running {
    pub(super) shards: Vec<ShardHandle>,
    /// The index of each shard whose thread ends.
    pub(super) ended: UnboundedReceiver<u16>,
    pub(super) readiness: Readiness,
    /// None while TLS is off.
    pub(super) certificates: Option<Certificates>,
    pub(super) configuration: Configuration,
    pub(super) pages: Vec<Arc<Page>>,
    /// What the server is told on its control socket.
    pub(super) orders: Receiver<Order>,
    /// What another process can take over.
    pub(super) estate: Arc<Estate>,
    pub(super) fronts: Fronts,
}

/// What serves the operator.
pub(super) struct Fronts {
    http: Option<AbortHandle>,
    control: Option<(AbortHandle, SocketFile)>,
    doors: Doors,
}

impl Fronts {
    /// Copies of what they listen on.
    pub(super) fn doors(&self) -> io::Result<Doors> {
        self.doors.copy()
    }

    /// Another process serves the operator from now on.
    pub(super) fn give_away(&mut self) {
        self.doors = Doors::default();
        if let Some(http) = self.http.take() {
            http.abort();
        }
        if let Some((control, file)) = self.control.take() {
            file.leave();
            control.abort();
        }
    }
}

/// Opens and starts everything that `config` asks for, and takes over from the `predecessor` if there is
/// one; tells what was taken over. Needs the control thread's runtime.
pub(super) fn start(
    config: Config,
    origin: Origin,
    log: &LogGuard,
    mut predecessor: Option<&mut Predecessor>,
) -> Result<(Running, Taken), StartError> {
    let mut prepared = prepare(&config, log, predecessor.as_deref_mut())?;
    let is_successor = predecessor.is_some();
    let Opened {
        http,
        control,
        sockets,
        listening,
    } = prepared.opened;
    let doors = doors(http.as_ref(), control.as_ref()).map_err(StartError::Runtime)?;
    let workforce = Workforce {
        config: &config,
        policy: prepared.policy,
        connections: connections(&config, prepared.descriptors),
        secured: prepared.certificates.as_ref().map(Certificates::server),
        sockets,
        pages: &prepared.pages,
        ancestry: prepared.ancestry,
        confinement: &mut prepared.confinement,
    };
    let started = workforce.start(predecessor)?;
    // Nothing fails from here on: the predecessor has let go.
    let (fronts, orders, readiness) = serve(http, control, doors, &prepared.metrics);
    warn_of_descriptor_limit(&config, prepared.descriptors);
    banner::announce(&config, &prepared.facts, &listening, is_successor);
    let running = Running {
        shards: started.shards,
        ended: started.ended,
        readiness,
        certificates: prepared.certificates,
        configuration: Configuration {
            config,
            origin,
            listeners: prepared.facts.listeners,
            clients: listening.clients(),
            interfaces: prepared.facts.interfaces,
            descriptors: prepared.descriptors,
            metrics: prepared.metrics,
            draining: false,
            confinement: prepared.confinement,
        },
        pages: prepared.pages,
        orders,
        estate: Arc::new(started.estate),
        fronts,
    };
    Ok((running, started.taken))
}

/// Everything but the shards.
struct Prepared {
    descriptors: u64,
    opened: Opened,
    facts: HostFacts,
    policy: Policy,
    pages: Vec<Arc<Page>>,
    metrics: Arc<Metrics>,
    ancestry: Ancestry,
    confinement: Confinement,
    certificates: Option<Certificates>,
}

/// Opens everything, and has the process give up what it does not need.
fn prepare(
    config: &Config,
    log: &LogGuard,
    mut predecessor: Option<&mut Predecessor>,
) -> Result<Prepared, StartError> {
    let descriptors = raise_descriptor_limit(config).map_err(StartError::Descriptors)?;
    let opened = open(config, predecessor.as_deref_mut())?;
    let facts = host_facts(opened.listening.all()).map_err(StartError::Interfaces)?;
    let policy = config.policy(&facts);
    let pages: Vec<Arc<Page>> = opened.sockets.iter().map(|_| Arc::default()).collect();
    let metrics = metrics(&pages, &policy, &facts, &opened.listening)?;
    let ancestry = Ancestry::own();
    let old = predecessor.as_deref().map(Predecessor::path);
    let confinement = confine(config, log, opened.control.as_ref(), old)?;
    warn_of_shortfalls(&net::relay_shortfalls(config.buffers.relay));
    let certificates = Certificates::new(&config.tls, Arc::clone(&metrics))?;
    Ok(Prepared {
        descriptors,
        opened,
        facts,
        policy,
        pages,
        metrics,
        ancestry,
        confinement,
        certificates,
    })
}

fn metrics(
    pages: &[Arc<Page>],
    policy: &Policy,
    facts: &HostFacts,
    listening: &Listening,
) -> Result<Arc<Metrics>, StartError> {
    let metrics = Metrics::new(pages.to_vec(), VERSION).map_err(StartError::Metrics)?;
    metrics.set_relay_ports_limit(relay_ports(policy, facts, &listening.clients()));
    Ok(Arc::new(metrics))
}

/// Everything that listens.
struct Opened {
    http: Option<TcpListener>,
    control: Option<ControlSocket>,
    /// Of each shard.
    sockets: Vec<ListenerSockets>,
    listening: Listening,
}

/// Opens what `config` asks for, as far as the predecessor does not hand it over.
fn open(config: &Config, mut predecessor: Option<&mut Predecessor>) -> Result<Opened, StartError> {
    let http = config.metrics;
    let http = http.map(|address| open_http(address, predecessor.as_deref_mut()));
    let http = http.transpose()?;
    let control = config.control.as_deref();
    let control = control.map(|path| open_control(path, predecessor.as_deref_mut()));
    let control = control.transpose()?;
    let mut nothing = Inherited::default();
    let inherited = predecessor.map_or(&mut nothing, |old| &mut old.clients);
    let bound = bind_clients(config, inherited).map_err(StartError::Bind)?;
    for (protocol, address) in inherited.left() {
        info!("no longer listening on {address} ({protocol})");
    }
    try_relay_addresses(config)?;
    let metrics = http.as_ref().and_then(|http| http.local_addr().ok());
    Ok(Opened {
        http,
        control,
        sockets: bound.sockets,
        listening: Listening {
            listen: bound.listen,
            tls: bound.tls,
            metrics,
        },
    })
}

fn open_control(
    path: &Path,
    predecessor: Option<&mut Predecessor>,
) -> Result<ControlSocket, StartError> {
    let socket = match predecessor.and_then(|old| old.take_control(path)) {
        Some(listener) => ControlSocket::adopt(path, listener),
        None => ControlSocket::bind(path),
    };
    socket.map_err(|error| StartError::Control(path.to_owned(), error))
}

fn open_http(
    address: SocketAddr,
    predecessor: Option<&mut Predecessor>,
) -> Result<TcpListener, StartError> {
    let listener = match predecessor.and_then(|old| old.take_metrics(address)) {
        Some(listener) => http::adopt(listener),
        None => http::bind(address),
    };
    listener.map_err(|error| StartError::Http(address, error))
}

/// Copies of what listens for the operator.
fn doors(http: Option<&TcpListener>, control: Option<&ControlSocket>) -> io::Result<Doors> {
    let copy = |listener: BorrowedFd<'_>| listener.try_clone_to_owned();
    Ok(Doors {
        metrics: http.map(|http| copy(http.as_fd())).transpose()?,
        control: control.map(|control| copy(control.as_fd())).transpose()?,
    })
}

/// Serves whoever wants to see how the server is, and passes on what it is told.
fn serve(
    http: Option<TcpListener>,
    control: Option<ControlSocket>,
    doors: Doors,
    metrics: &Arc<Metrics>,
) -> (Fronts, Receiver<Order>, Readiness) {
    let readiness = Readiness::default();
    readiness.set(true);
    let (sender, orders) = channel(1);
    let serve_http = |listener| {
        let shown = Shown {
            metrics: Arc::clone(metrics),
            readiness: readiness.clone(),
        };
        tokio::spawn(http::serve(listener, shown)).abort_handle()
    };
    let serve_control = |control: ControlSocket| {
        let file = control.file();
        file.acquire();
        (tokio::spawn(control.serve(sender)).abort_handle(), file)
    };
    let fronts = Fronts {
        http: http.map(serve_http),
        control: control.map(serve_control),
        doors,
    };
    (fronts, orders, readiness)
}
