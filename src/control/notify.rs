//! Tells systemd how the service is (sd_notify(3)): ready, or stopping, and what it does.

use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use tracing::debug;

/// The socket that the service manager listens on, if one started us.
#[derive(Clone, Debug)]
pub(super) struct Notify {
    manager: Option<Arc<UnixDatagram>>,
}

impl Notify {
    /// The socket that `NOTIFY_SOCKET` names.
    pub(super) fn from_environment() -> Self {
        let manager = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            connect(&name)
                .inspect_err(|error| debug!("NOTIFY_SOCKET cannot be used: {error}"))
                .ok()
        });
        Self {
            manager: manager.map(Arc::new),
        }
    }

    /// The socket that another process of the service was given.
    pub(super) fn inherited(manager: UnixDatagram) -> Self {
        Self {
            manager: Some(Arc::new(manager)),
        }
    }

    /// No service manager.
    pub(super) const fn unheard() -> Self {
        Self { manager: None }
    }

    /// Whether there is a service manager.
    pub(super) fn is_heard(&self) -> bool {
        self.manager.is_some()
    }

    /// The way to the service manager, for another process of the service.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.manager.as_ref().map(|manager| manager.as_fd())
    }

    /// The service is that of another process from now on.
    pub(super) fn main_process(&self, pid: i32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// The server serves clients, and how.
    pub(super) fn ready(&self, status: &impl Display) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// What the server does, in a line.
    pub(super) fn status(&self, status: &impl Display) {
        self.send(&format!("STATUS={status}"));
    }

    /// The configuration is read anew; [`ready`](Self::ready) follows.
    pub(super) fn reloading(&self) {
        self.send("RELOADING=1");
    }

    /// The server has begun to stop.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, state: &str) {
        if let Some(manager) = &self.manager
            && let Err(error) = manager.send(state.as_bytes())
        {
            debug!("the service manager was not told {state}: {error}");
        }
    }
}

/// A path, or behind a `@` the name of an abstract socket.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(manager: &UnixDatagram, name: &OsStr) {
        let notify = Notify {
            manager: Some(Arc::new(connect(name).expect("connect"))),
        };
        notify.ready(&"well");
        notify.status(&"so so");
        notify.stopping();
        notify.main_process(7);
        let mut received = [0; 64];
        for expected in [
            "READY=1\nSTATUS=well",
            "STATUS=so so",
            "STOPPING=1",
            "MAINPID=7",
        ] {
            let length = manager.recv(&mut received).expect("message");
            assert_eq!(&received[..length], expected.as_bytes());
        }
    }

    #[test]
    fn a_path_is_told() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bind");
        check(&manager, path.as_os_str());
    }

    #[test]
    fn an_abstract_name_is_told() {
        let name = format!("turnstone-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("address");
        let manager = UnixDatagram::bind_addr(&address).expect("bind");
        check(&manager, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        Notify { manager: None }.ready(&"");
    }
}
