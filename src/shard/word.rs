//! What a shard is told while another process takes over.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::Sender;

use super::ways::Ways;
use crate::turn::Handover;

/// Takes the state of a shard with the sockets that go with it, in the order of
/// [`Handover::sockets`]. Called on the shard's thread, which may wait while it is frozen.
pub type Give = Box<dyn FnOnce(&Handover, &[BorrowedFd<'_>]) -> io::Result<()> + Send>;

/// What a shard lends to the one that takes its place.
#[derive(Debug)]
pub struct Lent {
    /// Copies of its listening sockets.
    pub listeners: Vec<OwnedFd>,
    /// To the clients that stay.
    pub ways: Ways,
}

/// What a shard is told in the course of it.
pub(super) enum Word {
    /// Lend copies of the listening sockets.
    Lend(Sender<io::Result<Lent>>),
    /// Read no socket, and tell how many letters were read since the last time.
    Settle(Sender<usize>),
    /// Give the state away; tells how many allocations went.
    Export(Give, Sender<io::Result<usize>>),
    /// Go on as if nothing had been.
    Resume,
    /// Stay frozen, however long nothing is said; tells whether the state still is given away.
    Hold(Sender<bool>),
    /// Forget what was given away, and let go of the listening sockets; tells how many allocations are
    /// left. Refused when nothing is given away: the shard serves its clients itself.
    Release(Sender<Option<usize>>),
    /// The process that took over has ended.
    Bereave,
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lend(_) => "Lend",
            Self::Settle(_) => "Settle",
            Self::Export(..) => "Export",
            Self::Resume => "Resume",
            Self::Hold(_) => "Hold",
            Self::Release(_) => "Release",
            Self::Bereave => "Bereave",
        })
    }
}
