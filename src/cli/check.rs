//! `turnstone check`: everything that is wrong with a file, at once.

use super::args::{CheckArgs, SocketArgs};
use super::{Failure, output, remote};
use crate::config::{Config, Overrides};
use crate::control::Command;

/// Says that the file is good, or fails with all its problems.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(Some(&args.file), &Overrides::default())
        .map_err(|report| report.to_string())?;
    for warning in &config.warnings {
        output::complain(&warning.to_string());
    }
    output::say(&format!("{}: ok", args.file.display()))?;
    if !args.running {
        return Ok(());
    }
    let socket = args.socket.clone().or(config.control);
    let server = SocketArgs {
        socket,
        config: None,
    };
    remote::tell(&server, Command::Preview)
}
