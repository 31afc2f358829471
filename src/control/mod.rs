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
mod log_queue;
mod logging;
mod notify;
mod relay_addresses;
mod reload;
mod shards;
mod socket;
mod start;
mod supervise;

use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};
use tracing::{error, warn};

pub use socket::Command;

use crate::config::{Config, Origin};
use error::StartError;
use logging::LogGuard;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the server that `config` describes until it is told to stop by SIGTERM or SIGINT, and says how
/// it went: 0 when it was told to stop, otherwise 1, after a line in the log. `origin` is where `config`
/// came from, for a reload; what is odd in it is logged at the beginning.
pub fn run(config: Config, origin: Origin) -> ExitCode {
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
    let code = match start_and_supervise(config, origin, &log) {
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
        let signals = supervise::Signals::listen().map_err(StartError::Runtime)?;
        let running = start::start(config, origin, log)?;
        Ok(supervise::supervise(running, signals, log).await)
    });
    // A shard that does not stop must not keep the process.
    runtime.shutdown_background();
    code
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
