//! The relay ports of one shard (RFC 8656 §7.2, RFC 6056).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::random::Random;

/// How many addresses may have a pool; a host has few, and each costs up to 32 kB.
const MAX_POOLS: usize = 256;

/// Which ports will do (RFC 8656 §18.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parity {
    Any,
    Even,
    /// An even one whose neighbour above is free too, which is taken with it.
    Pair,
}

impl Parity {
    /// What was at least asked for when `port` was drawn.
    pub(super) const fn of(port: u16) -> Self {
        if port.is_multiple_of(2) {
            Self::Even
        } else {
            Self::Any
        }
    }

    fn admits(self, port: u16) -> bool {
        self == Self::Any || port.is_multiple_of(2)
    }
}

/// Free ports by public address. Shards never share a port: each has every n-th pair of an even port
/// and the odd one above it.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    shard: u16,
    shards: u16,
    free: BTreeMap<IpAddr, Vec<u16>>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>, shard: u16, shards: u16) -> Self {
        Self {
            range,
            shard,
            shards: shards.max(1),
            free: BTreeMap::new(),
        }
    }

    /// Whether `port` is one of this shard's.
    pub(super) fn owns(&self, port: u16) -> bool {
        port / 2 % self.shards == self.shard
    }

    /// Takes a random free port of `address`, and the one above it when a pair is asked for; none when
    /// all that will do are taken.
    pub(super) fn take(
        &mut self,
        address: IpAddr,
        parity: Parity,
        random: &mut Random,
    ) -> Option<u16> {
        let free = self.pool(address)?;
        if free.is_empty() {
            return None;
        }
        let drawn = random.below(free.len());
        let mut places = (drawn..free.len()).chain(0..drawn);
        if parity == Parity::Pair {
            let is_free = PortSet::of(free);
            let begins_pair = |port: u16| parity.admits(port) && is_free.contains(port | 1);
            let place = places.find(|place| begins_pair(free[*place]))?;
            let port = free.swap_remove(place);
            free.retain(|other| *other != port | 1);
            return Some(port);
        }
        let place = places.find(|place| parity.admits(free[*place]))?;
        Some(free.swap_remove(place))
    }

    /// Takes ports that were drawn in another process. Those outside of the range are not ours.
    pub(super) fn claim(&mut self, taken: &[SocketAddr]) {
        let mut by_address: BTreeMap<IpAddr, Vec<u16>> = BTreeMap::new();
        for public in taken {
            let ports = by_address.entry(public.ip()).or_default();
            ports.push(public.port());
        }
        for (address, ports) in by_address {
            let ports = PortSet::of(&ports);
            if let Some(free) = self.pool(address) {
                free.retain(|port| !ports.contains(*port));
            }
        }
    }

    /// Gives back a port that [`take`](Self::take) returned, or [`claim`](Self::claim) took.
    pub(super) fn give_back(&mut self, address: IpAddr, port: u16) {
        if !self.range.contains(&port) {
            return;
        }
        if let Some(free) = self.free.get_mut(&address) {
            debug_assert!(!free.contains(&port));
            free.push(port);
        }
    }

    /// The free ports of `address`; none when there are too many addresses.
    fn pool(&mut self, address: IpAddr) -> Option<&mut Vec<u16>> {
        if !self.free.contains_key(&address) {
            if self.free.len() >= MAX_POOLS {
                return None;
            }
            self.free.insert(address, self.share());
        }
        self.free.get_mut(&address)
    }

    fn share(&self) -> Vec<u16> {
        self.range.clone().filter(|port| self.owns(*port)).collect()
    }
}

/// One bit per port.
struct PortSet(Box<[u64]>);

impl PortSet {
    fn of(ports: &[u16]) -> Self {
        let mut words = vec![0; 1024];
        for port in ports {
            words[usize::from(port / 64)] |= 1 << (port % 64);
        }
        Self(words.into())
    }

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & 1 << (port % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_split_the_range_and_ports_return() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut random = Random::new([7; 32]);
        let mut seen = Vec::new();
        for shard in 0..3 {
            let mut ports = Ports::new(50_000..=50_010, shard, 3);
            let taken: Vec<u16> =
                std::iter::from_fn(|| ports.take(address, Parity::Any, &mut random)).collect();
            for port in &taken {
                ports.give_back(address, *port);
            }
            assert_eq!(
                std::iter::from_fn(|| ports.take(address, Parity::Any, &mut random)).count(),
                taken.len()
            );
            seen.extend(taken);
        }
        seen.sort_unstable();
        assert_eq!(seen, (50_000..=50_010).collect::<Vec<u16>>());
    }

    #[test]
    fn an_even_port_is_even_until_none_is_left() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut random = Random::new([7; 32]);
        let mut ports = Ports::new(50_000..=50_009, 0, 1);
        let mut take = || ports.take(address, Parity::Even, &mut random);
        let mut taken: Vec<u16> = std::iter::from_fn(&mut take).collect();
        taken.sort_unstable();
        assert_eq!(taken, [50_000, 50_002, 50_004, 50_006, 50_008]);
    }

    #[test]
    fn a_pair_is_taken_whole_and_never_shares_a_port() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut random = Random::new([7; 32]);
        let mut ports = Ports::new(49_999..=50_006, 0, 1);
        let single = ports.take(address, Parity::Even, &mut random).expect("one");
        let mut take = |parity| ports.take(address, parity, &mut random);
        let mut pairs: Vec<u16> = std::iter::from_fn(|| take(Parity::Pair)).collect();
        pairs.sort_unstable();
        // 49 999 has nothing below it, 50 006 nothing above.
        let whole = [50_000, 50_002, 50_004].into_iter();
        assert!(
            pairs
                .iter()
                .copied()
                .eq(whole.filter(|port| *port != single))
        );
        let rest = std::iter::from_fn(|| take(Parity::Any)).count();
        assert_eq!(rest, 8 - 1 - 2 * pairs.len());
    }
}
