//! DTLS clients whose sessions stay in the process from which another one took over.
//!
//! Their records arrive where the listening sockets are now, in the new process, which passes on those that
//! belong to no session of its own. The old one answers from its copies of the sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::event_loop::Shard;
use super::token::Token;
use crate::net::{Interest, Span};
use crate::turn::FiveTuple;

/// Records that one pass takes.
const RECORDS: usize = 64;

impl Shard {
    /// Passes on a record that belongs to no session here; tells whether there is anybody to pass it to.
    pub(super) fn pass_back(&mut self, from: &FiveTuple, record: Span) -> bool {
        let Some(former) = &mut self.former.records else {
            return false;
        };
        match former.send(from, self.buffers.bytes(record)) {
            Ok(()) => true,
            // It has more to do than it can, and records may be lost.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(_) => {
                self.former.records = None;
                false
            }
        }
    }

    /// Takes the records of its sessions that arrived in the process that took over.
    pub(super) fn receive_passed(&mut self) {
        for _ in 0..RECORDS {
            self.make_room(1);
            let Some(successor) = &mut self.successor.records else {
                return;
            };
            let Some(room) = self.buffers.free_packets().next() else {
                return;
            };
            match successor.receive() {
                Ok((from, record)) => {
                    let length = record.len().min(room.len());
                    room[..length].copy_from_slice(&record[..length]);
                    let record = self.buffers.hold(0, 0..length, length);
                    self.receive_dtls(from, record);
                    self.buffers.take(1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    let records = self.successor.records.take();
                    return self.lose(records);
                }
            }
        }
    }

    /// Watches for what arrives in the process that took over.
    pub(super) fn watch_successor(&mut self) {
        let (poller, ends) = (&self.poller, &mut self.successor);
        let watch = |end: BorrowedFd<'_>, token: Token| {
            let watched = poller.add(end, token.to_bits(), Interest::Read);
            watched
                .inspect_err(|error| tracing::debug!(%error, "a passage is lost"))
                .is_err()
        };
        ends.records
            .take_if(|end| watch(end.as_fd(), Token::Successor));
        ends.binds
            .take_if(|end| watch(end.as_fd(), Token::Bindings));
    }

    /// Lets go of a way on which nothing comes any more.
    pub(super) fn lose(&self, way: Option<impl AsFd>) {
        if let Some(way) = way
            && let Err(error) = self.poller.remove(&way)
        {
            tracing::debug!(shard = self.index, %error, "cannot let go of a passage");
        }
    }
}
