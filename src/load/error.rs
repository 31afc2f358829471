//! Why a run came to nothing, in words that name the remedy.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::plan::Transport;

/// A run that came to nothing.
#[derive(Debug)]
pub enum LoadError {
    /// Nobody answered for so many seconds.
    Silent(SocketAddr, Transport, u64),
    /// The host says that nobody listens.
    Closed(SocketAddr, Transport),
    /// The server ended a connection, or something in front of it did.
    HungUp(SocketAddr),
    /// No session of TLS or DTLS came about, for this reason.
    Handshake(SocketAddr, Transport, String),
    /// The answer is no STUN message, or not one to the request.
    NotStun(SocketAddr),
    /// The server asks for credentials and there are none.
    NoLogin(SocketAddr),
    /// Username or password are wrong.
    WrongLogin(String),
    /// The server's realm is the first, not the second.
    WrongRealm(String, String),
    /// 403: the server does not relay to this address.
    RefusedPeer(SocketAddr),
    /// 486 or 508 with so many allocations.
    Exhausted(u16, u64),
    /// 440: the server has no relayed addresses of IPv6, or of IPv4.
    NoFamily(bool),
    /// It answered before, and now nobody listens.
    Vanished(SocketAddr, Transport),
    /// The process was there when the run began.
    ProcessEnded(u32),
    /// Another error response: to what, its code and reason.
    Refused(&'static str, u16, String),
    /// The answer was signed with another key, or not at all.
    Forged(SocketAddr),
    /// So many files are needed and so many may be open.
    Descriptors(usize, u64),
    /// A process that is not there, or not ours to look at.
    NoProcess(u32),
    /// The address is not one of this host.
    NotLocal(IpAddr),
    /// The kernel hands no trains of datagrams over, for this reason.
    NoTrains(io::Error),
    /// No socket could be made for this reason.
    Socket(io::Error),
    /// The user has stopped it before there was anything to tell.
    Interrupted,
    /// A mistake of ours.
    Bug(&'static str),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLogin(server) => write!(
                f,
                "{server} asks for credentials; give --user and --password, or --secret"
            ),
            Self::WrongLogin(user) => write!(
                f,
                "the server refuses user {user:?} (401): the username or the password (or --secret) is \
                 wrong, or time-limited credentials have expired"
            ),
            Self::WrongRealm(found, wanted) => write!(
                f,
                "the server's realm is {found:?}, not {wanted:?}; correct --realm, or leave it out to \
                 take the server's"
            ),
            Self::RefusedPeer(peer) => refused_peer(f, peer),
            Self::Exhausted(code, made) => exhausted(f, *code, *made),
            Self::NoFamily(v6) => no_family(f, *v6),
            Self::Refused(what, code, reason) => {
                write!(f, "the server refuses {what} with error {code} {reason:?}")
            }
            Self::Forged(server) => write!(
                f,
                "an answer of {server} is not signed with the password; something between may have \
                 changed it"
            ),
            Self::Interrupted => f.write_str("interrupted before anything was measured"),
            Self::Bug(what) => write!(f, "a mistake in the load tester: {what}"),
            _ => self.write_network(f),
        }
    }
}

impl LoadError {
    /// The same when it befalls a run that had begun well.
    pub(super) fn during_run(self) -> Self {
        match self {
            Self::Closed(server, transport) => Self::Vanished(server, transport),
            Self::NoProcess(pid) => Self::ProcessEnded(pid),
            error => error,
        }
    }

    /// What keeps the load tester from the server.
    fn write_network(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(server, transport, seconds) => {
                let or = match transport {
                    Transport::Dtls => " it speaks no DTLS,",
                    _ => "",
                };
                write!(
                    f,
                    "no answer from {server} over {transport} within {seconds} s: nothing listens \
                     there,{or} or packets are filtered on the way"
                )
            }
            Self::Closed(server, transport) => write!(
                f,
                "nothing listens at {server} over {transport}; check address, port and --transport"
            ),
            Self::Vanished(server, transport) => write!(
                f,
                "the server at {server} has gone during the run: nothing listens there over {transport} any \
                 more"
            ),
            Self::HungUp(server) => write!(f, "{server} closed the connection"),
            Self::Handshake(server, transport, why) => write!(
                f,
                "no {} session with {server}: {why}; check the port and --transport",
                transport.to_string().to_uppercase()
            ),
            Self::NotStun(server) => {
                write!(f, "what answers at {server} speaks no STUN; check the port")
            }
            _ => self.write_host(f),
        }
    }

    /// What this host lacks, or does not let us do.
    fn write_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptors(needed, limit) => write!(
                f,
                "{needed} files must be open and {limit} may be; raise the limit (`ulimit -n {needed}`) \
                 or ask for fewer clients"
            ),
            Self::NoProcess(pid) => write!(
                f,
                "--pid {pid}: no such process, or not one that this user may look at"
            ),
            Self::ProcessEnded(pid) => write!(f, "--pid {pid}: the process ended during the run"),
            Self::NotLocal(ip) => write!(
                f,
                "{ip} is not an address of this host; `ip address` lists them"
            ),
            Self::NoTrains(error) => write!(
                f,
                "the kernel does not let sockets receive with UDP_GRO ({error}), which takes Linux 5.0 or \
                 later; leave out --gro"
            ),
            Self::Socket(error) => write!(f, "no socket could be opened: {error}"),
            // The others are written above.
            _ => Ok(()),
        }
    }
}

fn refused_peer(f: &mut fmt::Formatter<'_>, peer: &SocketAddr) -> fmt::Result {
    let ip = peer.ip();
    write!(
        f,
        "the server does not relay to {ip} (403): allow it in the server (turnstone: --allow-peer {ip}, \
         or peers.allow in its file; coturn: --allowed-peer-ip={ip}, for loopback \
         --allow-loopback-peers), or name another address of this host with --peer"
    )
}

fn no_family(f: &mut fmt::Formatter<'_>, v6: bool) -> fmt::Result {
    let (lacks, other) = if v6 {
        ("IPv6", "IPv4")
    } else {
        ("IPv4", "IPv6")
    };
    write!(
        f,
        "the server has no relayed addresses of {lacks} (440); give it some, or name an {other} address of \
         this host with --peer to have it relay to {other}"
    )
}

fn exhausted(f: &mut fmt::Formatter<'_>, code: u16, made: u64) -> fmt::Result {
    let (what, turnstone, coturn) = if code == 486 {
        (
            "the user's allocation quota is reached (486)",
            "limits.allocations_per_user, limits.allocations_per_source",
            "user-quota",
        )
    } else {
        (
            "the server has no capacity left (508)",
            "limits.allocations, relay.ports, the limit on open files",
            "total-quota, min-port and max-port",
        )
    };
    write!(
        f,
        "{what} after {made} allocations; raise it in the server (turnstone: {turnstone}; coturn: \
         {coturn}), or ask for fewer clients"
    )
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Socket(error) | Self::NoTrains(error) => Some(error),
            _ => None,
        }
    }
}

impl LoadError {
    /// Why no socket could be bound to `ip`.
    pub(super) fn unbound(error: io::Error, ip: IpAddr) -> Self {
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => Self::NotLocal(ip),
            _ => Self::Socket(error),
        }
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_with_what_helps() {
        let at: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        for (error, help) in [
            (LoadError::Silent(at, Transport::Udp, 5), "filtered"),
            (LoadError::Closed(at, Transport::Tls), "--transport"),
            (LoadError::NotStun(at), "port"),
            (LoadError::NoLogin(at), "--secret"),
            (LoadError::WrongLogin("alice".into()), "--secret"),
            (LoadError::WrongRealm("a".into(), "b".into()), "--realm"),
            (LoadError::RefusedPeer(at), "peers.allow"),
            (LoadError::Exhausted(486, 7), "limits.allocations_per_user"),
            (LoadError::Exhausted(508, 7), "relay.ports"),
            (LoadError::Descriptors(20_064, 1024), "ulimit -n 20064"),
            (LoadError::NoFamily(true), "--peer"),
            (
                LoadError::Closed(at, Transport::Udp).during_run(),
                "any more",
            ),
            (LoadError::NoProcess(7).during_run(), "during the run"),
            (LoadError::NotLocal(at.ip()), "ip address"),
            (LoadError::NoTrains(io::ErrorKind::Other.into()), "--gro"),
        ] {
            let text = error.to_string();
            assert!(text.contains(help), "{text}");
            assert!(!text.contains('\n'));
        }
    }
}
