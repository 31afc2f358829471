//! A shard that takes the place of one in another process: it waits for the state, and then for the word
//! to serve.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::event_loop::Shard;
use super::ways::{Ends, Ways};
use crate::turn::{Handover, HandoverError, Imported};

/// How long a shard may take to read the state.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a shard waits for before it serves.
#[derive(Debug)]
pub struct Inheritance {
    handover: Receiver<Option<Handover>>,
    imported: Sender<Result<Imported, HandoverError>>,
    serve: Receiver<()>,
    ways: Ends,
}

/// The other end of an [`Inheritance`]. When it is dropped, the shard ends without having served.
#[derive(Debug)]
pub struct Bequest {
    handover: Sender<Option<Handover>>,
    imported: Receiver<Result<Imported, HandoverError>>,
    serve: Sender<()>,
}

impl Inheritance {
    /// What a shard waits for, and what gives it that. The `ways` lead to the clients that stay where they
    /// are.
    pub fn expect(ways: Ways) -> (Bequest, Self) {
        let (handover, to_read) = channel();
        let (read, imported) = channel();
        let (serve, served) = channel();
        let bequest = Bequest {
            handover,
            imported,
            serve,
        };
        let inheritance = Self {
            handover: to_read,
            imported: read,
            serve: served,
            ways: ways.into(),
        };
        (bequest, inheritance)
    }
}

impl Bequest {
    /// Gives the shard the state, whose sockets are held already; none when the other process has died with
    /// it.
    pub fn give(&self, handover: Option<Handover>) {
        // That it has ended shows when it is asked what it read.
        let _ = self.handover.send(handover);
    }

    /// What the shard took in of the state that it was given.
    ///
    /// # Errors
    /// The shard cannot use any of it, or has ended.
    pub fn imported(&self) -> io::Result<Imported> {
        let imported = self.imported.recv_timeout(PATIENCE);
        let imported = imported.map_err(|_| io::Error::other("a worker has ended at once"))?;
        imported.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Has the shard serve.
    pub fn serve(&self) {
        let _ = self.serve.send(());
    }
}

impl Shard {
    /// Takes the place of another shard; tells whether to serve.
    pub(super) fn inherit(&mut self, inheritance: Inheritance) -> bool {
        let Ok(handover) = inheritance.handover.recv() else {
            return false;
        };
        self.now = self.clock.now();
        let imported = handover.map_or_else(
            || Ok(Imported::default()),
            |handover| self.server.import(self.now, &handover),
        );
        self.drain();
        self.finish_pass();
        self.former = inheritance.ways;
        if self.former.binds.is_none() {
            self.server.forget_formers();
        }
        let _ = inheritance.imported.send(imported);
        inheritance.serve.recv().is_ok()
    }
}
