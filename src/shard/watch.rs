//! What the poller is asked about one end of a pipe.

use std::io;
use std::os::fd::AsFd;

use super::pipe::Needs;
use super::token::Token;
use super::wire::Wire;
use crate::net::{Epoll, Interest};

/// What the poller was last told of one end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Watch {
    For(Interest),
    /// Whatever it was told, it is to be told anew.
    Unknown,
    /// It has told the last there is to tell, would go on telling it, and is asked no more.
    Gone,
}

impl Watch {
    pub(super) const fn is_gone(self) -> bool {
        matches!(self, Self::Gone)
    }

    /// The end is over in both directions, or broke.
    pub(super) fn end(&mut self, wire: &Wire, poller: &Epoll) {
        if !self.is_gone() {
            // What is not watched need not be removed.
            let _ = poller.remove(wire.as_fd());
            *self = Self::Gone;
        }
    }

    /// Asks the poller what the pipe `needs` of the end.
    ///
    /// # Errors
    /// The poller has no room.
    pub(super) fn set(
        &mut self,
        wire: &Wire,
        token: Token,
        needs: Needs,
        poller: &Epoll,
    ) -> io::Result<()> {
        let interest = interest(needs);
        match *self {
            Self::Gone => Ok(()),
            Self::For(known) if known == interest => Ok(()),
            Self::For(_) | Self::Unknown => {
                *self = Self::For(interest);
                poller.modify(wire.as_fd(), token.to_bits(), interest)
            }
        }
    }
}

const fn interest(needs: Needs) -> Interest {
    match (needs.read, needs.write) {
        (true, true) => Interest::ReadWrite,
        (true, false) => Interest::Read,
        (false, true) => Interest::Write,
        (false, false) => Interest::Nothing,
    }
}
