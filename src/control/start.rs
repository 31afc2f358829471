//! From a configuration to a server that serves: everything is opened, or nothing.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};
use tracing::{info, warn};

use super::banner::Listening;
use super::certificates::Certificates;
use super::confine::confine;
use super::error::StartError;
use super::facts::{
    connections, host_facts, raise_descriptor_limit, relay_ports, warn_of_descriptor_limit,
};
use super::http::{self, Readiness, Shown};
use super::logging::LogGuard;
use super::relay_addresses::try_relay_addresses;
use super::reload::Configuration;
use super::shards::Shards;
use super::socket::{ControlSocket, Order};
use super::{VERSION, banner};
use crate::config::{Config, HostFacts, Origin};
use crate::metrics::{Metrics, Page};
use crate::net::{
    self, BindCause, BindError, BindOptions, BoundGroup, BufferShortfall, ListenerSockets,
};
use crate::shard::ShardHandle;

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
}

/// Opens and starts everything that `config` asks for. Needs the control thread's runtime.
pub(super) fn start(config: Config, origin: Origin, log: &LogGuard) -> Result<Running, StartError> {
    let descriptors = raise_descriptor_limit(&config).map_err(StartError::Descriptors)?;
    let http = config.metrics.map(bind_http).transpose()?;
    let socket = config.control.as_deref().map(bind_control).transpose()?;
    let bound = bind_clients(&config).map_err(StartError::Bind)?;
    try_relay_addresses(&config)?;
    let clients = [&bound.listen[..], &bound.tls].concat();
    let facts = facts(&clients, http.as_ref()).map_err(StartError::Interfaces)?;
    let policy = config.policy(&facts);
    let pages: Vec<Arc<Page>> = bound.sockets.iter().map(|_| Arc::default()).collect();
    let metrics = Metrics::new(pages.clone(), VERSION).map_err(StartError::Metrics)?;
    let metrics = Arc::new(metrics);
    metrics.set_relay_ports_limit(relay_ports(&policy, &facts, &clients));
    let confinement = confine(&config, log)?;
    warn_of_shortfalls(&net::relay_shortfalls(config.buffers.relay));

    let (sender, ended) = unbounded_channel();
    let connections = connections(&config, descriptors);
    let certificates = Certificates::new(&config.tls, Arc::clone(&metrics))?;
    let tls = certificates.as_ref().map(Certificates::server);
    let shards = Shards::new(&config, policy, connections, tls, sender)?;
    let shards = shards.spawn(bound.sockets, &pages)?;
    let readiness = Readiness::default();
    readiness.set(true);
    let listening = Listening {
        listen: bound.listen,
        tls: bound.tls,
        metrics: http.and_then(|listener| serve_http(listener, &metrics, readiness.clone())),
    };
    warn_of_descriptor_limit(&config, descriptors);
    banner::announce(&config, &facts, &listening);
    let configuration = Configuration {
        config,
        origin,
        listeners: facts.listeners,
        clients,
        interfaces: facts.interfaces,
        descriptors,
        metrics,
        draining: false,
        confinement,
    };
    Ok(Running {
        shards,
        ended,
        readiness,
        certificates,
        configuration,
        pages,
        orders: serve_control(socket),
    })
}

fn bind_control(path: &Path) -> Result<ControlSocket, StartError> {
    ControlSocket::bind(path).map_err(|error| StartError::Control(path.to_owned(), error))
}

/// Passes on what the server is told on `socket`.
fn serve_control(socket: Option<ControlSocket>) -> Receiver<Order> {
    let (sender, orders) = channel(1);
    if let Some(socket) = socket {
        tokio::spawn(socket.serve(sender));
    }
    orders
}

fn bind_http(address: SocketAddr) -> Result<TcpListener, StartError> {
    http::bind(address).map_err(|error| StartError::Http(address, error))
}

/// Serves `metrics` and returns where.
fn serve_http(
    listener: TcpListener,
    metrics: &Arc<Metrics>,
    readiness: Readiness,
) -> Option<SocketAddr> {
    let address = listener.local_addr().ok()?;
    let shown = Shown {
        metrics: Arc::clone(metrics),
        readiness,
    };
    tokio::spawn(http::serve(listener, shown));
    Some(address)
}

/// What is bound for clients.
struct Bound {
    listen: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    /// Of each shard.
    sockets: Vec<ListenerSockets>,
}

fn bind_clients(config: &Config) -> Result<Bound, BindError> {
    let plain = BindOptions {
        udp: config.udp,
        tcp: config.tcp,
        receive_buffer: config.buffers.listener,
        send_buffer: config.buffers.listener,
    };
    let over_tls = BindOptions {
        udp: false,
        tcp: true,
        ..plain
    };
    let shards = config.workers.get().into();
    let mut group = bind(config.endpoints(), shards, &plain)?;
    let is_shared = |address: &SocketAddr| config.tcp && group.addresses.contains(address);
    let (shared, apart): (Vec<_>, Vec<_>) = config.tls.listen.iter().copied().partition(is_shared);
    let mut tls = bind(apart, shards, &over_tls)?;
    for (sockets, of_tls) in group.shards.iter_mut().zip(tls.shards) {
        sockets.tls = of_tls.tcp;
        sockets.share(&shared);
    }
    tls.addresses.extend(shared);
    if config.tls.dtls {
        let over_dtls = BindOptions {
            udp: true,
            tcp: false,
            ..plain
        };
        let listen = beside(&tls.addresses, &group.addresses, config.udp);
        let dtls = bind(listen, shards, &over_dtls)?;
        for (sockets, of_dtls) in group.shards.iter_mut().zip(dtls.shards) {
            sockets.dtls = of_dtls.udp;
        }
    }
    Ok(Bound {
        listen: group.addresses,
        tls: tls.addresses,
        sockets: group.shards,
    })
}

/// Where DTLS needs sockets of its own: not where there are those of plain UDP, which serve it too.
fn beside(listen: &[SocketAddr], plain: &[SocketAddr], udp: bool) -> Vec<SocketAddr> {
    let covers = |plain: &SocketAddr, one: &SocketAddr| {
        let any = SocketAddr::new(plain.ip(), one.port());
        plain == one
            || plain == &any && plain.ip().is_unspecified() && plain.is_ipv4() == one.is_ipv4()
    };
    let is_served = |one: &SocketAddr| udp && plain.iter().any(|plain| covers(plain, one));
    let alone = listen.iter().filter(|one| !is_served(one));
    alone.copied().collect()
}

/// Binds `listen` for so many shards. All IPv6 addresses are none on a host without IPv6.
fn bind(
    mut listen: Vec<SocketAddr>,
    shards: usize,
    options: &BindOptions,
) -> Result<BoundGroup, BindError> {
    loop {
        match net::bind_group(&listen, shards, options) {
            Err(error) if is_dispensable(&error, &listen) => {
                info!("this host has no IPv6: not listening on {}", error.address);
                listen.retain(|address| *address != error.address);
            }
            bound => return bound.inspect(|group| warn_of_shortfalls(&group.warnings)),
        }
    }
}

fn is_dispensable(error: &BindError, listen: &[SocketAddr]) -> bool {
    matches!(error.cause, BindCause::NoFamily)
        && error.address.ip().is_unspecified()
        && listen.contains(&error.address)
        && listen.iter().any(|address| *address != error.address)
}

fn warn_of_shortfalls(shortfalls: &[BufferShortfall]) {
    for shortfall in shortfalls {
        warn!("{shortfall}");
    }
}

fn facts(clients: &[SocketAddr], http: Option<&TcpListener>) -> io::Result<HostFacts> {
    let mut listeners = clients.to_vec();
    if let Some(listener) = http {
        listeners.push(listener.local_addr()?);
    }
    host_facts(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    #[test]
    fn dtls_has_no_second_socket_where_plain_udp_is_served() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            let parse = |text: &&str| text.parse().expect("address");
            texts.iter().map(parse).collect()
        };
        let listen = addresses(&["0.0.0.0:5349", "127.0.0.1:3478", "[::1]:3478", "[::]:443"]);
        let plain = addresses(&["0.0.0.0:3478", "[::]:443", "127.0.0.1:5349"]);
        assert_eq!(beside(&listen, &plain, false), listen);
        let left = addresses(&["0.0.0.0:5349", "[::1]:3478"]);
        assert_eq!(beside(&listen, &plain, true), left);
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
}
