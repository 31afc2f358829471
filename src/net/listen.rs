//! The listening sockets: one group per address, with one member per shard.
//!
//! The kernel spreads clients over the members of a group by a hash of the addresses (SO_REUSEPORT).
//! The group is fixed for the life of the process: a member that joins or leaves moves clients that
//! were not on it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Socket, Type};

use super::buffer_sizes::{grow_buffers, shortfalls};
use super::error::{BindCause, BindError, BufferShortfall, Protocol};
use super::linux::{self, Outgoing, ReceiveBatch, SendBatch};
use crate::turn::Family;

/// Connections that the kernel completes before they are accepted.
const ACCEPT_BACKLOG: i32 = 1024;
/// Bytes that the kernel holds unsent of a connection; what is beyond waits with us, where old media
/// can be dropped. At 1 Mbit/s they are an eighth of a second.
const UNSENT_IN_KERNEL: u32 = 16 * 1024;
/// How often a port is drawn that UDP and TCP can share.
const PORT_DRAWS: usize = 64;

/// What to bind.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Listen for datagrams.
    pub udp: bool,
    /// Listen for connections.
    pub tcp: bool,
    /// Bytes of each UDP listener's receive buffer, default 4 MiB.
    pub receive_buffer: usize,
    /// Bytes of each UDP listener's send buffer, default 4 MiB.
    pub send_buffer: usize,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            udp: true,
            tcp: true,
            receive_buffer: 4 << 20,
            send_buffer: 4 << 20,
        }
    }
}

impl BindOptions {
    fn protocols(&self) -> impl Iterator<Item = Protocol> {
        let udp = self.udp.then_some(Protocol::Udp);
        let tcp = self.tcp.then_some(Protocol::Tcp);
        udp.into_iter().chain(tcp)
    }
}

/// One shard's members of every group. Non-blocking.
#[derive(Debug, Default)]
pub struct ListenerSockets {
    /// One per listening address, in their order.
    pub udp: Vec<UdpListener>,
    /// One per listening address, in their order.
    pub tcp: Vec<TcpListener>,
    /// Those whose clients speak TLS, bound by a call of their own.
    pub tls: Vec<TcpListener>,
    /// Those whose clients speak either, taken out of `tcp`.
    pub either: Vec<TcpListener>,
    /// Those whose clients speak DTLS and nothing else, bound by a call of their own.
    pub dtls: Vec<UdpListener>,
}

impl ListenerSockets {
    /// Has the clients of those TCP listeners that are in `addresses` speak TLS or not.
    pub fn share(&mut self, addresses: &[SocketAddr]) {
        let shared = |listener: &mut TcpListener| addresses.contains(&listener.address());
        self.either.extend(self.tcp.extract_if(.., shared));
    }

    /// All TCP listeners, in the order: plain, TLS, either.
    pub fn streams(&self) -> impl Iterator<Item = &TcpListener> {
        self.tcp.iter().chain(&self.tls).chain(&self.either)
    }
}

/// What [`bind_group`] bound.
#[derive(Debug)]
pub struct BoundGroup {
    /// The sockets of each shard.
    pub shards: Vec<ListenerSockets>,
    /// Buffers that the kernel made smaller than was asked for; at most one per address and buffer.
    pub warnings: Vec<BufferShortfall>,
    /// The addresses, with the port that was chosen where port 0 was asked for.
    pub addresses: Vec<SocketAddr>,
}

/// Binds each address of `listen` for each of `shards` shards. Port 0 draws one port for UDP and TCP
/// alike. IPv6 sockets take IPv6 only. An address that stands twice in `listen` is bound once.
///
/// # Errors
/// The first address that cannot be bound. A group that another process began is not joined.
pub fn bind_group(
    listen: &[SocketAddr],
    shards: usize,
    options: &BindOptions,
) -> Result<BoundGroup, BindError> {
    let mut addresses = Vec::new();
    for wanted in listen {
        let address = probe(*wanted, options)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let shared = shards > 1 || overlap(&addresses);
    let mut group = BoundGroup {
        shards: Vec::new(),
        warnings: Vec::new(),
        addresses,
    };
    for shard in 0..shards {
        let mut sockets = ListenerSockets::default();
        for address in &group.addresses {
            let warnings = (shard == 0).then_some(&mut group.warnings);
            bind_member(*address, shared, options, &mut sockets, warnings)?;
        }
        group.shards.push(sockets);
    }
    Ok(group)
}

/// Whether one of `addresses` stands for another too.
fn overlap(addresses: &[SocketAddr]) -> bool {
    let covers = |any: &SocketAddr, one: &SocketAddr| {
        any != one && any.ip().is_unspecified() && same_port_and_family(*any, *one)
    };
    let covered = |one| addresses.iter().any(|any| covers(any, one));
    addresses.iter().any(covered)
}

fn bind_member(
    address: SocketAddr,
    shared: bool,
    options: &BindOptions,
    sockets: &mut ListenerSockets,
    warnings: Option<&mut Vec<BufferShortfall>>,
) -> Result<(), BindError> {
    let fail = |protocol| {
        move |error: io::Error| BindError {
            address,
            protocol,
            cause: error.into(),
        }
    };
    if options.udp {
        let listener = UdpListener::bind(address, shared, options).map_err(fail(Protocol::Udp))?;
        if let Some(warnings) = warnings {
            warnings.extend(listener.shortfalls(options));
        }
        sockets.udp.push(listener);
    }
    if options.tcp {
        let listener = TcpListener::bind(address, shared).map_err(fail(Protocol::Tcp))?;
        sockets.tcp.push(listener);
    }
    Ok(())
}

/// Binds `address` plainly and lets go again: with SO_REUSEPORT alone a second process of the same
/// user would join the group silently. Returns the address with a port.
fn probe(address: SocketAddr, options: &BindOptions) -> Result<SocketAddr, BindError> {
    if address.port() != 0 {
        return probe_port(address, options).map(|()| address);
    }
    for _ in 0..PORT_DRAWS {
        let drawn = draw_port(address, options)?;
        match probe_port(drawn, options) {
            Ok(()) => return Ok(drawn),
            Err(BindError {
                cause: BindCause::InUse,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(BindError {
        address,
        protocol: Protocol::Tcp,
        cause: BindCause::NoCommonPort,
    })
}

fn probe_port(address: SocketAddr, options: &BindOptions) -> Result<(), BindError> {
    for protocol in options.protocols() {
        plain_socket(address, protocol).map_err(|error| BindError {
            address,
            protocol,
            cause: error.into(),
        })?;
    }
    Ok(())
}

fn draw_port(address: SocketAddr, options: &BindOptions) -> Result<SocketAddr, BindError> {
    let protocol = options.protocols().next().unwrap_or(Protocol::Udp);
    let bound = plain_socket(address, protocol).and_then(|socket| socket.local_addr());
    let port = bound.map(|local| local.as_socket().map_or(0, |local| local.port()));
    port.map(|port| SocketAddr::new(address.ip(), port))
        .map_err(|error| BindError {
            address,
            protocol,
            cause: error.into(),
        })
}

fn plain_socket(address: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let socket = new_socket(address, protocol)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn new_socket(address: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Udp => Type::DGRAM,
        Protocol::Tcp => Type::STREAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier process in TIME_WAIT must not keep us from the port.
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// One shard's UDP socket on one listening address.
#[derive(Debug)]
pub struct UdpListener {
    socket: UdpSocket,
    address: SocketAddr,
}

impl UdpListener {
    fn bind(address: SocketAddr, shared: bool, options: &BindOptions) -> io::Result<Self> {
        let socket = new_socket(address, Protocol::Udp)?;
        socket.set_reuse_port(shared)?;
        grow_buffers(&socket, options.receive_buffer, options.send_buffer)?;
        let family = Family::of(address.ip());
        linux::allow_fragmentation(socket.as_fd(), family)?;
        refuse_multicast(&socket, family)?;
        if address.ip().is_unspecified() {
            linux::report_local_address(socket.as_fd(), family)?;
        }
        socket.bind(&address.into())?;
        Ok(Self {
            socket: socket.into(),
            address,
        })
    }

    fn shortfalls(&self, options: &BindOptions) -> impl Iterator<Item = BufferShortfall> + use<> {
        let (receive, send) = (options.receive_buffer, options.send_buffer);
        shortfalls(&self.socket, Some(self.address), receive, send)
    }

    /// The address that it listens on; unspecified when it listens on all of the host's.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it listens on every address of its family, so that datagrams carry their local address.
    pub const fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }

    /// Receives into `packets` without waiting, and returns how many datagrams came.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub fn receive<'a>(
        &self,
        batch: &mut ReceiveBatch,
        packets: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<usize> {
        batch.receive(self.socket.as_fd(), packets, self.is_wildcard())
    }

    /// Whether a client that reached `local` is answered from this socket.
    pub fn serves(&self, local: SocketAddr) -> bool {
        self.address == local || self.is_wildcard() && same_port_and_family(self.address, local)
    }

    /// The source to name when answering from `local`.
    pub fn source(&self, local: IpAddr) -> Option<IpAddr> {
        (self.is_wildcard() && !local.is_unspecified()).then_some(local)
    }

    /// Sends `messages` in order without waiting; see [`SendBatch::send_from`].
    pub fn send<'a>(
        &self,
        batch: &mut SendBatch,
        messages: impl Iterator<Item = Outgoing<'a>>,
        failed: impl FnMut(usize, io::Error),
    ) {
        batch.send_from(&self.socket, messages, failed);
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Datagrams to groups that others on the host joined are not for us.
fn refuse_multicast(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_multicast_all_v4(false),
        Family::V6 => socket.set_multicast_all_v6(false),
    }
}

fn same_port_and_family(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4()
}

/// One shard's TCP listener on one listening address.
#[derive(Debug)]
pub struct TcpListener {
    socket: StdListener,
    address: SocketAddr,
}

impl TcpListener {
    fn bind(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = new_socket(address, Protocol::Tcp)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into())?;
        socket.listen(ACCEPT_BACKLOG)?;
        Ok(Self {
            socket: socket.into(),
            address,
        })
    }

    /// The address that it listens on; unspecified when it listens on all of the host's.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts one connection without waiting; the connection blocks until told otherwise.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; the connection died; no descriptor is left.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }
}

/// Makes an accepted connection non-blocking, prompt and short of unsent bytes in the kernel.
///
/// # Errors
/// The connection is gone already.
pub fn prepare_connection(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_IN_KERNEL)
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
