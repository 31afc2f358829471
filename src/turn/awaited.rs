//! The five-tuples on which clients of mobile allocations are awaited (RFC 8016 §3.2).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;

use super::five_tuple::FiveTuple;
use super::mobile_id::MobileId;
use super::owner::Owner;
use super::ticket::Ticket;
use crate::stun::TransactionId;

/// Packets, and bytes of them, that wait for one allocation on its way from another shard.
const MOST_PACKETS: usize = 32;
const MOST_BYTES: usize = 64 * 1024;
/// How many five-tuples are no reason to look for stale ones.
const SLACK: usize = 64;

/// A client that is to be heard, and the answer that its Refresh got.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) id: MobileId,
    pub(super) owner: Owner,
    pub(super) transaction: TransactionId,
    pub(super) lifetime: Duration,
    pub(super) ticket: Ticket,
    pub(super) state: Waiting,
    /// Packets of the client, to be handled when its allocation is here.
    pub(super) parked: VecDeque<Box<[u8]>>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The client.
    Client,
    /// The allocation, which another shard was asked for.
    Allocation,
    /// Nothing: the parked packets are being handled. Afterwards the client may be awaited again.
    Nothing { again: bool },
}

/// What a packet of a client without an allocation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The client's allocation is here now.
    Here,
    /// The allocation is on its way and the packet waits for it.
    Parked,
    /// The allocation is on its way and there is no room to wait.
    Full,
    /// Nobody awaits the client.
    Nobody,
}

impl Awaited {
    /// Parks a packet, if there is room.
    pub(super) fn park(&mut self, packet: &[u8]) -> Heard {
        let bytes: usize = self.parked.iter().map(|packet| packet.len()).sum();
        let fits = self.parked.len() < MOST_PACKETS && bytes + packet.len() <= MOST_BYTES;
        if !fits {
            return Heard::Full;
        }
        self.parked.push_back(packet.into());
        Heard::Parked
    }
}

/// Those that this shard awaits.
#[derive(Debug)]
pub(super) struct AwaitedClients {
    by_client: HashMap<FiveTuple, Awaited, FixedState>,
    /// At so many it is time to look for stale ones.
    most: usize,
}

impl AwaitedClients {
    /// An empty table whose hashes nobody outside can predict.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            by_client: HashMap::with_hasher(FixedState::with_seed(seed)),
            most: SLACK,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    pub(super) fn get(&self, client: &FiveTuple) -> Option<&Awaited> {
        self.by_client.get(client)
    }

    pub(super) fn get_mut(&mut self, client: &FiveTuple) -> Option<&mut Awaited> {
        self.by_client.get_mut(client)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FiveTuple, &Awaited)> {
        self.by_client.iter()
    }

    /// Adds a client. Now and then those are dropped that are not awaited any more, as `stands` tells, so
    /// that clients who never come leave nothing behind (requirement S15).
    pub(super) fn insert(
        &mut self,
        client: FiveTuple,
        awaited: Awaited,
        stands: impl Fn(&FiveTuple, &Awaited) -> bool,
    ) {
        if self.by_client.len() >= self.most {
            self.by_client.retain(|client, awaited| {
                awaited.state != Waiting::Client || stands(client, awaited)
            });
            self.most = 2 * self.by_client.len() + SLACK;
        }
        self.by_client.insert(client, awaited);
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, client: &FiveTuple) {
        self.by_client.remove(client);
        if self.by_client.is_empty() {
            self.most = SLACK;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;

    use super::*;
    use crate::stun::PasswordAlgorithm;
    use crate::turn::five_tuple::Transport;
    use crate::turn::keys::StoredKey;
    use crate::turn::owner::Proof;

    fn awaited() -> Awaited {
        Awaited {
            id: MobileId::default(),
            owner: Owner {
                username: "alice".into(),
                proof: Proof::Password {
                    key: StoredKey::derive(PasswordAlgorithm::Md5, "alice", "", ""),
                    expires: None,
                },
            },
            transaction: TransactionId([1; 12]),
            lifetime: Duration::ZERO,
            ticket: Ticket::new([0; 24]),
            state: Waiting::Client,
            parked: VecDeque::new(),
        }
    }

    fn client(port: u16) -> FiveTuple {
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        FiveTuple {
            transport: Transport::Udp,
            client: address(port),
            server: address(3478),
        }
    }

    #[test]
    fn those_who_are_awaited_no_more_are_forgotten() {
        let mut all = AwaitedClients::new(7);
        let asked = Cell::new(0);
        for port in 1..=10_000 {
            all.insert(client(port), awaited(), |other, _| {
                asked.set(asked.get() + 1);
                other.client.port() <= 100
            });
            assert!(all.by_client.len() <= 2 * 100 + SLACK);
        }
        assert!((1..=100).all(|port| all.get(&client(port)).is_some()));
        assert!(asked.get() < 10 * 10_000, "{} looks", asked.get());
        (1..=10_000).for_each(|port| all.remove(&client(port)));
        assert!(all.is_empty());
    }

    #[test]
    fn few_packets_wait() {
        let mut one = awaited();
        let parked = (0..100).filter(|_| one.park(b"data") == Heard::Parked);
        assert_eq!(parked.count(), MOST_PACKETS);
        let mut one = awaited();
        assert_eq!(one.park(&vec![0; MOST_BYTES + 1]), Heard::Full);
        assert_eq!(one.park(&vec![0; MOST_BYTES]), Heard::Parked);
        assert_eq!(one.park(b"data"), Heard::Full);
    }
}
