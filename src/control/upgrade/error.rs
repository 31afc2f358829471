//! Why a process has not taken over from another, in a line that names the remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::line::LineError;

/// Why nothing was taken over.
#[derive(Debug)]
pub(in crate::control) enum TakeOverError {
    /// Nobody can be reached at the control socket.
    Unreachable(PathBuf, io::Error),
    /// The running server does not do it, or the conversation broke.
    Line(LineError),
    /// What it handed over is of no use here.
    Unusable(String),
}

impl From<LineError> for TakeOverError {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
}

impl fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(path, error) => {
                let path = path.display();
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => write!(
                        f,
                        "no server listens at {path}, from which to take over; start it without \
                         `upgrade`, or name its socket with --socket"
                    ),
                    io::ErrorKind::PermissionDenied => write!(
                        f,
                        "{path} is another user's; run this as the user of the server, or as root"
                    ),
                    _ => write!(f, "{path}: {error}"),
                }
            }
            Self::Line(error) => write!(f, "the running server goes on: {error}"),
            Self::Unusable(why) => write!(f, "the running server goes on: {why}"),
        }
    }
}
