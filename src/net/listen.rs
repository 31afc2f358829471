//! The listening sockets: one group per address, with one member per shard.
//!
//! The kernel spreads clients over the members of a group by a hash of the addresses (SO_REUSEPORT).
//! The group is fixed for the life of the process: a member that joins or leaves moves clients that
//! were not on it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::Socket;

use super::buffer_sizes::{grow_buffers, raise_buffers, shortfalls};
use super::error::{BindError, BufferShortfall, Protocol};
use super::inherited::Inherited;
use super::linux::{self, Outgoing, ReceiveBatch, SendBatch};
use super::vacancy::{new_socket, probe};
use crate::turn::Family;

/// Connections that the kernel completes before they are accepted.
const ACCEPT_BACKLOG: i32 = 1024;
/// Bytes that the kernel holds unsent of a connection; what is beyond waits with us, where old media
/// can be dropped. At 1 Mbit/s they are an eighth of a second.
const UNSENT_IN_KERNEL: u32 = 16 * 1024;

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
    bind_group_beside(listen, shards, options, &mut Inherited::default())
}

/// As [`bind_group`], but takes what another process hands over instead of binding it.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind_group_beside(
    listen: &[SocketAddr],
    shards: usize,
    options: &BindOptions,
    inherited: &mut Inherited,
) -> Result<BoundGroup, BindError> {
    let protocols: Vec<Protocol> = options.protocols().collect();
    let mut addresses = Vec::new();
    for wanted in listen {
        let ours = |protocol, address| inherited.has(protocol, address);
        let address = probe(*wanted, &protocols, ours)?;
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
            bind_member(*address, shared, options, inherited, &mut sockets, warnings)?;
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
    inherited: &mut Inherited,
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
        let listener = match inherited.take(Protocol::Udp, address) {
            Some(socket) => UdpListener::adopt(socket, address, options),
            None => UdpListener::bind(address, shared, options),
        };
        let listener = listener.map_err(fail(Protocol::Udp))?;
        if let Some(warnings) = warnings {
            warnings.extend(listener.shortfalls(options));
        }
        sockets.udp.push(listener);
    }
    if options.tcp {
        let listener = match inherited.take(Protocol::Tcp, address) {
            Some(socket) => Ok(TcpListener::adopt(socket, address)),
            None => TcpListener::bind(address, shared),
        };
        sockets.tcp.push(listener.map_err(fail(Protocol::Tcp))?);
    }
    Ok(())
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
        // Without it, bursts come as single datagrams.
        if let Err(error) = linux::take_in_trains(&socket) {
            tracing::debug!(%error, "this kernel has no UDP_GRO");
        }
        socket.bind(&address.into())?;
        Ok(Self {
            socket: socket.into(),
            address,
        })
    }

    /// Goes on with a socket that is bound to `address`, with the buffers of `options` or larger ones: until
    /// this process serves, another one does, with the same socket.
    fn adopt(socket: Socket, address: SocketAddr, options: &BindOptions) -> io::Result<Self> {
        raise_buffers(&socket, options.receive_buffer, options.send_buffer)?;
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

    /// Receives into `packets` without waiting, and returns how many messages came: datagrams, or
    /// trains of them.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; whatever error is pending on the socket.
    pub fn receive<'a>(
        &self,
        batch: &mut ReceiveBatch,
        packets: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<usize> {
        batch.receive(self.socket.as_fd(), packets, true)
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

    /// Goes on with a socket that listens at `address`.
    fn adopt(socket: Socket, address: SocketAddr) -> Self {
        Self {
            socket: socket.into(),
            address,
        }
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
