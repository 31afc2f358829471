//! Starts the server and stays with it until it ends: logging, sockets, shards, HTTP and signals.
//!
//! One thread, the process's first, runs all of it on one `tokio` runtime. It may wait; the shards
//! never wait for it.

mod banner;
mod certificates;
mod confine;
mod error;
mod facts;
mod http;
mod listeners;
mod log_queue;
mod logging;
mod notify;
mod relay_addresses;
mod reload;
mod roll_call;
mod shards;
mod signals;
mod socket;
mod start;
mod status;
mod successor;
mod supervise;
mod totals;
mod upgrade;
mod workforce;

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};
use tracing::{error, info, warn};

pub use socket::Command;

use crate::config::{Config, Origin};
use crate::net;
use error::StartError;
use logging::LogGuard;
use notify::Notify;
use upgrade::{Predecessor, Taken};

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which file this program was started from, as [`Command::Binary`] tells it.
pub fn binary() -> Option<String> {
    upgrade::Binary::own().map(|binary| binary.to_string())
}

/// Runs the server that `config` describes until it is told to stop by SIGTERM or SIGINT, and says how
/// it went: 0 when it was told to stop, otherwise 1, after a line in the log. `origin` is where `config`
/// came from, for a reload; what is odd in it is logged at the beginning.
pub fn run(config: Config, origin: Origin) -> ExitCode {
    logged(config, |config, log| {
        start_and_supervise(config, origin, log)
    })
}

/// As [`run`], in the place of the server that listens for commands at `socket`: takes over from that, or
/// changes nothing and returns 1. `starter` is told in a line when it serves.
pub fn take_over(
    config: Config,
    origin: Origin,
    socket: &Path,
    starter: Option<UnixStream>,
) -> ExitCode {
    logged(config, |config, log| {
        take_over_and_supervise(config, origin, socket, starter, log)
    })
}

fn logged(
    config: Config,
    serve: impl FnOnce(Config, &LogGuard) -> Result<ExitCode, StartError>,
) -> ExitCode {
    let log = match logging::start(config.log) {
        Ok(log) => log,
        Err(failure) => {
            // If this cannot be written either, the exit code is all there is to say.
            let _ = writeln!(io::stderr(), "the log cannot be written: {failure}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let code = match serve(config, &log) {
        Ok(code) => code,
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    };
    drop(log);
    code
}

fn start_and_supervise(
    config: Config,
    origin: Origin,
    log: &LogGuard,
) -> Result<ExitCode, StartError> {
    let runtime = runtime().map_err(StartError::Runtime)?;
    let code = runtime.block_on(async {
        let signals = signals::Signals::listen().map_err(StartError::Runtime)?;
        let (running, _) = start::start(config, origin, log, None)?;
        let notify = Notify::from_environment();
        Ok(supervise::supervise(running, notify, signals, log).await)
    });
    // A shard that does not stop must not keep the process.
    runtime.shutdown_background();
    code
}

fn take_over_and_supervise(
    config: Config,
    mut origin: Origin,
    socket: &Path,
    starter: Option<UnixStream>,
    log: &LogGuard,
) -> Result<ExitCode, StartError> {
    let runtime = runtime().map_err(StartError::Runtime)?;
    let code = runtime.block_on(async {
        let signals = signals::Signals::listen().map_err(StartError::Runtime)?;
        // Its listening sockets are many; whether the limit is enough shows below.
        let _ = net::raise_descriptor_limit();
        let mut old = Predecessor::meet(socket).map_err(StartError::TakeOver)?;
        let config = old
            .shape(config, &mut origin)
            .map_err(StartError::TakeOver)?;
        let (running, taken) = start::start(config, origin, log, Some(&mut old))?;
        let notify = match Notify::from_environment() {
            heard if heard.is_heard() => heard,
            _ => old
                .take_manager()
                .map_or(Notify::unheard(), Notify::inherited),
        };
        old.tidy_up();
        tell_of(&old, taken, starter);
        old.keep_in_touch(&running.estate.kin);
        Ok(supervise::supervise(running, notify, signals, log).await)
    });
    runtime.shutdown_background();
    code
}

/// Says what was taken over, to the log and to whoever started this process.
fn tell_of(old: &Predecessor, Taken { moved, stay }: Taken, starter: Option<UnixStream>) {
    let (pid, version) = (old.pid(), old.version());
    info!(
        moved,
        stay, "has taken over from process {pid}, version {version}"
    );
    if let Some(mut starter) = starter {
        let own = std::process::id();
        // Whoever started us may have gone.
        let _ = writeln!(
            starter,
            "turnstone {VERSION} (pid {own}) has taken over from pid {pid}: {moved} allocations moved, \
             {stay} stay there with their TCP, TLS and DTLS clients"
        );
        let _ = starter.shutdown(Shutdown::Both);
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
