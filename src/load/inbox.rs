//! Packets on their way in.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use super::fleet::{End, Flow};
use super::shape;
use super::stamp::Stamp;
use super::tally::Tally;
use super::window::Window;
use crate::net::{BATCH, ReceiveBatch};

/// Bytes of a datagram that is received.
const ROOM: usize = 65_536;
/// Most batches taken from the peer's socket at a time, so that sending goes on.
const MOST_BATCHES: usize = 4;

/// Recognises packets.
pub(super) struct Inbox {
    pub(super) trial: u8,
    /// Bytes of payload that every packet has.
    pub(super) size: usize,
    pub(super) window: Option<Window>,
    pub(super) tally: Tally,
    /// How many packets have come, whenever they were due.
    pub(super) seen: u64,
}

impl Inbox {
    /// Takes the message `frame` that came to client `client` at `now`.
    pub(super) fn at_client(&mut self, flows: &mut [Flow], client: usize, frame: &[u8], now: u64) {
        if let Some(payload) = shape::payload(frame) {
            self.count(flows, payload, now, |flow| flow.to == End::Client(client));
        }
    }

    /// Counts a packet that came to where the right flows end by `ends_here`.
    fn count(
        &mut self,
        flows: &mut [Flow],
        payload: &[u8],
        now: u64,
        ends_here: impl Fn(&Flow) -> bool,
    ) {
        let Some(stamp) = Stamp::read(payload).filter(|stamp| stamp.trial == self.trial) else {
            return;
        };
        let flow = flows.get_mut(stamp.flow);
        let Some(flow) = flow.filter(|flow| ends_here(flow) && payload.len() == self.size) else {
            self.tally.misplaced += 1;
            return;
        };
        let behind = |latest: u16| stamp.sequence.wrapping_sub(latest) > u16::MAX / 2;
        if flow.latest.is_some_and(behind) {
            self.tally.reordered += 1;
        } else {
            flow.latest = Some(stamp.sequence);
        }
        self.seen += 1;
        self.tally.receive(stamp.due, now);
        if let Some(window) = &mut self.window {
            window.come(stamp.due);
        }
    }
}

/// The peer's receiving side.
pub(super) struct PeerInbox {
    memory: Vec<u8>,
    batch: ReceiveBatch,
}

impl PeerInbox {
    pub(super) fn new() -> Self {
        Self {
            memory: vec![0; BATCH * ROOM],
            batch: ReceiveBatch::default(),
        }
    }

    /// Receives what waits at `peer`; packets must come from the relayed transport address of their
    /// flow's client, which `relayed` knows.
    pub(super) fn receive(
        &mut self,
        peer: &UdpSocket,
        inbox: &mut Inbox,
        flows: &mut [Flow],
        relayed: impl Fn(usize) -> Option<SocketAddr>,
        now: impl Fn() -> u64,
    ) -> io::Result<()> {
        for _ in 0..MOST_BATCHES {
            let room = self.memory.chunks_exact_mut(ROOM);
            let count = match self.batch.receive(peer.as_fd(), room, false) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let now = now();
            for i in 0..count {
                let Some(received) = self.batch.get(i) else {
                    continue;
                };
                let payload = &self.memory[i * ROOM..i * ROOM + received.length];
                inbox.count(flows, payload, now, |flow| match flow.to {
                    End::Peer(client) => relayed(client) == Some(received.from),
                    End::Client(_) => false,
                });
            }
            if count < BATCH {
                return Ok(());
            }
        }
        Ok(())
    }
}
