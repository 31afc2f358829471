//! `turnstone reload`, `turnstone drain` and `turnstone check --running`: telling a running server what
//! to do, on its control socket.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::SocketArgs;
use super::{Failure, output};
use crate::config::{Config, Overrides};
use crate::control::Command;

/// Where systemd has the socket of `turnstone.service`.
pub(super) const DEFAULT_SOCKET: &str = "/run/turnstone/control.sock";
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the server of `args` to do `command`, and prints what it says.
pub(super) fn tell(args: &SocketArgs, command: Command) -> Result<(), Failure> {
    let path = socket(args)?;
    let answer = ask(&path, command).map_err(|error| unreachable(&path, &error))?;
    match answer.split_once('\n') {
        Some(("ok", text)) => output::say(text.trim_end()),
        Some(("failed", text)) => Err(text.trim_end().to_owned()),
        _ => Err(format!("{}: no answer that makes sense", path.display())),
    }
}

/// The path that was named, that of the configuration file, or that of the systemd unit.
fn socket(args: &SocketArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.socket {
        return Ok(path.clone());
    }
    let Some(file) = &args.config else {
        return Ok(DEFAULT_SOCKET.into());
    };
    let config = Config::load(Some(file), &Overrides::default());
    let config = config.map_err(|report| report.to_string())?;
    Ok(config.control.unwrap_or_else(|| DEFAULT_SOCKET.into()))
}

pub(super) fn ask(path: &Path, command: Command) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(command.word().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no server listens at {path}; name its socket with --socket, or give it one with [control] \
             socket"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{path} is another user's; run this as the user of the server, or as root")
        }
        _ => format!("{path}: {error}"),
    }
}
