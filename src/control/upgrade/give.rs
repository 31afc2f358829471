//! The old process's part: it gives what it has to the new one, or goes on as if nothing had been.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::bond;
use super::deed::Deed;
use super::kin::{Kin, Side};
use super::line::{Kind, Line, LineError};
use super::words::{
    Binary, Farewell, Offer, Offered, OfferedUser, PROTOCOL, Service, Speaker, write,
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
/// How long the new process may take with the state; less than the shards stand still by themselves.
const FROZEN: Duration = Duration::from_secs(15);

/// What a process has to give, and what it needs for that.
pub(in crate::control) struct Estate {
    pub(in crate::control) binary: Option<Binary>,
    pub(in crate::control) service: Option<Service>,
    /// Why nobody can take over, if that is so.
    pub(in crate::control) must_stay: Option<&'static str>,
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

/// A conversation that goes on; when it is dropped before the other process has the deed, it ends.
#[derive(Debug)]
pub(in crate::control) struct Giving {
    line: UnixStream,
    stand: Arc<Stand>,
}

/// How it stands.
#[derive(Debug)]
struct Stand {
    deed: Mutex<Deed>,
    /// The other process serves, and it alone.
    given: AtomicBool,
    /// This process has something else to do now.
    withdrawn: AtomicBool,
}

impl Giving {
    /// Whether the other process serves.
    pub(in crate::control) fn is_done(&self) -> bool {
        self.stand.given.load(Ordering::Acquire)
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        if lock(&self.stand.deed).keep() {
            self.stand.withdrawn.store(true, Ordering::Release);
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
    let (deed, claim) = Deed::draw()?;
    let giving = Giving {
        line: line.copy()?,
        stand: Arc::new(Stand {
            deed: Mutex::new(deed),
            given: AtomicBool::new(false),
            withdrawn: AtomicBool::new(false),
        }),
    };
    let mut giver = Giver {
        pid,
        estate: Arc::clone(estate),
        doors,
        line: Arc::new(Mutex::new(line)),
        user,
        notify,
        stand: Arc::clone(&giving.stand),
        claim,
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
    stand: Arc<Stand>,
    /// What the new process takes the deed by.
    claim: OwnedFd,
    /// When the new process must be ready.
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
                let withdrawn = self.stand.withdrawn.load(Ordering::Acquire);
                let error = if withdrawn {
                    LineError::Withdrawn
                } else {
                    error
                };
                self.refuse(&error);
                let _ = outcome.send(Outcome::Kept(error.to_string()));
            }
        }
    }

    /// Tells the new process why it does not take over, unless that has said so itself.
    fn refuse(&self, error: &LineError) {
        // Before the line ends: the new process asks for the deed then.
        lock(&self.stand.deed).keep();
        if !matches!(error, LineError::Refused(_)) {
            lock(&self.line).refuse(&format!("the running server says: {error}"), PROMPT);
        }
    }

    fn converse(&mut self) -> Result<Outcome, LineError> {
        let hello = self.greet()?;
        self.offer()?;
        self.expect(Kind::Freeze, PREPARATION)?;
        let since = Instant::now();
        self.until = since + FROZEN;
        let given = self.give_state().and_then(|given| {
            self.part()?;
            Ok(given)
        });
        let (moved, relays) = given.inspect_err(|_| self.estate.freezer.resume())?;
        // Until it says which of them live there.
        self.estate.kin.note(Side::Newer, relays);
        self.stand.given.store(true, Ordering::Release);
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

    fn greet(&self) -> Result<Speaker, LineError> {
        let hello = self.expect(Kind::Hello, PROMPT)?;
        Speaker::heard(&hello, Side::Newer).inspect_err(|error| {
            if let LineError::Refused(why) = error {
                lock(&self.line).refuse(why, PROMPT);
            }
        })
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
            .chain([(Offered::Claim, self.claim.as_fd())])
            .unzip();
        let user = self.user.clone();
        let offer = Offer {
            protocol: PROTOCOL,
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
        // Most of them are about to be the other process's own.
        let relays = self.estate.kin.beyond_uncounted(Side::Newer);
        lock(&self.line).say(Kind::Relays, &relays.to_bytes(), &[], self.left())?;
        let moved = self.estate.freezer.export(|| self.gift())?;
        self.expect(Kind::Ready, self.left())?;
        Ok((moved, relays))
    }

    /// Parts with the deed. An error says that the other process does not have it, or has died with it.
    fn part(&self) -> Result<(), LineError> {
        // From here on no shard goes on by itself.
        self.estate.freezer.hold()?;
        lock(&self.stand.deed).sign()?;
        let heard = self.expect(Kind::Serving, PROMPT);
        if lock(&self.stand.deed).keep() {
            return Err(heard.err().unwrap_or(LineError::Confused));
        }
        match heard {
            Err(LineError::Gone) => Err(LineError::Gone),
            Err(error) => {
                warn!(
                    "process {} has everything, and does not say that it serves: {error}",
                    self.pid
                );
                Ok(())
            }
            Ok(_) => Ok(()),
        }
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

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
