//! The control plane of many clients at once: requests, challenges, retransmissions.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::caller::{Account, Caller};
use super::error::LoadError;
use super::plan::{Target, Transport};
use super::stamp::Origin;
use super::wire::{self, Answer, Step};
use crate::net::{Epoll, Events};

/// A request is sent again after this time. Constant, so that the deadlines stay in order.
const AGAIN: u64 = 500_000_000;
/// How often a request is sent before the server counts as silent.
const MOST_SENT: u32 = 10;
/// How often a nonce may be stale before something is wrong with it.
const MOST_STALE: u32 = 3;
const EVENTS: usize = 256;

/// The control plane of one worker's clients.
pub(super) struct Enrolment<'w> {
    pub(super) target: &'w Target,
    pub(super) account: &'w mut Account,
    pub(super) callers: &'w mut [Caller],
    pub(super) poller: &'w Epoll,
    pub(super) origin: Origin,
    pub(super) stop: &'w AtomicBool,
    /// Clients with a request under way at a time.
    pub(super) at_once: usize,
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
    made: usize,
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
            made: 0,
        };
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; 65_536];
        let mut next = 0;
        loop {
            while errands.under_way < self.at_once && next < self.callers.len() {
                if let Some(step) = script(next, None) {
                    errands.under_way += 1;
                    self.begin(&mut errands, next, step)?;
                }
                next += 1;
            }
            if errands.under_way == 0 {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            self.poller
                .wait(&mut events, Some(Duration::from_millis(50)))?;
            for i in 0..events.len() {
                let token = events.get(i).map_or(usize::MAX as u64, |event| event.token);
                let client = usize::try_from(token).unwrap_or(usize::MAX);
                self.receive(&mut errands, client, &mut buffer, script)?;
            }
            self.repeat(&mut errands)?;
        }
    }

    fn begin(
        &mut self,
        errands: &mut Errands,
        client: usize,
        step: Step,
    ) -> Result<(), LoadError> {
        if step == Step::Allocate {
            // Every allocation starts from the challenge.
            self.callers[client].signature = None;
        }
        let login = self.account.login.as_ref();
        self.callers[client].ask(client, step, login)?;
        self.send(errands, client)
    }

    fn send(&mut self, errands: &mut Errands, client: usize) -> Result<(), LoadError> {
        let caller = &mut self.callers[client];
        let Some(pending) = &mut caller.pending else {
            return Ok(());
        };
        pending.sent += 1;
        let due = self.origin.nanos() + AGAIN;
        errands.deadlines.push_back((due, client, pending.id));
        let once = self.target.transport != Transport::Udp && pending.sent > 1;
        if once {
            return Ok(());
        }
        let length = pending.request.len();
        let sent = caller.link.send(&pending.request, length);
        sent.map_err(|error| gone(self.target, error)).map(drop)
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
            if pending.sent < MOST_SENT {
                self.send(errands, client)?;
                continue;
            }
            let server = self.target.server;
            let seconds = AGAIN * u64::from(MOST_SENT) / 1_000_000_000;
            return Err(match errands.garbled {
                true => LoadError::NotStun(server),
                false => LoadError::Silent(server, self.target.transport, seconds),
            });
        }
        Ok(())
    }

    fn receive(
        &mut self,
        errands: &mut Errands,
        client: usize,
        buffer: &mut [u8],
        script: &mut Script<'_>,
    ) -> Result<(), LoadError> {
        loop {
            // Tokens beyond the clients are the peers'.
            let Some(caller) = self.callers.get_mut(client) else {
                return Ok(());
            };
            let Caller {
                link,
                pending,
                signature,
                ..
            } = caller;
            let key = signature.as_ref().map(|signature| &signature.key);
            let mut found = None;
            let mut each = |frame: &[u8]| {
                errands.garbled |= !matches!(frame.first(), Some(0..=3 | 64..=79));
                let Some(pending) = pending.as_ref() else {
                    return;
                };
                let answer = wire::answer(pending.step, frame, key);
                if let Some((id, answer)) = answer
                    && id == pending.id
                {
                    found = Some(answer);
                }
            };
            let more = link.receive(buffer, &mut each);
            let more = more.map_err(|error| gone(self.target, error))?;
            if let Some(answer) = found {
                self.answered(errands, client, answer, script)?;
            }
            // One datagram is the rule; what else there is, the poller reports again.
            if !more || self.target.transport == Transport::Udp {
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
        let caller = &mut self.callers[client];
        let Some(pending) = caller.pending.take() else {
            return Ok(());
        };
        match answer {
            Answer::Granted(address) => {
                if pending.step == Step::Allocate {
                    errands.made += 1;
                    caller.relayed = address;
                }
                if pending.step == Step::Release {
                    caller.relayed = None;
                }
                match script(client, Some(pending.step)) {
                    Some(step) => self.begin(errands, client, step),
                    None => {
                        errands.under_way -= 1;
                        Ok(())
                    }
                }
            }
            Answer::Challenge { code, realm, nonce } => {
                let stale = pending.stale + u32::from(code == 438);
                self.challenged(client, code, realm, nonce)?;
                if stale > MOST_STALE {
                    let reason = "Stale Nonce".to_owned();
                    return Err(LoadError::Refused(pending.step.name(), 438, reason));
                }
                let login = self.account.login.as_ref();
                let caller = &mut self.callers[client];
                caller.ask(client, pending.step, login)?.stale = stale;
                self.send(errands, client)
            }
            Answer::Refused(code, reason) => Err(refused(pending.step, code, reason, errands.made)),
            Answer::Forged => Err(LoadError::Forged(self.target.server)),
        }
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

fn refused(step: Step, code: u16, reason: String, made: usize) -> LoadError {
    match (step, code) {
        (Step::Permit(peer) | Step::Channel(peer), 403) => LoadError::RefusedPeer(peer),
        (Step::Allocate, 486 | 508) => LoadError::Exhausted(code, made),
        _ => LoadError::Refused(step.name(), code, reason),
    }
}

/// What an error of a link means.
pub(super) fn gone(target: &Target, error: std::io::Error) -> LoadError {
    match error.kind() {
        ErrorKind::ConnectionRefused => LoadError::Closed(target.server, target.transport),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            LoadError::HungUp(target.server)
        }
        ErrorKind::InvalidData => LoadError::NotStun(target.server),
        _ => LoadError::Socket(error),
    }
}
