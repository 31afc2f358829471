//! Why the server did not start, in one line that names the remedy.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use landlock::RulesetError;

use super::facts::TooFewDescriptors;
use super::upgrade::TakeOverError;
use crate::metrics;
use crate::net::{BindError, RelayError};

/// Why the process cannot become another user.
#[derive(Debug)]
pub(super) enum UserError {
    /// There is no such user.
    Unknown,
    /// The user database cannot be read.
    Database(io::Error),
    /// The process is not root's.
    Denied(io::Error),
    /// The control socket is not what was bound.
    Socket(io::Error),
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
    /// The socket for control cannot be bound.
    Control(PathBuf, io::Error),
    /// An address for clients cannot be bound.
    Bind(BindError),
    /// Relay sockets cannot be bound to a configured address.
    Relay(IpAddr, RelayError),
    /// The host's addresses cannot be read, so that peers on them could not be refused.
    Interfaces(io::Error),
    /// The metrics contradict one another.
    Metrics(metrics::Error),
    /// The operating system gives no random bytes.
    Random(getrandom::Error),
    /// The process cannot become this user.
    User(String, UserError),
    /// Files cannot be put out of reach.
    Landlock(RulesetError),
    /// System calls cannot be put out of reach.
    SystemCalls(io::Error),
    /// There are no random bytes for the keys of TLS session tickets.
    Tickets,
    /// The running server has not handed over.
    TakeOver(TakeOverError),
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
            Self::Control(path, error) => {
                write!(f, "cannot listen for commands at {}: ", path.display())?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => f.write_str("another server does")?,
                    _ => error.fmt(f)?,
                }
                f.write_str("; choose another path with [control] socket, or \"off\"")
            }
            Self::Bind(error) => error.fmt(f),
            _ => self.write_host(f),
        }
    }
}

impl StartError {
    /// What of the host keeps the server from starting.
    fn write_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(address, error) => write!(f, "cannot relay from {address}: {error}"),
            Self::Interfaces(error) => write!(f, "the host's addresses cannot be read: {error}"),
            Self::Metrics(error) => write!(f, "the metrics cannot be set up: {error}"),
            Self::Random(error) => write!(f, "the system gives no random bytes: {error}"),
            Self::User(name, error) => {
                write!(f, "cannot run as user {name:?}: ")?;
                match error {
                    UserError::Unknown => f.write_str("there is no such user; create it, or")?,
                    UserError::Database(error) => write!(f, "users cannot be looked up: {error};")?,
                    UserError::Denied(error) => write!(f, "{error}; start as root, or")?,
                    UserError::Socket(error) => {
                        write!(
                            f,
                            "the control socket cannot be the user's: {error}; move it, or"
                        )?;
                    }
                }
                f.write_str(" leave [process] user out")
            }
            Self::Landlock(error) => write!(
                f,
                "files cannot be put out of reach: {error}; set [process] landlock = false"
            ),
            Self::SystemCalls(error) => write!(
                f,
                "system calls cannot be put out of reach: {error}; set [process] seccomp = false"
            ),
            Self::TakeOver(error) => write!(f, "{error}"),
            Self::Tickets => f.write_str("the system gives no random bytes for TLS"),
            Self::Shard(index, error) => write!(f, "worker {index} cannot be started: {error}"),
            // The others are written above.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (
                StartError::User("nobody".into(), UserError::Unknown),
                "leave [process] user out",
            ),
        ] {
            let text = failure.to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
    }
}
