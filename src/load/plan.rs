//! What is to be loaded, with what, how hard.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::family::Family;

/// The server and how it is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub server: SocketAddr,
    /// Between the clients and the server.
    pub transport: Transport,
    /// Who the clients say they are.
    pub login: Option<Login>,
    /// The realm that the server must have; any when none.
    pub realm: Option<String>,
    /// Where the clients' sockets are bound, in turn; what the routing table says when empty.
    pub sources: Vec<IpAddr>,
    /// Where the peers' sockets are bound; what the routing table says when none. Relayed transport
    /// addresses are of its family, or else of the server's.
    pub peer: Option<IpAddr>,
}

impl Target {
    /// What relayed transport addresses are to be of.
    pub(super) fn relayed(&self) -> Family {
        Family::of(self.peer.unwrap_or(self.server.ip()))
    }
}

/// A long-term credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// USERNAME.
    pub username: String,
    /// The password, never sent.
    pub password: String,
}

impl fmt::Debug for Login {
    /// Everything but the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection for each client.
    Tcp,
    /// TLS over such a connection; the server's certificate is not checked.
    Tls,
    /// DTLS over datagrams; the server's certificate is not checked.
    Dtls,
}

impl Transport {
    /// Whether messages come out of a stream of bytes, complete and in order.
    pub(super) const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Whether a session begins with a handshake.
    pub(super) const fn is_secured(self) -> bool {
        matches!(self, Self::Tls | Self::Dtls)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls",
        })
    }
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Workload {
    /// Each client exchanges packets with a peer of ours.
    Relay(Traffic),
    /// Clients exchange packets two by two, both ends relayed.
    Pair(Traffic),
    /// Binding requests and their answers.
    Binding(Traffic),
    /// Allocations from the challenge to their end, one after the other on every client.
    Cycle,
    /// Allocations are held and nothing is sent.
    Idle,
}

impl Workload {
    /// Its name on the command line and in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::Pair(_) => "pair",
            Self::Binding(_) => "binding",
            Self::Cycle => "cycle",
            Self::Idle => "idle",
        }
    }

    /// What is sent, in the workloads that send packets at a pace.
    pub const fn traffic(&self) -> Option<&Traffic> {
        match self {
            Self::Relay(traffic) | Self::Pair(traffic) | Self::Binding(traffic) => Some(traffic),
            Self::Cycle | Self::Idle => None,
        }
    }

    /// Whether our own sockets take in trains.
    pub(super) fn gro(&self) -> bool {
        self.traffic().is_some_and(|traffic| traffic.gro)
    }
}

/// Packets and their pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// How the server frames application data.
    pub carrier: Carrier,
    /// From clients to their peers; in pairs, from the first client to the second.
    pub up: bool,
    /// From peers to their clients; in pairs, from the second client to the first.
    pub down: bool,
    /// Bytes of application data in a packet.
    pub size: usize,
    /// Packets that a flow sends at once.
    pub burst: usize,
    /// Our own sockets take in trains of datagrams whole (`UDP_GRO`), as network cards and the kernel's
    /// loopback hand them on, in place of one by one.
    pub gro: bool,
    /// How hard.
    pub pace: Pace,
}

/// How application data travels between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// ChannelData (RFC 8656 §12.4).
    Channel,
    /// Send and Data indications (RFC 8656 §11).
    Indication,
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many packets a second over all flows, whatever becomes of them.
    Rate(f64),
    /// As many as come back: so many packets are on their way at any time.
    Window(usize),
    /// The highest rate at which at most this share is lost, beginning with so many packets a second.
    Search {
        /// 0 to 1.
        loss: f64,
        /// Packets a second.
        start: f64,
    },
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom.
    pub target: Target,
    /// With what.
    pub workload: Workload,
    /// How many clients: 1 to 60 000, an even number for pairs.
    pub clients: usize,
    /// Threads, 1 to 64, at most as many as clients (pairs).
    pub threads: usize,
    /// Before what counts.
    pub warm_up: Duration,
    /// What counts; of each probe, in a search.
    pub duration: Duration,
    /// The server's process id, where it runs on this machine and its cost is to be known.
    pub pid: Option<u32>,
}
