//! Reserved relayed transport addresses and the tokens that redeem them (RFC 8656 §7.2, §18.10).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::owner::{Owner, Person};
use super::relay::Relay;
use crate::time::Instant;

/// How long a reservation is held (RFC 8656 §7.2: at least 30 seconds).
pub(super) const HELD: Duration = Duration::from_secs(30);

/// RESERVATION-TOKEN: eight bytes that nobody guesses (requirement S9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token(pub(super) [u8; 8]);

/// Whose quota a reservation or an allocation is counted against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) person: Person,
    pub(super) source: IpAddr,
}

impl Account {
    pub(super) fn new(owner: &Owner, client: SocketAddr) -> Self {
        Self {
            person: owner.person(),
            source: client.ip(),
        }
    }
}

/// A relayed transport address whose socket is bound and waits for its allocation.
#[derive(Clone, Debug)]
pub(super) struct Reservation {
    pub(super) relay: Relay,
    /// It counts like an allocation of who asked for it.
    pub(super) account: Account,
    pub(super) expires: Instant,
}

/// The reservations of all shards: a token may arrive at any of them. Requests lock it; the relay path
/// never comes here. Whoever takes a reservation out is the one who deals with it.
#[derive(Debug, Default)]
pub(super) struct Reservations(Mutex<BTreeMap<Token, Reservation>>);

impl Reservations {
    /// Adds a reservation; false when the token is taken.
    pub(super) fn insert(&self, token: Token, reservation: Reservation) -> bool {
        let mut all = self.lock();
        if all.contains_key(&token) {
            return false;
        }
        all.insert(token, reservation);
        true
    }

    /// A copy of the reservation that `token` redeems at `now`.
    pub(super) fn get(&self, token: Token, now: Instant) -> Option<Reservation> {
        let all = self.lock();
        all.get(&token).filter(|held| held.expires > now).cloned()
    }

    /// Takes it out, whether it has expired or not.
    pub(super) fn take(&self, token: Token) -> Option<Reservation> {
        self.lock().remove(&token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Token, Reservation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ports of which another shard than the one they belong to has to tell: that they were given back, or
/// that they are taken.
#[derive(Debug, Default)]
pub(super) struct Strays(Mutex<Vec<SocketAddr>>);

impl Strays {
    pub(super) fn push(&self, public: SocketAddr) {
        self.lock().push(public);
    }

    /// Takes out those for which `is_mine` holds.
    pub(super) fn take(&self, is_mine: impl Fn(u16) -> bool) -> Vec<SocketAddr> {
        let mut all = self.lock();
        all.extract_if(.., |stray| is_mine(stray.port())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
