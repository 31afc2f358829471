//! The old process's part: it gives what it has to the new one, or goes on as if nothing had been.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::bond;
use super::kin::{Kin, Side};
use super::line::{Kind, Line, LineError};
use super::words::{
    Binary, Farewell, Hello, Offer, Offered, OfferedUser, PROTOCOL, Service, read, write,
};
use crate::config::PlainUser;
use crate::control::VERSION;
use crate::control::notify::Notify;
use crate::shard::{Freezer, Give};
use crate::turn::RelaySet;

/// How long a word may take that needs no work.
const PROMPT: Duration = Duration::from_secs(5);
/// How long the new process may prepare.
const PREPARATION: Duration = Duration::from_secs(60);
/// How long the shards may stand still in all; less than they do by themselves.
const FROZEN: Duration = Duration::from_secs(15);
/// How long a new process that may have served a moment has to stop, before the shards go on.
const RETREAT: Duration = Duration::from_secs(2);

/// What a process has to give, and what it needs for that.
pub(in crate::control) struct Estate {
    pub(in crate::control) binary: Option<Binary>,
    pub(in crate::control) service: Option<Service>,
    pub(in crate::control) shards: u16,
    pub(in crate::control) freezer: Freezer,
    pub(in crate::control) kin: Arc<Kin>,
    pub(in crate::control) cookie_key: [u8; 32],
}

/// What listens for the operator.
#[derive(Debug, Default)]
pub(in crate::control) struct Doors {
    pub(in crate::control) metrics: Option<OwnedFd>,
    pub(in crate::control) control: Option<OwnedFd>,
}

impl Doors {
    /// Copies.
    pub(in crate::control) fn copy(&self) -> io::Result<Self> {
        let copy = |one: &Option<OwnedFd>| one.as_ref().map(OwnedFd::try_clone).transpose();
        Ok(Self {
            metrics: copy(&self.metrics)?,
            control: copy(&self.control)?,
        })
    }
}

/// How it went.
#[derive(Debug)]
pub(in crate::control) enum Outcome {
    /// Nothing has changed.
    Kept(String),
    /// The other process serves in our place; so many allocations moved, and so many stay.
    Given {
        version: String,
        moved: usize,
        stay: usize,
        /// How long nothing was relayed.
        paused: Duration,
    },
    /// It has ended since.
    Alone,
}

/// A conversation that goes on; when it is dropped before the other process was told to serve, it ends.
#[derive(Debug)]
pub(in crate::control) struct Giving {
    line: UnixStream,
    progress: Arc<Progress>,
}

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    /// The other process may serve.
    told: AtomicBool,
    /// It does, and it alone.
    given: AtomicBool,
}

impl Giving {
    /// Whether the other process serves.
    pub(in crate::control) fn is_done(&self) -> bool {
        self.progress.given.load(Ordering::Acquire)
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        if !self.progress.told.load(Ordering::Acquire) {
            // It fails only when the other end has gone.
            let _ = self.line.shutdown(Shutdown::Read);
        }
    }
}

/// Begins the conversation with the new process `pid` at the other end of `stream`, on a thread of its own,
/// which tells `outcome` how it went.
pub(in crate::control) fn give(
    stream: UnixStream,
    pid: i32,
    estate: &Arc<Estate>,
    doors: Doors,
    user: Option<PlainUser>,
    notify: Notify,
    outcome: UnboundedSender<Outcome>,
) -> io::Result<Giving> {
    let line = Line::new(stream)?;
    let giving = Giving {
        line: line.copy()?,
        progress: Arc::default(),
    };
    let mut giver = Giver {
        pid,
        estate: Arc::clone(estate),
        doors,
        line: Arc::new(Mutex::new(line)),
        user,
        notify,
        progress: Arc::clone(&giving.progress),
        until: Instant::now(),
    };
    thread::Builder::new()
        .name("upgrade".into())
        .spawn(move || giver.run(&outcome))?;
    Ok(giving)
}

struct Giver {
    pid: i32,
    estate: Arc<Estate>,
    doors: Doors,
    line: Arc<Mutex<Line>>,
    user: Option<PlainUser>,
    notify: Notify,
    progress: Arc<Progress>,
    /// When the shards must serve again.
    until: Instant,
}

impl Giver {
    fn run(&mut self, outcome: &UnboundedSender<Outcome>) {
        // Nobody listens any more when the process ends.
        match self.converse() {
            Ok(given) => {
                let _ = outcome.send(given);
                bond::hold(&mut lock(&self.line), &self.estate.kin, Side::Newer);
                let _ = outcome.send(Outcome::Alone);
            }
            Err(error) => {
                self.refuse(&error);
                let _ = outcome.send(Outcome::Kept(error.to_string()));
            }
        }
    }

    /// Tells the new process why it does not take over, unless that has said so itself.
    fn refuse(&self, error: &LineError) {
        if !matches!(error, LineError::Refused(_)) {
            lock(&self.line).refuse(&format!("the running server says: {error}"), PROMPT);
        }
    }

    /// Serves again, once the new process no longer does.
    fn go_on(&self, error: LineError, told_to_serve: bool) -> LineError {
        if told_to_serve {
            self.refuse(&error);
            // A shard that it has stopped no longer reads our sockets.
            let _ = lock(&self.line).await_end(RETREAT);
        }
        self.estate.freezer.resume();
        match (told_to_serve, error) {
            // It was told already.
            (true, error) => LineError::Refused(error.to_string()),
            (false, error) => error,
        }
    }

    fn converse(&mut self) -> Result<Outcome, LineError> {
        let hello = self.greet()?;
        self.offer()?;
        self.expect(Kind::Freeze, PREPARATION)?;
        let since = Instant::now();
        self.until = since + FROZEN;
        let (moved, relays) = self
            .give_state()
            .map_err(|error| self.go_on(error, false))?;
        self.have_it_serve()
            .map_err(|error| self.go_on(error, true))?;
        // Until it says which of them live there.
        self.estate.kin.note(Side::Newer, relays);
        self.progress.given.store(true, Ordering::Release);
        let paused = since.elapsed();
        // A shard that is late lets go all the same.
        let stay = self.estate.freezer.release().unwrap_or_default();
        self.notify.main_process(self.pid);
        let farewell = write(&Farewell { moved, stay });
        // The new process serves, whether it hears this or not.
        let _ = self.say(Kind::Released, &farewell, &[]);
        Ok(Outcome::Given {
            version: hello.version,
            moved,
            stay,
            paused,
        })
    }

    fn greet(&self) -> Result<Hello, LineError> {
        let hello = self.expect(Kind::Hello, PROMPT)?;
        let hello: Hello = read(&hello)?;
        if hello.protocol != PROTOCOL {
            let why = format!(
                "version {VERSION} runs, and cannot hand over to version {}: start that one anew",
                hello.version
            );
            lock(&self.line).refuse(&why, PROMPT);
            return Err(LineError::Refused(why));
        }
        Ok(hello)
    }

    fn offer(&mut self) -> Result<(), LineError> {
        let doors = std::mem::take(&mut self.doors);
        let estate = &self.estate;
        let lent = estate.freezer.lend()?;
        let records = lent.iter().filter_map(|one| one.ways.records.as_ref());
        let binds = lent.iter().filter_map(|one| one.ways.binds.as_ref());
        let clients = lent
            .iter()
            .flat_map(|one| &one.listeners)
            .map(|one| (Offered::Clients, one.as_fd()));
        let (what, descriptors): (Vec<_>, Vec<_>) = clients
            .chain(records.map(|one| (Offered::Records, one.as_fd())))
            .chain(binds.map(|one| (Offered::Binds, one.as_fd())))
            .chain(descriptor(Offered::Metrics, doors.metrics.as_ref()))
            .chain(descriptor(Offered::Control, doors.control.as_ref()))
            .chain(self.notify.descriptor().map(|one| (Offered::Manager, one)))
            .unzip();
        let user = self.user.clone();
        let offer = Offer {
            version: VERSION.into(),
            pid: std::process::id(),
            service: estate.service.clone(),
            shards: estate.shards,
            descriptors: what,
            user: user.map(|user| OfferedUser {
                name: user.name,
                password: user.password,
            }),
            cookie_key: estate.cookie_key,
        };
        self.say(Kind::Offer, &write(&offer), &descriptors)
    }

    /// Gives everything away while the shards stand still; tells how many allocations went, and the relays of
    /// all. The other process is ready to serve then.
    fn give_state(&self) -> Result<(usize, RelaySet), LineError> {
        self.estate.freezer.freeze()?;
        let relays = self.estate.kin.beyond(Side::Newer);
        lock(&self.line).say(Kind::Relays, &relays.to_bytes(), &[], self.left())?;
        let moved = self.estate.freezer.export(|| self.gift())?;
        self.expect(Kind::Ready, self.left())?;
        Ok((moved, relays))
    }

    /// Has the other process serve; it does then, and all shards are still there to let go.
    fn have_it_serve(&self) -> Result<(), LineError> {
        self.progress.told.store(true, Ordering::Release);
        self.say(Kind::Go, &[], &[])?;
        self.expect(Kind::Serving, self.left().min(PROMPT))?;
        Ok(self.estate.freezer.hold()?)
    }

    /// Called on a shard's thread.
    fn gift(&self) -> Give {
        let (line, left) = (Arc::clone(&self.line), self.left());
        Box::new(move |handover, sockets| {
            let said = lock(&line).say(Kind::State, &handover.to_bytes(), sockets, left);
            said.map_err(|error| io::Error::other(error.to_string()))
        })
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn say(
        &self,
        kind: Kind,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LineError> {
        lock(&self.line).say(kind, body, descriptors, PROMPT)
    }

    fn expect(&self, kind: Kind, patience: Duration) -> Result<Vec<u8>, LineError> {
        let frame = lock(&self.line).expect(kind, patience)?;
        Ok(frame.body)
    }
}

fn descriptor(what: Offered, owned: Option<&OwnedFd>) -> Option<(Offered, BorrowedFd<'_>)> {
    owned.map(|owned| (what, owned.as_fd()))
}

fn lock(line: &Mutex<Line>) -> std::sync::MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
