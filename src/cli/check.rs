//! `turnstone check`: everything that is wrong with a file, at once.

use std::fs::File;
use std::path::PathBuf;

use super::args::{CheckArgs, SocketArgs};
use super::{Failure, output, remote};
use crate::config::{Config, Overrides};
use crate::control::Command;
use crate::net::Account;

/// Says that the file is good, or fails with all its problems.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(Some(&args.file), &Overrides::default())
        .map_err(|report| report.to_string())?;
    for warning in &config.warnings {
        output::complain(&warning.to_string());
    }
    output::say(&format!("{}: ok", args.file.display()))?;
    if args.running {
        preview(args, &config)?;
    }
    if let Some(user) = &config.process.user {
        complain_of_user(user, &config.files);
    }
    Ok(())
}

/// Says what a reload would change.
fn preview(args: &CheckArgs, config: &Config) -> Result<(), Failure> {
    let socket = args.socket.clone().or(config.control.clone());
    let server = SocketArgs {
        socket,
        config: None,
    };
    remote::tell(&server, Command::Preview)
}

/// Says what `user` cannot read, as far as this process may become that user. It does, for good.
fn complain_of_user(user: &str, files: &[PathBuf]) {
    let Ok(Some(account)) = Account::find(user) else {
        return output::complain(&format!(
            "warning: process.user: there is no user {user:?} here"
        ));
    };
    if !account.is_current() && account.assume().is_err() {
        return;
    }
    for file in files.iter().filter(|file| File::open(file).is_err()) {
        let file = file.display();
        output::complain(&format!(
            "warning: {file}: user {user:?} cannot read it, so that a reload will fail"
        ));
    }
}
