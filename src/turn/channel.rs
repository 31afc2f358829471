//! The channel bindings of one allocation (RFC 8656 §12).

use std::net::SocketAddr;

use super::five_tuple::Family;
use crate::stun::ChannelNumber;
use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
struct Channel {
    number: ChannelNumber,
    peer: SocketAddr,
    expires: Instant,
}

/// Sorted by number; a second index is sorted by peer.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_number: Vec<Channel>,
    by_peer: Vec<(SocketAddr, ChannelNumber)>,
}

/// The number or the peer is bound otherwise (RFC 8656 §12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict;

impl Channels {
    /// The peer that `number` is bound to at `now`.
    pub(super) fn peer(&self, number: ChannelNumber, now: Instant) -> Option<SocketAddr> {
        let place = self.place(number).ok()?;
        Some(self.by_number[place])
            .filter(|channel| channel.expires > now)
            .map(|c| c.peer)
    }

    /// The number that `peer` is bound to at `now`.
    pub(super) fn number(&self, peer: SocketAddr, now: Instant) -> Option<ChannelNumber> {
        let channel = match &self.by_number[..] {
            // Most allocations have one peer.
            [only] => Some(only).filter(|channel| channel.peer == peer)?,
            all => {
                let (_, number) = self.by_peer[self.peer_place(peer).ok()?];
                &all[self.place(number).ok()?]
            }
        };
        (channel.expires > now).then_some(channel.number)
    }

    /// Whether binding `number` to `peer` is a new binding, a refresh, or refused.
    pub(super) fn check(&self, number: ChannelNumber, peer: SocketAddr) -> Result<bool, Conflict> {
        let bound = self.place(number).map(|place| self.by_number[place].peer);
        match (bound, self.peer_place(peer)) {
            (Ok(bound), Ok(_)) if bound == peer => Ok(false),
            (Err(_), Err(_)) => Ok(true),
            _ => Err(Conflict),
        }
    }

    /// Binds or refreshes what [`check`](Self::check) found free of conflict.
    pub(super) fn bind(&mut self, number: ChannelNumber, peer: SocketAddr, expires: Instant) {
        let channel = Channel {
            number,
            peer,
            expires,
        };
        match self.place(number) {
            Ok(place) => self.by_number[place] = channel,
            Err(place) => {
                if self.by_number.is_empty() {
                    // Most allocations have one peer.
                    self.by_number.reserve_exact(1);
                    self.by_peer.reserve_exact(1);
                }
                self.by_number.insert(place, channel);
                let (Ok(place) | Err(place)) = self.peer_place(peer);
                self.by_peer.insert(place, (peer, number));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Each binding and when it expires, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ChannelNumber, SocketAddr, Instant)> {
        let all = self.by_number.iter();
        all.map(|channel| (channel.number, channel.peer, channel.expires))
    }

    /// Unbinds what has expired; says how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.by_number.len();
        self.by_number.retain(|channel| channel.expires > now);
        if self.by_number.len() < before {
            let by_number = &self.by_number;
            let is_bound = |number| {
                by_number
                    .binary_search_by_key(&number, |c| c.number)
                    .is_ok()
            };
            self.by_peer.retain(|(_, number)| is_bound(*number));
        }
        before - self.by_number.len()
    }

    /// Unbinds the peers of `family`; says how many.
    pub(super) fn remove_family(&mut self, family: Family) -> usize {
        let before = self.by_number.len();
        let stays = |peer: &SocketAddr| Family::of(peer.ip()) != family;
        self.by_number.retain(|channel| stays(&channel.peer));
        self.by_peer.retain(|(peer, _)| stays(peer));
        before - self.by_number.len()
    }

    /// When the next one expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_number.iter().map(|channel| channel.expires).min()
    }

    fn place(&self, number: ChannelNumber) -> Result<usize, usize> {
        self.by_number
            .binary_search_by_key(&number, |channel| channel.number)
    }

    fn peer_place(&self, peer: SocketAddr) -> Result<usize, usize> {
        self.by_peer.binary_search_by_key(&peer, |(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_peer_are_bound_to_each_other_only() {
        let number = |value| ChannelNumber::new(value).unwrap();
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let at = Instant::from_nanos;
        let mut channels = Channels::default();
        assert_eq!(channels.check(number(0x4000), peer(1)), Ok(true));
        channels.bind(number(0x4000), peer(1), at(10));
        channels.bind(number(0x4FFF), peer(2), at(20));
        assert_eq!(channels.check(number(0x4000), peer(1)), Ok(false));
        assert_eq!(channels.check(number(0x4000), peer(2)), Err(Conflict));
        assert_eq!(channels.check(number(0x4000), peer(3)), Err(Conflict));
        assert_eq!(channels.check(number(0x4001), peer(1)), Err(Conflict));
        assert_eq!(channels.number(peer(1), at(9)), Some(number(0x4000)));
        assert_eq!(channels.number(peer(1), at(10)), None);
        assert_eq!((channels.expire(at(10)), channels.len()), (1, 1));
        assert_eq!(channels.check(number(0x4001), peer(1)), Ok(true));
        assert_eq!(channels.peer(number(0x4FFF), at(19)), Some(peer(2)));
        assert_eq!(channels.next_expiry(), Some(at(20)));
    }
}
