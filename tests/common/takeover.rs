//! One process takes the place of another: two worlds, the sockets handed from one to the other.

use std::net::SocketAddr;
use std::time::Duration;

use turnstone::time::Instant;
use turnstone::turn::{Handed, Handover, Imported, Policy};

use super::World;

impl World {
    /// A fresh process with as many shards as `old`, which counts time from another zero: its clock shows
    /// `clock` seconds.
    pub fn successors(old: &[Self], policy: Policy, clock: u64) -> Vec<Self> {
        let shards = u16::try_from(old.len()).expect("few shards");
        let mut group = Self::group(policy, shards, old[0].seed.wrapping_add(50));
        for (world, old) in group.iter_mut().zip(old) {
            world.now.instant = Instant::ZERO + Duration::from_secs(clock);
            world.now.unix = old.now.unix;
            world.transactions = old.transactions;
        }
        group
    }

    /// What the world would hand over, as the bytes that travel.
    pub fn export(&self) -> Vec<u8> {
        self.server.export(self.now).to_bytes()
    }

    /// Takes in what another world exported, with its sockets.
    pub fn import(&mut self, bytes: &[u8]) -> Imported {
        let handover = Handover::from_bytes(bytes).expect("a handover");
        self.held()
            .extend(handover.sockets().map(|socket| at(&socket)));
        let imported = self.server.import(self.now, &handover);
        assert_eq!(self.drain(), None, "nobody is told");
        imported.expect("a handover of this shard")
    }

    /// Does what the server asks for after an import without [`import`](Self::import).
    pub fn settle(&mut self) {
        assert_eq!(self.drain(), None, "nobody is told");
    }

    /// Forgets what another world has taken in.
    pub fn release(&mut self, bytes: &[u8]) {
        let handover = Handover::from_bytes(bytes).expect("a handover");
        for socket in handover.sockets() {
            match socket {
                Handed::Relay { key, local } => assert_eq!(self.relays.get(&local), Some(&key)),
                Handed::Reserved { local } => assert!(self.held().contains(&local)),
            }
        }
        self.server.release(&handover);
        assert_eq!(self.drain(), None, "nobody is told");
    }

    /// Lets a fresh process under the policy take the place of `old`, which is released; both know the
    /// relays of the other.
    pub fn take_over(old: &mut [Self], policy: Policy, clock: u64) -> Vec<Self> {
        let mut new = Self::successors(old, policy, clock);
        let exported: Vec<Vec<u8>> = old.iter().map(Self::export).collect();
        for (world, bytes) in new.iter_mut().zip(&exported) {
            let imported = world.import(bytes);
            assert_eq!(imported.problems, []);
        }
        for (world, bytes) in old.iter_mut().zip(&exported) {
            world.release(bytes);
        }
        new[0].shared.elsewhere(&old[0].shared.relays());
        old[0].shared.elsewhere(&new[0].shared.relays());
        new
    }

    /// The same of a process with one shard.
    pub fn succeed(&mut self, policy: Policy, clock: u64) -> Self {
        let mut new = Self::take_over(std::slice::from_mut(self), policy, clock);
        new.pop().expect("one shard")
    }
}

fn at(socket: &Handed) -> SocketAddr {
    match socket {
        Handed::Relay { local, .. } | Handed::Reserved { local } => *local,
    }
}
