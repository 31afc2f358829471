//! The control plane of many clients at once: requests, challenges, retransmissions.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::caller::{Account, Caller, Pending};
use super::error::LoadError;
use super::family::Family;
use super::intake::Intake;
use super::link::Opener;
use super::plan::Target;
use super::stamp::Origin;
use super::wire::{self, Answer, Step};
use crate::net::{Epoll, Events, Interest};

/// A request is sent again after this time. Constant, so that the deadlines stay in order.
const AGAIN: u64 = 500_000_000;
/// How often a request is sent before the server counts as silent.
const MOST_SENT: u32 = 10;
/// The same where nobody minds.
const FEW_SENT: u32 = 3;
/// How often a server may ask for another attempt: with a fresh nonce, from another port.
const MOST_AGAIN: u32 = 5;
const EVENTS: usize = 256;

/// The control plane of one worker's clients.
pub(super) struct Enrolment<'w> {
    pub(super) target: &'w Target,
    pub(super) account: &'w mut Account,
    pub(super) opener: &'w mut Opener,
    pub(super) callers: &'w mut [Caller],
    pub(super) poller: &'w Epoll,
    pub(super) origin: Origin,
    pub(super) stop: &'w AtomicBool,
    /// Refusals, silence and closed connections end a client's errands and nobody else's.
    pub(super) lenient: bool,
    /// Nanoseconds in which there was nothing to do are added here.
    pub(super) idle: &'w Cell<u64>,
    /// Clients with a request under way at a time.
    pub(super) at_once: usize,
    /// Datagram sockets take in trains.
    pub(super) trains: bool,
}

/// Says what a client does next: called with no step at first, then with each that is done.
pub(super) type Script<'s> = dyn FnMut(usize, Option<Step>) -> Option<Step> + 's;

/// What waits while a script is performed.
struct Errands {
    /// When, which client, which of its requests.
    deadlines: VecDeque<(u64, usize, [u8; 12])>,
    under_way: usize,
    /// Something came that is no STUN message.
    garbled: bool,
    /// The server gives no more, with this code. What is under way is waited for, so that it is known how
    /// many it gave; nothing new is asked for.
    exhausted: Option<u16>,
}

impl Errands {
    /// Whether another client may begin.
    fn wants_more(&self, at_once: usize) -> bool {
        self.exhausted.is_none() && self.under_way < at_once
    }
}

impl Enrolment<'_> {
    /// Has every client do what `script` says, until nobody has anything left to do.
    ///
    /// # Errors
    /// The server refuses, is silent or gone; the run was interrupted.
    pub(super) fn perform(&mut self, script: &mut Script<'_>) -> Result<(), LoadError> {
        let mut errands = Errands {
            deadlines: VecDeque::new(),
            under_way: 0,
            garbled: false,
            exhausted: None,
        };
        let mut events = Events::with_capacity(EVENTS);
        let mut intake = Intake::new(1, self.trains);
        let mut next = 0;
        loop {
            while errands.wants_more(self.at_once) && next < self.callers.len() {
                if let Some(step) = script(next, None) {
                    errands.under_way += 1;
                    self.begin(&mut errands, next, step)?;
                }
                next += 1;
            }
            if errands.under_way == 0 {
                return match errands.exhausted {
                    Some(code) => Err(LoadError::Exhausted(code, self.held())),
                    None => Ok(()),
                };
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            self.wait(&mut events)?;
            for i in 0..events.len() {
                let token = events.get(i).map_or(usize::MAX as u64, |event| event.token);
                let client = usize::try_from(token).unwrap_or(usize::MAX);
                self.receive(&mut errands, client, &mut intake, script)?;
            }
            self.repeat(&mut errands)?;
        }
    }

    /// How many clients have an allocation.
    fn held(&self) -> u64 {
        let held = self
            .callers
            .iter()
            .filter(|caller| caller.relayed.is_some());
        held.count() as u64
    }

    /// Passes `error` on, or ends the errands of `client` alone.
    fn fail(
        &mut self,
        errands: &mut Errands,
        client: usize,
        error: LoadError,
    ) -> Result<(), LoadError> {
        if !self.lenient {
            return Err(error);
        }
        self.callers[client].pending = None;
        errands.under_way -= 1;
        Ok(())
    }

    fn wait(&self, events: &mut Events) -> Result<(), LoadError> {
        let before = self.origin.nanos();
        let waited = self.poller.wait(events, Some(Duration::from_millis(50)));
        self.idle
            .set(self.idle.get() + self.origin.nanos() - before);
        Ok(waited?)
    }

    fn begin(&mut self, errands: &mut Errands, client: usize, step: Step) -> Result<(), LoadError> {
        if let Step::Allocate(_) = step {
            // Every allocation starts from the challenge, and from a port that had none before: servers
            // may keep an allocation for a while after its end.
            self.callers[client].signature = None;
            if self.callers[client].used {
                self.move_away(client)?;
            }
        }
        let login = self.account.login.as_ref();
        self.callers[client].ask(client, step, login)?;
        self.send(errands, client)
    }

    /// Gives `client` another socket.
    fn move_away(&mut self, client: usize) -> Result<(), LoadError> {
        let link = self.opener.open()?;
        self.poller.add(&link, client as u64, Interest::Read)?;
        let caller = &mut self.callers[client];
        caller.link = link;
        caller.used = false;
        Ok(())
    }

    fn send(&mut self, errands: &mut Errands, client: usize) -> Result<(), LoadError> {
        let caller = &mut self.callers[client];
        let Some(pending) = &mut caller.pending else {
            return Ok(());
        };
        pending.sent += 1;
        let due = self.origin.nanos() + AGAIN;
        errands.deadlines.push_back((due, client, pending.id));
        let once = self.target.transport.is_stream() && pending.sent > 1;
        if once {
            return Ok(());
        }
        let length = pending.request.len();
        match caller.link.send(&pending.request, length) {
            Ok(_) => Ok(()),
            Err(error) => self.fail(errands, client, gone(self.target, error)),
        }
    }

    /// Sends again what has waited long enough.
    fn repeat(&mut self, errands: &mut Errands) -> Result<(), LoadError> {
        let now = self.origin.nanos();
        while let Some((due, client, id)) = errands.deadlines.front().copied() {
            if due > now {
                break;
            }
            errands.deadlines.pop_front();
            let Some(pending) = &self.callers[client].pending else {
                continue;
            };
            if pending.id != id {
                continue;
            }
            let most = if self.lenient { FEW_SENT } else { MOST_SENT };
            if pending.sent < most {
                self.send(errands, client)?;
                continue;
            }
            let server = self.target.server;
            let seconds = AGAIN * u64::from(MOST_SENT) / 1_000_000_000;
            let error = match errands.garbled {
                true => LoadError::NotStun(server),
                false => LoadError::Silent(server, self.target.transport, seconds),
            };
            self.fail(errands, client, error)?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        errands: &mut Errands,
        client: usize,
        intake: &mut Intake,
        script: &mut Script<'_>,
    ) -> Result<(), LoadError> {
        loop {
            // Tokens beyond the clients are the peers'.
            let Some(caller) = self.callers.get_mut(client) else {
                return Ok(());
            };
            let read = read_answer(caller, intake, &mut errands.garbled);
            let (more, answer) = match read {
                Ok(read) => read,
                Err(_) if caller.pending.is_none() => return Ok(()),
                Err(error) => return self.fail(errands, client, gone(self.target, error)),
            };
            if let Some(answer) = answer {
                self.answered(errands, client, answer, script)?;
            }
            // One datagram is the rule; what else there is, the poller reports again.
            if !more || !self.target.transport.is_stream() {
                return Ok(());
            }
        }
    }

    fn answered(
        &mut self,
        errands: &mut Errands,
        client: usize,
        answer: Answer,
        script: &mut Script<'_>,
    ) -> Result<(), LoadError> {
        let Some(pending) = self.callers[client].pending.take() else {
            return Ok(());
        };
        match answer {
            Answer::Granted(address) => {
                self.granted(client, pending.step, address);
                let next = script(client, Some(pending.step));
                match next.filter(|_| errands.exhausted.is_none()) {
                    Some(step) => self.begin(errands, client, step),
                    None => {
                        errands.under_way -= 1;
                        Ok(())
                    }
                }
            }
            Answer::Challenge { .. } if errands.exhausted.is_some() => {
                errands.under_way -= 1;
                Ok(())
            }
            Answer::Challenge { code, realm, nonce } => {
                self.challenged(client, code, realm, nonce)?;
                self.ask_again(errands, client, &pending, code)
            }
            // RFC 8656 §7.4: another client had the port a moment ago.
            Answer::Refused(437, _) if matches!(pending.step, Step::Allocate(_)) => {
                self.move_away(client)?;
                self.callers[client].signature = None;
                self.ask_again(errands, client, &pending, 437)
            }
            Answer::Refused(code @ (486 | 508), _) if matches!(pending.step, Step::Allocate(_)) => {
                errands.exhausted.get_or_insert(code);
                errands.under_way -= 1;
                Ok(())
            }
            Answer::Refused(code, reason) => {
                let error = refused(pending.step, code, reason);
                self.fail(errands, client, error)
            }
            Answer::Forged => self.fail(errands, client, LoadError::Forged(self.target.server)),
        }
    }

    fn granted(&mut self, client: usize, step: Step, address: Option<SocketAddr>) {
        let caller = &mut self.callers[client];
        match step {
            Step::Allocate(_) => {
                caller.relayed = address;
                caller.used = true;
            }
            Step::Release => caller.relayed = None,
            _ => {}
        }
    }

    fn ask_again(
        &mut self,
        errands: &mut Errands,
        client: usize,
        before: &Pending,
        code: u16,
    ) -> Result<(), LoadError> {
        // The first challenge is part of the protocol.
        let again = before.again + u32::from(code != 401);
        if again > MOST_AGAIN {
            let reason = format!("{MOST_AGAIN} times on end");
            return Err(LoadError::Refused(before.step.name(), code, reason));
        }
        let login = self.account.login.as_ref();
        self.callers[client].ask(client, before.step, login)?.again = again;
        self.send(errands, client)
    }

    fn challenged(
        &mut self,
        client: usize,
        code: u16,
        realm: String,
        nonce: String,
    ) -> Result<(), LoadError> {
        let caller = &mut self.callers[client];
        if let Some(wanted) = &self.account.realm
            && *wanted != realm
        {
            return Err(LoadError::WrongRealm(realm, wanted.clone()));
        }
        if code == 401 && caller.signature.is_some() {
            let login = self.account.login.as_ref();
            let user = login.map(|login| login.username.clone());
            return Err(LoadError::WrongLogin(user.unwrap_or_default()));
        }
        let signature = self.account.sign(realm, nonce);
        caller.signature = Some(signature.ok_or(LoadError::NoLogin(self.target.server))?);
        Ok(())
    }
}

/// Whether anything came to `caller`, and the answer that it waits for, if that was among it.
fn read_answer(
    caller: &mut Caller,
    intake: &mut Intake,
    garbled: &mut bool,
) -> io::Result<(bool, Option<Answer>)> {
    let pending = caller.pending.as_ref();
    let key = caller.signature.as_ref().map(|signature| &signature.key);
    let mut found = None;
    let mut each = |frame: &[u8]| {
        *garbled |= !matches!(frame.first(), Some(0..=3 | 64..=79));
        let answer = pending.and_then(|pending| wire::answer(pending.step, frame, key));
        if let Some((id, answer)) = answer
            && pending.is_some_and(|pending| pending.id == id)
        {
            found = Some(answer);
        }
    };
    let more = caller.link.receive(intake, &mut each)?;
    Ok((more, found))
}

fn refused(step: Step, code: u16, reason: String) -> LoadError {
    match (step, code) {
        (Step::Permit(peer) | Step::Channel(peer), 403) => LoadError::RefusedPeer(peer),
        (Step::Allocate(family), 440) => LoadError::NoFamily(family == Family::V6),
        _ => LoadError::Refused(step.name(), code, reason),
    }
}

/// What an error of a link means.
pub(super) fn gone(target: &Target, error: io::Error) -> LoadError {
    match error.kind() {
        ErrorKind::ConnectionRefused => LoadError::Closed(target.server, target.transport),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            LoadError::HungUp(target.server)
        }
        ErrorKind::InvalidData => LoadError::NotStun(target.server),
        _ => LoadError::Socket(error),
    }
}
