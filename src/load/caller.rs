//! One client: its link, its allocation, and the request that it waits on.

use std::net::SocketAddr;

use super::link::Link;
use super::plan::Login;
use super::wire::{self, Signature, Step};
use crate::load::error::LoadError;
use ::stun::integrity::MessageIntegrity;

/// A client.
pub(super) struct Caller {
    pub(super) link: Link,
    /// The relayed transport address, while there is an allocation.
    pub(super) relayed: Option<SocketAddr>,
    pub(super) signature: Option<Signature>,
    pub(super) pending: Option<Pending>,
    /// Its socket had an allocation.
    pub(super) used: bool,
    serial: u32,
}

/// A request that waits for its answer.
pub(super) struct Pending {
    pub(super) step: Step,
    pub(super) id: [u8; 12],
    pub(super) request: Vec<u8>,
    /// How often it was sent.
    pub(super) sent: u32,
    /// How often the server has asked for another attempt.
    pub(super) again: u32,
}

/// Who all clients say they are, with the key in the server's realm, derived once.
pub(super) struct Account {
    pub(super) login: Option<Login>,
    pub(super) realm: Option<String>,
    key: Option<(String, MessageIntegrity)>,
}

impl Account {
    pub(super) const fn new(login: Option<Login>, realm: Option<String>) -> Self {
        Self {
            login,
            realm,
            key: None,
        }
    }

    /// What to sign with after a challenge; none without a login.
    pub(super) fn sign(&mut self, realm: String, nonce: String) -> Option<Signature> {
        let login = self.login.as_ref()?;
        let known = self.key.take().filter(|(known, _)| *known == realm);
        let (_, key) = self
            .key
            .insert(known.unwrap_or_else(|| (realm.clone(), wire::key(login, &realm))));
        Some(Signature {
            key: key.clone(),
            realm,
            nonce,
        })
    }
}

impl Caller {
    pub(super) const fn new(link: Link) -> Self {
        Self {
            link,
            relayed: None,
            signature: None,
            pending: None,
            used: false,
            serial: 0,
        }
    }

    /// Gives up the request that is pending; whether there is, or may be, an allocation.
    pub(super) fn may_hold(&mut self) -> bool {
        let pending = self.pending.take();
        let asked = pending.is_some_and(|pending| matches!(pending.step, Step::Allocate(_)));
        self.relayed.is_some() || asked && self.signature.is_some()
    }

    /// Writes the request of `step`, which is then pending; `index` is the client's own number.
    pub(super) fn ask(
        &mut self,
        index: usize,
        step: Step,
        login: Option<&Login>,
    ) -> Result<&mut Pending, LoadError> {
        self.serial += 1;
        let mut id = [0x54; 12];
        id[..8].copy_from_slice(&(index as u64).to_be_bytes());
        id[8..].copy_from_slice(&self.serial.to_be_bytes());
        let signed = login.zip(self.signature.as_ref());
        let request = wire::request(step, id, signed);
        let request = request.ok_or(LoadError::Bug("a request cannot be written"))?;
        Ok(self.pending.insert(Pending {
            step,
            id,
            request,
            sent: 0,
            again: 0,
        }))
    }
}
