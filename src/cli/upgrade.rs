//! `turnstone upgrade`: a new server in the place of the running one.

use std::env;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use super::args::{SocketArgs, UpgradeArgs};
use super::{Failure, fail, output, remote, run};
use crate::config::Config;
use crate::control;

/// Has a new server take over from the running one; returns when it serves, or with `--foreground` when it
/// has ended.
pub(super) fn upgrade(args: UpgradeArgs) -> ExitCode {
    if args.foreground {
        return serve(args);
    }
    match start(args) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

fn serve(args: UpgradeArgs) -> ExitCode {
    let starter = args.for_starter.then(starter).flatten();
    match run::settle(args.flags) {
        Ok((config, origin)) => {
            let socket = socket(args.socket, &config);
            control::take_over(config, origin, &socket, starter)
        }
        Err(failure) => fail(&failure),
    }
}

/// Who started us, at the other end of our standard input.
fn starter() -> Option<UnixStream> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    input.ok().map(UnixStream::from)
}

fn start(args: UpgradeArgs) -> Result<ExitCode, Failure> {
    let (config, _) = run::settle(args.flags)?;
    let socket = socket(args.socket, &config);
    if args.or_reload && runs_this_file(&socket) {
        let args = SocketArgs {
            socket: Some(socket),
            config: None,
        };
        return remote::tell(&args, control::Command::Reload).map(|()| ExitCode::SUCCESS);
    }
    start_server().map_err(|error| format!("the new server cannot be started: {error}"))
}

fn socket(named: Option<PathBuf>, config: &Config) -> PathBuf {
    named
        .or_else(|| config.control.clone())
        .unwrap_or_else(|| remote::DEFAULT_SOCKET.into())
}

/// Whether the server at `socket` was started from the file that this process was.
fn runs_this_file(socket: &Path) -> bool {
    let theirs = remote::ask(socket, control::Command::Binary);
    let own = control::binary().map(|own| format!("ok\n{own}\n"));
    theirs.is_ok() && theirs.ok() == own
}

/// Starts the server as a process of its own, and waits until it serves or has failed.
fn start_server() -> io::Result<ExitCode> {
    let (mut said, says) = UnixStream::pair()?;
    let mut server = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .args(["--foreground", "--for-starter"])
        .stdin(OwnedFd::from(says))
        // Whoever reads what this command prints must not wait for the end of the server.
        .stdout(Stdio::null())
        // What a terminal sends to its programs is not for the server.
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    // It ends when the server does, or after its line.
    let heard = said.read_to_string(&mut line);
    match line.strip_suffix('\n') {
        Some(line) if heard.is_ok() => {
            // Who does not read it sees the exit code.
            let _ = output::say(line);
            Ok(ExitCode::SUCCESS)
        }
        _ => end(&mut server),
    }
}

/// The server has said why.
fn end(server: &mut Child) -> io::Result<ExitCode> {
    let status = server.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(match code {
        Some(code) if code != 0 => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    })
}
