//! The signals that a server heeds.

use std::io;

use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a server heeds; from here on none of them ends the process by itself.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
}

/// What a signal asks for.
pub(super) enum Wish {
    /// To end now.
    End(&'static str),
    /// To end soon.
    Stop,
    Drain,
    Reload,
}

impl Signals {
    /// Heeds them from now on. Needs the control thread's runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
        })
    }

    /// What the next one asks for.
    pub(super) async fn next(&mut self) -> Wish {
        select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
            _ = self.user_1.recv() => Wish::Drain,
        }
    }

    /// The next signal that asks to end.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Wish::End(name) => return name,
                Wish::Stop => return "SIGTERM",
                Wish::Drain | Wish::Reload => {}
            }
        }
    }
}
