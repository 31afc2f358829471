//! The new process's part: it learns what there is, prepares everything that can fail, and takes over.

use std::fs::remove_file;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::ask::ask;
use super::bond;
use super::deed::{Claim, Title};
use super::error::TakeOverError;
use super::kin::{Kin, Side};
use super::line::{Frame, Kind, Line, LineError};
use super::words::{Farewell, Hello, Offer, Offered, Service, Speaker, read, write};
use crate::config::{Config, Origin, PlainUser};
use crate::net::Inherited;
use crate::shard::{Bequest, HeldSockets, Ways};
use crate::turn::{Handed, Handover, RelaySet};

/// How long a word may take that needs no work.
const PROMPT: Duration = Duration::from_secs(5);
/// How long the state of a shard, or the word after it, may take.
const STATE: Duration = Duration::from_secs(20);

/// The process from which this one takes over.
pub(in crate::control) struct Predecessor {
    line: Line,
    /// Where it was reached.
    path: PathBuf,
    offer: Offer,
    /// Its listening sockets.
    pub(in crate::control) clients: Inherited,
    /// Where the records of DTLS sessions go that stay with it.
    records: Vec<OwnedFd>,
    /// Where the data connections of its TCP allocations go.
    binds: Vec<OwnedFd>,
    metrics: Option<TcpListener>,
    control: Option<UnixListener>,
    manager: Option<UnixDatagram>,
    claim: Claim,
}

/// The state of the shards, as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::control) struct Taken {
    /// Allocations that moved.
    pub(in crate::control) moved: usize,
    /// Allocations that stay with the old process.
    pub(in crate::control) stay: usize,
}

impl Predecessor {
    /// Meets the server that listens for commands at `path`; nothing has changed there yet.
    pub(in crate::control) fn meet(path: &Path) -> Result<Self, TakeOverError> {
        let unreachable = |error| TakeOverError::Unreachable(path.to_owned(), error);
        let mut stream = UnixStream::connect(path).map_err(unreachable)?;
        ask(&mut stream)?;
        let mut line = Line::new(stream).map_err(LineError::Io)?;
        line.say(Kind::Hello, &write(&Hello::own()), &[], PROMPT)?;
        let Frame {
            body, descriptors, ..
        } = line.expect(Kind::Offer, PROMPT)?;
        Speaker::heard(&body, Side::Older)?;
        let offer: Offer = read(&body)?;
        let mut lent: Vec<_> = offer.descriptors.iter().copied().zip(descriptors).collect();
        let (_, claim) = lent
            .pop_if(|(what, _)| *what == Offered::Claim)
            .ok_or(LineError::Confused)?;
        let mut predecessor = Self {
            line,
            path: path.to_owned(),
            clients: Inherited::default(),
            records: Vec::new(),
            binds: Vec::new(),
            metrics: None,
            control: None,
            manager: None,
            claim: Claim::new(claim),
            offer,
        };
        for (what, descriptor) in lent {
            predecessor.keep(what, descriptor)?;
        }
        if !predecessor.clients.is_whole(predecessor.shards().into()) {
            return Err(LineError::Confused.into());
        }
        Ok(predecessor)
    }

    fn keep(&mut self, what: Offered, descriptor: OwnedFd) -> Result<(), LineError> {
        match what {
            Offered::Clients => self.clients.add(descriptor)?,
            Offered::Records => self.records.push(descriptor),
            Offered::Binds => self.binds.push(descriptor),
            Offered::Metrics => self.metrics = Some(descriptor.into()),
            Offered::Control => self.control = Some(descriptor.into()),
            Offered::Manager => self.manager = Some(descriptor.into()),
            // There is one, and it comes last.
            Offered::Claim => return Err(LineError::Confused),
        }
        Ok(())
    }

    /// `config` as this process must have it in the place of the old one. `origin` is made to say the same.
    pub(in crate::control) fn shape(
        &self,
        mut config: Config,
        origin: &mut Origin,
    ) -> Result<Config, TakeOverError> {
        let old = self
            .offer
            .service
            .as_ref()
            .filter(|_| self.manager.is_some());
        if let (Some(old), Some(own)) = (old, Service::own())
            && !old.has(&own)
        {
            let why = "it is a service, and this process would not be: have the service manager start it \
                       (`systemctl reload turnstone`)";
            return Err(TakeOverError::Unusable(why.into()));
        }
        self.keep_user(&mut config, origin)?;
        if config.workers.get() != self.shards() {
            warn!(
                "server.workers: the {} of the running server stay until a restart",
                self.shards()
            );
        }
        config.workers = NonZeroU16::new(self.shards()).unwrap_or(NonZeroU16::MIN);
        Ok(config)
    }

    /// Goes on with the user whose password the old process made up.
    fn keep_user(&self, config: &mut Config, origin: &mut Origin) -> Result<(), TakeOverError> {
        let Some(user) = self.user() else {
            return match config.needs_user() {
                true => Err(TakeOverError::Unusable(
                    "it has users or secrets, and this configuration has none: give it the same \
                     --config or flags"
                        .into(),
                )),
                false => Ok(()),
            };
        };
        let flags = origin.overrides.users.iter_mut();
        flags
            .filter(|flag| flag.generated && flag.name == user.name)
            .for_each(|flag| flag.password.clone_from(&user.password));
        config.keep_zero_config_user(user);
        Ok(())
    }

    /// How many shards it has, and this process must have.
    pub(in crate::control) fn shards(&self) -> u16 {
        self.offer.shards
    }

    pub(in crate::control) fn pid(&self) -> u32 {
        self.offer.pid
    }

    /// Its version.
    pub(in crate::control) fn version(&self) -> &str {
        &self.offer.version
    }

    /// Keys the cookies of DTLS.
    pub(in crate::control) fn cookie_key(&self) -> [u8; 32] {
        self.offer.cookie_key
    }

    fn user(&self) -> Option<PlainUser> {
        let user = self.offer.user.clone();
        user.map(|user| PlainUser {
            name: user.name,
            password: user.password,
        })
    }

    /// Where each shard passes on what is of clients that stay with the old process.
    pub(in crate::control) fn take_ways(&mut self) -> Vec<Ways> {
        let (mut records, mut binds) = (self.records.drain(..), self.binds.drain(..));
        let next = |_| Ways {
            records: records.next(),
            binds: binds.next(),
        };
        (0..self.offer.shards).map(next).collect()
    }

    /// What listens for metrics at `address`, if it has that.
    pub(in crate::control) fn take_metrics(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_there = |listener: &mut TcpListener| listener.local_addr().ok() == Some(address);
        self.metrics.take_if(is_there)
    }

    /// What listens for commands at `path`, if that is where it was reached.
    pub(in crate::control) fn take_control(&mut self, path: &Path) -> Option<UnixListener> {
        self.control.take_if(|_| is_same_file(&self.path, path))
    }

    /// Where it was reached.
    pub(in crate::control) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket at which it was reached, if nobody listens there from now on.
    pub(in crate::control) fn tidy_up(&mut self) {
        let left = self.control.take();
        if let Some(Err(error)) = left.map(|_| remove_file(&self.path)) {
            let path = self.path.display();
            warn!("{path}, where nobody listens any more, cannot be removed: {error}");
        }
    }

    /// The way to its service manager.
    pub(in crate::control) fn take_manager(&mut self) -> Option<UnixDatagram> {
        self.manager.take()
    }

    /// Takes over: the shards behind `bequests` get the state, and nobody else serves any more. The sockets
    /// that go with it are held in `held`. Tells how many allocations there are.
    pub(in crate::control) fn take_over(
        &mut self,
        bequests: &[Bequest],
        held: &HeldSockets,
        kin: &Kin,
    ) -> Result<usize, TakeOverError> {
        let mut relays = Vec::new();
        let moved = self.take_in(bequests, held, &mut relays, kin)?;
        // Nobody asked for those whose allocations were left out.
        relays.iter().for_each(|local| held.forget(*local));
        self.take_deed()?;
        Ok(moved)
    }

    /// Has the shards serve that have [taken over](Self::take_over); tells how many allocations stay with the
    /// old process. If this process ends instead, that one goes on.
    pub(in crate::control) fn serve(&mut self, bequests: &[Bequest]) -> usize {
        bequests.iter().for_each(Bequest::serve);
        if let Err(error) = self.line.say(Kind::Serving, &[], &[], PROMPT) {
            // What the old process said last may still wait to be heard.
            warn!("the old process does not hear that this one serves: {error}");
        }
        self.farewell()
    }

    /// Has the shards take in the state; tells how many allocations there are. When the old process dies
    /// with a part of it, the rest begins with nothing.
    fn take_in(
        &mut self,
        bequests: &[Bequest],
        held: &HeldSockets,
        relays: &mut Vec<SocketAddr>,
        kin: &Kin,
    ) -> Result<usize, TakeOverError> {
        let mut given = 0;
        let heard = self.hear_states(kin, |state| {
            bequests[given].give(Some(unpack(state, held, relays)?));
            given += 1;
            Ok(given < bequests.len())
        });
        match heard {
            Err(TakeOverError::Line(LineError::Gone))
                if self.claim.take_within(PROMPT).is_ours() =>
            {
                warn!("the running server has died before it gave everything: its calls are lost");
                bequests[given..]
                    .iter()
                    .for_each(|bequest| bequest.give(None));
            }
            heard => heard?,
        }
        imported(bequests)
    }

    /// Passes on the state of each shard, until `more` says that those are all.
    fn hear_states(
        &mut self,
        kin: &Kin,
        mut more: impl FnMut(Frame) -> Result<bool, TakeOverError>,
    ) -> Result<(), TakeOverError> {
        self.line.say(Kind::Freeze, &[], &[], PROMPT)?;
        let relays = self.line.expect(Kind::Relays, STATE)?;
        let relays = RelaySet::from_bytes(&relays.body).map_err(|_| LineError::Confused)?;
        kin.note(Side::Older, relays);
        while more(self.line.expect(Kind::State, STATE)?)? {}
        Ok(())
    }

    /// Takes the deed, which the old process signs once this one is ready. An error says that this process
    /// never serves.
    fn take_deed(&mut self) -> Result<(), TakeOverError> {
        // Whether it hears that or not, the deed says what it has come to.
        let _ = self.line.say(Kind::Ready, &[], &[], PROMPT);
        match self.claim.take_within(STATE) {
            Title::Ours => Ok(()),
            Title::Orphaned => {
                warn!("the running server has died: this process serves in its place");
                Ok(())
            }
            Title::Theirs => {
                let why = self.line.expect(Kind::Refused, PROMPT);
                Err(why.err().unwrap_or(LineError::Confused).into())
            }
            Title::Open => Err(LineError::Silent.into()),
        }
    }

    /// How many allocations stay with the old process.
    fn farewell(&mut self) -> usize {
        let released = self.line.expect(Kind::Released, STATE);
        match released.and_then(|frame| read::<Farewell>(&frame.body)) {
            Ok(farewell) => farewell.stay,
            Err(error) => {
                warn!("the old process has not said that it let go: {error}");
                0
            }
        }
    }

    /// Goes on telling the old process which relays live here, until it ends.
    pub(in crate::control) fn keep_in_touch(self, kin: &Arc<Kin>) {
        // Sockets that found no use here close with the rest.
        let Self { mut line, .. } = self;
        let kin_there = Arc::clone(kin);
        kin.meet_older();
        let hold = move || bond::hold(&mut line, &kin_there, Side::Older);
        if let Err(error) = thread::Builder::new().name("upgrade".into()).spawn(hold) {
            warn!("the clients of the old process can be no peers of ours: {error}");
            kin.forget(Side::Older);
        }
    }
}

/// Whether both are names of one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

/// The state of a shard, whose sockets are held then; those of allocations are noted in `relays`.
fn unpack(
    state: Frame,
    held: &HeldSockets,
    relays: &mut Vec<SocketAddr>,
) -> Result<Handover, TakeOverError> {
    let handover = Handover::from_bytes(&state.body);
    let handover = handover.map_err(|error| TakeOverError::Unusable(error.to_string()))?;
    let mut sockets = state.descriptors.into_iter().map(UdpSocket::from);
    for handed in handover.sockets() {
        let (Handed::Relay { local, .. } | Handed::Reserved { local }) = handed;
        let socket = sockets.next().ok_or(LineError::Confused)?;
        if socket.local_addr().map_err(LineError::Io)? != local {
            return Err(LineError::Confused.into());
        }
        held.hold(local, socket);
        if matches!(handed, Handed::Relay { .. }) {
            relays.push(local);
        }
    }
    Ok(handover)
}

/// Waits until all shards have taken in their states; tells how many allocations there are.
fn imported(bequests: &[Bequest]) -> Result<usize, TakeOverError> {
    let mut moved = 0;
    for (index, bequest) in bequests.iter().enumerate() {
        let imported = bequest.imported();
        let imported = imported.map_err(|error| TakeOverError::Unusable(error.to_string()))?;
        moved += imported.allocations;
        for problem in &imported.problems {
            warn!(shard = index, ?problem, "a part of the state was left out");
        }
    }
    Ok(moved)
}
