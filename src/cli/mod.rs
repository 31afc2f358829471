//! The command line: what is asked for, and everything that can be answered without a server.

mod args;
mod bench;
mod check;
mod credential;
mod key;
mod nat;
mod nat_text;
mod oauth;
mod output;
mod remote;
mod run;
mod server_address;
mod upgrade;
mod utc;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};

use crate::control;

/// Exit code 1.
type Failure = String;

/// Does what the command line asks for. Exit codes: 0 done, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        None => return run::run(cli.flags),
        Some(Command::Bench(args)) => bench::bench(&args),
        Some(Command::Check(args)) => check::check(&args),
        Some(Command::Credential(args)) => credential::credential(&args),
        Some(Command::Drain(args)) => remote::tell(&args, control::Command::Drain),
        Some(Command::Key(args)) => key::key(&args),
        Some(Command::Nat(args)) => nat::nat(&args),
        Some(Command::Reload(args)) => remote::tell(&args, control::Command::Reload),
        Some(Command::Upgrade(args)) => return upgrade::upgrade(*args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &str) -> ExitCode {
    output::complain(failure);
    ExitCode::FAILURE
}

/// Help and version are no errors to clap's exit code, though they come as one.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed terminal is nobody to complain to.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
