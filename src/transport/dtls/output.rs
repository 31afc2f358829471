//! What sessions ask of their owner.

use std::collections::VecDeque;
use std::ops::Range;

use crate::turn::{ConnectionEnd, FiveTuple, HandshakeFailure};

/// What came of a datagram, a timer or a message; from [`DtlsSessions::poll`](super::DtlsSessions::poll).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsOutput<'s> {
    /// Send `bytes` to the client in one datagram.
    Send {
        /// From its server address to its client address.
        to: FiveTuple,
        /// The datagram.
        bytes: &'s [u8],
    },
    /// A client said something.
    Message {
        /// Who said it.
        from: FiveTuple,
        /// One STUN or ChannelData message, or what was meant to be one.
        bytes: &'s [u8],
    },
    /// A handshake is complete.
    Established(FiveTuple),
    /// A handshake failed. Another session of the same client, if there is one, goes on.
    Failed(FiveTuple, HandshakeFailure),
    /// Nothing was heard of a client for a while. It stays for another while, unless it is closed.
    Quiet(FiveTuple),
    /// A session that was established is over.
    Ended(FiveTuple, ConnectionEnd),
}

/// What waits to be polled; its memory is used again when nothing does.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    queue: VecDeque<Queued>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Queued {
    Send(FiveTuple, Range<usize>),
    Message(FiveTuple, Range<usize>),
    Bare(DtlsOutput<'static>),
}

impl Outputs {
    pub(super) fn send(&mut self, to: FiveTuple, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.queue
            .push_back(Queued::Send(to, start..self.bytes.len()));
    }

    pub(super) fn message(&mut self, from: FiveTuple, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.queue
            .push_back(Queued::Message(from, start..self.bytes.len()));
    }

    pub(super) fn push(&mut self, output: DtlsOutput<'static>) {
        self.queue.push_back(Queued::Bare(output));
    }

    /// Puts `output` before those from `place` on.
    pub(super) fn insert(&mut self, place: usize, output: DtlsOutput<'static>) {
        let place = place.min(self.queue.len());
        self.queue.insert(place, Queued::Bare(output));
    }

    /// Takes back the datagram at `place`; it can be read until something is put here.
    pub(super) fn take_datagram(&mut self, place: usize) -> Option<&[u8]> {
        match self.queue.remove(place)? {
            Queued::Send(_, range) => Some(&self.bytes[range]),
            other => {
                self.queue.insert(place, other);
                None
            }
        }
    }

    /// Forgets the bytes of what was polled, when nothing waits.
    pub(super) fn tidy(&mut self) {
        if self.queue.is_empty() {
            self.bytes.clear();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn pop(&mut self) -> Option<DtlsOutput<'_>> {
        Some(match self.queue.pop_front() {
            Some(Queued::Send(to, place)) => DtlsOutput::Send {
                to,
                bytes: &self.bytes[place],
            },
            Some(Queued::Message(from, place)) => DtlsOutput::Message {
                from,
                bytes: &self.bytes[place],
            },
            Some(Queued::Bare(output)) => output,
            None => {
                self.tidy();
                return None;
            }
        })
    }
}
