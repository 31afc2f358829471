//! The letters to a shard, from control and from other shards; the shard looks when its waker rings.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::StreamLimits;
use super::bell::Bell;
use super::rings::Reader;
use super::word::Word;
use crate::transport::{DtlsIdentity, TlsServer};
use crate::turn::{Letter, PeerConnectionId, Policy};

/// What a shard is told.
#[derive(Debug)]
pub(super) enum Message {
    SetPolicy(Arc<Policy>),
    SetDtlsIdentity(Option<Arc<DtlsIdentity>>),
    /// From the core of another shard.
    Letter(Letter),
    SetStreams(StreamLimits),
    /// By which packets come from another shard.
    Ring(Reader),
    SetTls(TlsServer),
    /// An allocation that this shard has a data connection of has ended.
    ClosePeer(PeerConnectionId),
    /// Publish the counters, and say in which pass.
    Publish(Sender<u32>),
    /// Another process takes over.
    Freeze(Word),
    Stop,
}

impl Message {
    pub(super) const fn is_freeze(&self) -> bool {
        matches!(self, Self::Freeze(_))
    }
}

/// The ways to the mailboxes of all shards of a process.
#[derive(Debug)]
pub struct Mail(Vec<Way>);

#[derive(Debug)]
struct Way {
    sender: Sender<Message>,
    bell: Arc<Bell>,
}

/// The mailbox of one shard.
#[derive(Debug)]
pub struct Mailbox {
    receiver: Receiver<Message>,
    pub(super) bell: Arc<Bell>,
}

impl Mail {
    /// The mailboxes of as many `shards`, in their order, and the ways to all of them.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open(shards: usize) -> io::Result<(Arc<Self>, Vec<Mailbox>)> {
        let mut ways = Vec::with_capacity(shards);
        let mut boxes = Vec::with_capacity(shards);
        for _ in 0..shards {
            let (sender, receiver) = mpsc::channel();
            let bell = Arc::new(Bell::new()?);
            ways.push(Way {
                sender,
                bell: Arc::clone(&bell),
            });
            boxes.push(Mailbox { receiver, bell });
        }
        Ok((Arc::new(Self(ways)), boxes))
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.0.len()
    }

    /// Gives `message` to a shard. One that has ended, or that there never was, hears nothing.
    pub(super) fn send(&self, shard: usize, message: Message) {
        if let Some(way) = self.0.get(shard) {
            // How a shard ended is told by `ShardHandle::join`.
            let _ = way.sender.send(message);
            way.bell.ring();
        }
    }

    /// Wakes a shard if it may be asleep, for what was put into its rings.
    pub(super) fn ring_if_resting(&self, shard: usize) {
        if let Some(way) = self.0.get(shard) {
            way.bell.ring_if_resting();
        }
    }
}

impl Mailbox {
    /// The next letter, if there is one.
    pub(super) fn next(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// The next letter, if there is one within `patience`; without, however late it comes.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Option<Message> {
        match patience {
            Some(patience) => self.receiver.recv_timeout(patience).ok(),
            None => self.receiver.recv().ok(),
        }
    }
}
