//! The Unix socket on which the server is told what to do: one line in, some lines out.
//!
//! The answer's first line is `ok` or `failed`; the rest is for people.

use std::fs::{Permissions, remove_file, set_permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::upgrade::{TAKE_OVER, UNKNOWN_COMMAND};
use crate::net::with_private_files;

/// The longest command in bytes, its line end included.
const LONGEST: usize = 32;
/// How long somebody who connects may take for the command, and for reading the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Say what a reload would change.
    Preview,
    /// Read the configuration anew.
    Reload,
    /// Make no new allocations, and end with the last one.
    Drain,
    /// Say which file the server was started from.
    Binary,
}

impl Command {
    /// The word for it on the socket.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Reload => "reload",
            Self::Drain => "drain",
            Self::Binary => "binary",
        }
    }

    fn of(word: &str) -> Option<Self> {
        let all = [Self::Preview, Self::Reload, Self::Drain, Self::Binary];
        all.into_iter().find(|command| command.word() == word)
    }
}

/// What came of a command, in words.
pub(super) type Answer = Result<String, String>;

/// What somebody wants of the server.
#[derive(Debug)]
pub(super) enum Order {
    /// A command, and whom to answer.
    Command(Command, oneshot::Sender<Answer>),
    /// Another process wants to take over, and waits to be answered on this.
    TakeOver(UnixStream),
}

/// The socket in the file system; the file goes with this, unless it is another process's.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    file: SocketFile,
}

/// Whether the file of a socket is ours.
#[derive(Clone, Debug)]
pub(super) struct SocketFile(Arc<AtomicBool>);

impl SocketFile {
    fn new(ours: bool) -> Self {
        Self(Arc::new(AtomicBool::new(ours)))
    }

    /// Makes it ours.
    pub(super) fn acquire(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Leaves it to another process.
    pub(super) fn leave(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn is_ours(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl ControlSocket {
    /// Binds `path`, in place of a socket that nobody listens on any more. Needs the control thread's
    /// runtime.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        // Nobody else may connect before the mode is set.
        let bind = || with_private_files(|| UnixListener::bind(path));
        let listener = match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
                remove_file(path)?;
                bind()?
            }
            bound => bound?,
        };
        set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            file: SocketFile::new(true),
        })
    }

    /// Goes on with the `listener` at `path` of another process, which keeps the file until it is
    /// [acquired](SocketFile::acquire). Needs the control thread's runtime.
    pub(super) fn adopt(path: &Path, listener: net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            path: path.to_owned(),
            listener: UnixListener::from_std(listener)?,
            file: SocketFile::new(false),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another process may go on with it.
    pub(super) fn is_adopted(&self) -> bool {
        !self.file.is_ours()
    }

    /// Whose file it is.
    pub(super) fn file(&self) -> SocketFile {
        self.file.clone()
    }

    /// Passes on what it is told, for ever.
    pub(super) async fn serve(self, orders: mpsc::Sender<Order>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, orders.clone()))),
                Err(error) => {
                    warn!("cannot accept a connection for control: {error}; trying again");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.file.is_ours() {
            // Whoever removed it before us has done what we want.
            let _ = remove_file(&self.path);
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Whether there is a socket at `path` on which nobody listens.
fn is_dead(path: &Path) -> bool {
    let is_socket = path
        .symlink_metadata()
        .map(|file| file.file_type().is_socket());
    is_socket.is_ok_and(|is_socket| is_socket)
        && net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

async fn converse(mut stream: UnixStream, orders: mpsc::Sender<Order>) {
    let Ok(Ok(command)) = timeout(PATIENCE, read_command(&mut stream)).await else {
        return debug!("a connection for control said nothing");
    };
    if command == TAKE_OVER {
        // The server is ending if nobody wants it.
        return drop(orders.send(Order::TakeOver(stream)).await);
    }
    let answer = match Command::of(&command) {
        Some(command) => carry_out(command, &orders).await,
        None => Err(format!(
            "{UNKNOWN_COMMAND}; there are preview, reload, drain and binary\n"
        )),
    };
    let text = match answer {
        Ok(text) => format!("ok\n{text}"),
        Err(text) => format!("failed\n{text}"),
    };
    // Whoever asked may have gone.
    let _ = timeout(PATIENCE, stream.write_all(text.as_bytes())).await;
}

async fn carry_out(command: Command, orders: &mpsc::Sender<Order>) -> Answer {
    let ending = || "the server is ending\n".to_owned();
    let (answer, answered) = oneshot::channel();
    let order = Order::Command(command, answer);
    orders.send(order).await.map_err(|_| ending())?;
    answered.await.unwrap_or_else(|_| Err(ending()))
}

async fn read_command(stream: &mut UnixStream) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(LONGEST);
    while bytes.len() < LONGEST && !bytes.ends_with(b"\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn say(path: &Path, text: &str) -> String {
        let mut stream = UnixStream::connect(path).await.expect("connect");
        stream.write_all(text.as_bytes()).await.expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    #[tokio::test]
    async fn commands_are_passed_on_and_answered() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("control.sock");
        let socket = ControlSocket::bind(&path).expect("bind");
        let mode = path.metadata().expect("socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (sender, mut orders) = mpsc::channel(1);
        let server = tokio::spawn(socket.serve(sender));
        let answering = tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                let Order::Command(command, answer) = order else {
                    panic!("a command");
                };
                let said = match command {
                    Command::Reload => Err("1: bad\n".to_owned()),
                    other => Ok(format!("{}\n", other.word())),
                };
                answer.send(said).expect("somebody waits");
            }
        });
        assert_eq!(say(&path, "preview\n").await, "ok\npreview\n");
        assert_eq!(say(&path, "reload\n").await, "failed\n1: bad\n");
        assert!(
            say(&path, "reboot\n")
                .await
                .starts_with("failed\nunknown command")
        );
        server.abort();
        let _ = server.await;
        answering.abort();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
        let living = ControlSocket::bind(&path).expect("bind in place of a dead one");
        let error = ControlSocket::bind(&path).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(living);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_kept() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("turnserver.toml");
        std::fs::write(&path, "[auth]\n").expect("write");
        let error = ControlSocket::bind(&path).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "[auth]\n");
    }
}
