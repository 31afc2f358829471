//! The permissions of one allocation (RFC 8656 §9).

use std::net::IpAddr;

use super::five_tuple::Family;
use super::peer_filter::Scope;
use crate::time::Instant;

/// Leave to exchange data with one peer address, whatever its port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    ip: IpAddr,
    /// How far the leave goes.
    pub(super) scope: Scope,
    expires: Instant,
}

/// Sorted by address.
#[derive(Debug, Default)]
pub(super) struct Permissions(Vec<Permission>);

impl Permissions {
    /// The permission for `ip` that is alive at `now`.
    pub(super) fn get(&self, ip: IpAddr, now: Instant) -> Option<&Permission> {
        let place = self.place(ip).ok()?;
        Some(&self.0[place]).filter(|permission| permission.expires > now)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.place(ip).is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Installs or refreshes the permission for `ip`; says whether it is a new one.
    pub(super) fn install(&mut self, ip: IpAddr, scope: Scope, expires: Instant) -> bool {
        match self.place(ip) {
            Ok(place) => {
                self.0[place] = Permission { ip, scope, expires };
                false
            }
            Err(place) => {
                if self.0.is_empty() {
                    // Most allocations have one peer.
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, Permission { ip, scope, expires });
                true
            }
        }
    }

    /// Each address and when its permission expires, by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, Instant)> {
        self.0
            .iter()
            .map(|permission| (permission.ip, permission.expires))
    }

    /// Removes what has expired; says how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.0.len();
        self.0.retain(|permission| permission.expires > now);
        before - self.0.len()
    }

    /// Gives each the scope that `judge` finds for its address and removes those without; says how many.
    pub(super) fn judge_anew(&mut self, judge: impl Fn(IpAddr) -> Option<Scope>) -> usize {
        let before = self.0.len();
        self.0.retain_mut(|permission| {
            let scope = judge(permission.ip);
            scope.map(|scope| permission.scope = scope).is_some()
        });
        before - self.0.len()
    }

    /// Removes those for addresses of `family`; says how many.
    pub(super) fn remove_family(&mut self, family: Family) -> usize {
        let before = self.0.len();
        self.0
            .retain(|permission| Family::of(permission.ip) != family);
        before - self.0.len()
    }

    /// When the next one expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.0.iter().map(|permission| permission.expires).min()
    }

    fn place(&self, ip: IpAddr) -> Result<usize, usize> {
        self.0.binary_search_by_key(&ip, |permission| permission.ip)
    }
}
