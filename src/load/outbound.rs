//! Packets on their way out.

use std::net::{SocketAddr, UdpSocket};

use super::datagrams::send_train;
use super::error::LoadError;
use super::fleet::{End, Flow};
use super::shape::Shape;
use super::stamp::{STAMP, Stamp};
use crate::net::{BATCH, Outgoing, SendBatch};

/// Packets of one length, one behind the other, whose stamps and prefixes are written anew each time
/// and whose other bytes stay.
pub(super) struct Train {
    bytes: Vec<u8>,
    length: usize,
}

impl Train {
    /// Room for `count` packets of `shape`.
    pub(super) fn new(shape: &Shape, count: usize) -> Self {
        Self {
            bytes: vec![0xA5; shape.length() * count],
            length: shape.length(),
        }
    }

    /// Writes the packet of `flow` in place `place`.
    fn write(&mut self, place: usize, shape: &Shape, stamp: Stamp) {
        let start = place * self.length;
        let packet = &mut self.bytes[start..start + self.length];
        let (prefix, payload) = packet.split_at_mut(shape.prefix.len());
        prefix.copy_from_slice(&shape.prefix);
        stamp.write(&mut payload[..STAMP]);
    }

    /// Writes the next `count` packets of flow number `number`, which are due at `due`.
    pub(super) fn fill(
        &mut self,
        flow: &mut Flow,
        number: usize,
        due: u64,
        trial: u8,
        count: usize,
    ) -> (&[u8], usize) {
        for place in 0..count {
            let stamp = Stamp {
                due,
                flow: number,
                sequence: flow.sequence,
                trial,
            };
            flow.sequence = flow.sequence.wrapping_add(1);
            self.write(place, &flow.shape, stamp);
        }
        (&self.bytes[..count * self.length], self.length)
    }
}

/// Single packets of the peer to many relayed transport addresses, sent together.
pub(super) struct PeerBatch {
    train: Train,
    to: Vec<SocketAddr>,
    /// When each was due.
    due: Vec<u64>,
    batch: SendBatch,
}

impl PeerBatch {
    pub(super) fn new(size: usize) -> Self {
        Self {
            train: Train::new(&Shape::bare(size), BATCH),
            to: Vec::with_capacity(BATCH),
            due: Vec::with_capacity(BATCH),
            batch: SendBatch::default(),
        }
    }

    /// Adds a packet; true when the batch is full.
    pub(super) fn add(&mut self, shape: &Shape, stamp: Stamp, to: SocketAddr) -> bool {
        self.train.write(self.to.len(), shape, stamp);
        self.to.push(to);
        self.due.push(stamp.due);
        self.to.len() == BATCH
    }

    /// Sends what there is, and tells `failed` when each packet was due that did not go.
    pub(super) fn flush(&mut self, peer: &UdpSocket, mut failed: impl FnMut(u64)) {
        if self.to.is_empty() {
            return;
        }
        let packets = self.train.bytes.chunks_exact(self.train.length);
        let messages = packets.zip(&self.to).map(|(bytes, to)| Outgoing {
            to: *to,
            source: None,
            head: &[],
            bytes,
        });
        let due = &self.due;
        let refused = |place: usize, _| failed(due.get(place).copied().unwrap_or_default());
        self.batch.send_from(peer, messages, refused);
        self.to.clear();
        self.due.clear();
    }
}

/// Sends a burst of the peer to one relayed transport address; how many packets went.
pub(super) fn send_burst(
    peer: &UdpSocket,
    to: SocketAddr,
    (bytes, length): (&[u8], usize),
) -> usize {
    send_train(peer, Some(to), bytes, length)
}

/// The shapes of the two sides of `flows`: of clients' packets and of the peer's.
pub(super) fn shapes(flows: &[Flow]) -> Result<(Option<Shape>, Option<Shape>), LoadError> {
    let of = |wanted: fn(&End) -> bool| {
        let found = flows.iter().find(|flow| wanted(&flow.from));
        found.map(|flow| flow.shape.clone())
    };
    let clients = of(|end| matches!(end, End::Client(_)));
    let peers = of(|end| matches!(end, End::Peer(_)));
    let same = |flow: &Flow| match flow.from {
        End::Client(_) => clients.as_ref().map(Shape::length) == Some(flow.shape.length()),
        End::Peer(_) => true,
    };
    // IPv4 and IPv6 peers in one pair workload would differ.
    if !flows.iter().all(same) {
        return Err(LoadError::Bug(
            "packets of different lengths in one workload",
        ));
    }
    Ok((clients, peers))
}
