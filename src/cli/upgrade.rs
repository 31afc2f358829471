//! `turnstone upgrade`: a new server in the place of the running one.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::args::{SocketArgs, UpgradeArgs};
use super::{Failure, fail, output, remote, run};
use crate::config::Config;
use crate::control;

/// How long the process that starts the server may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has a new server take over from the running one; returns when it serves, or with `--foreground` when it
/// has ended.
///
/// Three processes: the command waits for the server's word, one that it starts starts the server and ends
/// at once, so that the server is the service manager's child, and then there is the server.
pub(super) fn upgrade(args: UpgradeArgs) -> ExitCode {
    if args.foreground {
        return serve(args);
    }
    let done = match args.detach {
        true => start_server().map_err(cannot_start),
        false => command(args),
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

fn serve(args: UpgradeArgs) -> ExitCode {
    let starter = args.detached_by.and_then(|parent| {
        wait_for_the_end_of(parent);
        starter()
    });
    match run::settle(args.flags) {
        Ok((config, origin)) => {
            let socket = socket(args.socket, &config);
            control::take_over(config, origin, &socket, starter)
        }
        Err(failure) => fail(&failure),
    }
}

/// Until it has ended, `parent` is our parent.
fn wait_for_the_end_of(parent: u32) {
    let since = Instant::now();
    while parent_id() == parent && since.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Who started us, at the other end of our standard input.
fn starter() -> Option<UnixStream> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    input.ok().map(UnixStream::from)
}

fn command(args: UpgradeArgs) -> Result<ExitCode, Failure> {
    let (config, _) = run::settle(args.flags)?;
    let socket = socket(args.socket, &config);
    if args.or_reload && runs_this_file(&socket) {
        let args = SocketArgs {
            socket: Some(socket),
            config: None,
        };
        return remote::tell(&args, control::Command::Reload).map(|()| ExitCode::SUCCESS);
    }
    wait_for_server().map_err(cannot_start)
}

fn cannot_start(error: io::Error) -> Failure {
    format!("the new server cannot be started: {error}")
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

/// Has the server started, and waits until it serves or has failed.
fn wait_for_server() -> io::Result<ExitCode> {
    let (mut said, says) = UnixStream::pair()?;
    let status = again()?
        .arg("--detach")
        .stdin(OwnedFd::from(says))
        // Whoever reads what this command prints must not wait for the end of the server.
        .stdout(Stdio::null())
        .status()?;
    let mut line = String::new();
    // It ends when the server does, or after its line.
    let heard = said.read_to_string(&mut line);
    match line.strip_suffix('\n') {
        Some(line) if heard.is_ok() && status.success() => {
            // Who does not read it sees the exit code.
            let _ = output::say(line);
            Ok(ExitCode::SUCCESS)
        }
        // The server has said why.
        _ => Ok(ExitCode::FAILURE),
    }
}

fn start_server() -> io::Result<ExitCode> {
    let server = again()?
        .args(["--foreground", "--detached-by", &process::id().to_string()])
        // What a terminal sends to its programs is not for the server.
        .process_group(0)
        .spawn();
    server.map(|_| ExitCode::SUCCESS)
}

/// This command once more.
fn again() -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let is_kept = |argument: &OsString| argument != "--detach" && argument != "--or-reload";
    command.args(env::args_os().skip(1).filter(is_kept));
    Ok(command)
}
